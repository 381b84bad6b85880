// SPDX-License-Identifier: Apache-2.0

internal import CMilepostProbe
internal import MilepostModel
internal import MilepostPluginHost

/// Checks 13 to 21: loading and the life of an instance. Most drive the bare C table.
enum LifecycleChecks {
    static let all = [
        Check(
            number: 13, title: "loads quickly and quietly",
            proves:
                "constructors, entry and describe take under 100 ms of CPU, start no thread, open no file or socket",
            cure: "Do nothing in constructors; start threads and tables in create.", level: 2,
            run: { subject in
                unsafe Probes.outcome { unsafe mp_probe_constructors(subject.libraryPath, $0, $1) }
            }),
        Check(
            number: 14, title: "meets older and newer hosts",
            proves: "the entry accepts a host with a higher minor and refuses a too old one with MP_UNSUPPORTED",
            cure: "Compare info->abi_minor with your min_host_minor only, and with <.", level: 3,
            run: { subject in unsafe Probes.outcome { unsafe mp_probe_minors(subject.libraryPath, $0, $1) } }),
        Check(
            number: 15, title: "reads tables by their size",
            proves: "works with a host table of the 1.0 size at the end of readable memory, and with a longer one",
            cure: "Never copy sizeof(mp_host): read the fields you use, and those past 1.0 only after struct_size.",
            level: 3,
            run: { subject in
                try unsafe withConfiguration(subject) { config, text, capacity in
                    unsafe mp_probe_tables(subject.libraryPath, config, text, capacity)
                }
            }),
        Check(
            number: 16, title: "knows the extensions it knows",
            proves: "get_extension answers unknown ids, and known ones with text behind them, with null",
            cure: "Compare the whole id, with its length.", level: 3,
            run: { subject in
                try unsafe withConfiguration(subject) { config, text, capacity in
                    unsafe mp_probe_extensions(subject.libraryPath, config, text, capacity)
                }
            }),
        Check(
            number: 17, title: "entry may be called again",
            proves: "further calls, from two threads at once, give the same table unchanged",
            cure: "Return the address of a const table.", level: 3,
            run: { subject in unsafe Probes.outcome { unsafe mp_probe_entry(subject.libraryPath, $0, $1) } }),
        Check(
            number: 18, title: "a thousand instances leave nothing behind",
            proves: "heap, descriptors and threads do not grow over 1,000 rounds of create, ping, shutdown, destroy",
            cure: "Free in destroy what create made; run it under a leak checker.", level: 4,
            run: { subject in
                try unsafe withConfiguration(subject) { config, text, capacity in
                    unsafe mp_probe_lifecycle(subject.libraryPath, config, 1000, text, capacity)
                }
            }),
        Check(
            number: 19, title: "instances share nothing",
            proves: "two instances with different endpoints each keep to their own",
            cure: "Keep state in what create returns, not in globals.", level: 4, run: { try await apart($0) }),
        Check(
            number: 20, title: "shutdown ends what runs",
            proves: "shutdown with deliveries in flight completes in time, and so do the deliveries",
            cure:
                "In shutdown complete every open operation (MP_UNCERTAIN after a request left), then shutdown itself.",
            level: 5, run: { try await shutdownInFlight($0) }),
        Check(
            number: 21, title: "silent after destroy",
            proves: "no host function is called after destroy has returned",
            cure: "Join your threads and clear your timers before you complete shutdown.", level: 4,
            run: { subject in
                try unsafe withConfiguration(subject) { config, text, capacity in
                    unsafe mp_probe_afterwards(subject.libraryPath, config, text, capacity)
                }
            }),
    ]

    private static func withConfiguration(
        _ subject: Subject, _ probe: (UnsafePointer<CChar>, UnsafeMutablePointer<CChar>, Int) -> Int32
    ) throws -> Outcome {
        let config = subject.configuration(try subject.manifest()).description
        return unsafe config.withCString { pointer in
            unsafe Probes.outcome { unsafe probe(pointer, $0, $1) }
        }
    }

    private static func apart(_ subject: Subject) async throws -> Outcome {
        let bench = try Bench(subject, .inline)
        let names = Array((bench.manifest["endpoints"]?.object ?? [:]).keys)
        guard !names.isEmpty else { throw inapplicable("the manifest has no endpoint that could differ") }
        let hosts = ["first", "second"].map { word in
            Dictionary(uniqueKeysWithValues: names.map { ($0, "https://\(word).example.com") })
        }
        let first = try await bench.instance(connection: "con_1", endpoints: hosts[0])
        let second = try await bench.instance(connection: "con_2", endpoints: hosts[1])
        try await DeliveryChecks.expectDelivers(bench)
        for (index, instance) in [first, second, first].enumerated() {
            bench.vendor.change { $0.calls = [] }
            let courier = try Courier(bench, instance)
            var parcels = courier.parcels(1, prefix: "round\(index)")
            let result = await courier.deliver(&parcels)
            if result.status == .deadline {
                return .failed("deliver is not completed within its deadline and the grace: \(result.shown)")
            }
            let wanted = index == 1 ? "second.example.com" : "first.example.com"
            let strays = bench.vendor.read { $0.calls.map(\.url) }.filter { HostPattern.host(of: $0) != wanted }
            if let stray = strays.first {
                return .failed("the instance whose endpoint is \(wanted) asked for \(stray)")
            }
        }
        await bench.close()
        return .passed("")
    }

    private static func shutdownInFlight(_ subject: Subject) async throws -> Outcome {
        // The budget is the daemon's, because a plugin may use it; the host's patience after it is longer, so that a busy
        // machine does not decide.
        let bench = try Bench(subject, .worker) { $0.grace = .seconds(20) }
        let instance = try await bench.instance()
        try await DeliveryChecks.expectDelivers(bench)
        let courier = try Courier(bench, instance)
        bench.vendor.change { $0.plan = FaultPlan(target: .all, fault: .hang) }
        let parcels = courier.parcels(1)
        let ended = LastResult()
        let running = Task { ended.set(await courier.call(.deliver, parcels, timeout: .seconds(60))) }
        var starting = Patience(.seconds(20), bench)
        _ = try await starting.wait(bench) { ended.value != nil || bench.vendor.read { !$0.calls.isEmpty } }
        guard bench.vendor.read({ !$0.calls.isEmpty }) else { throw skip("deliver sends no request that could hang") }
        let closed = LastResult()
        Task {
            await instance.close()
            closed.set(OperationResult(status: .ok))
        }
        var patience = Patience(.seconds(5), bench)
        guard try await patience.wait(bench, until: { closed.value != nil }) else {
            return .failed("shutdown with a request in flight was not completed within five seconds")
        }
        let spent = patience.spentNanoseconds / 1_000_000
        await running.value
        guard let left = ended.value else { return .failed("a delivery in flight never ended") }
        switch left.json?["code"]?.string {
        case "plugin_closed": return .failed("shutdown was completed while a delivery was still open and stayed so")
        case "plugin_crashed": return .failed("it crashed at shutdown: \(left.shown)")
        default: break
        }
        await bench.close()
        return .passed("\(spent) ms")
    }
}
