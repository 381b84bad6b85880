// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel
internal import MilepostPluginHost

/// Checks 22 and 23: settings, right, wrong and hostile.
enum ConfigurationChecks {
    static let all = [
        Check(
            number: 22, title: "names the setting that is wrong",
            proves: "configure takes good settings, answers empty ones, and names each wrong one by its JSON pointer",
            cure: "Answer {\"errors\":[{\"pointer\":\"/name\",\"code\":…,\"message\":…}],\"warnings\":[]}.", level: 3,
            run: { try await settings($0) }),
        Check(
            number: 23, title: "survives hostile settings",
            proves:
                "200 mutations of a configuration (depth, size, escapes, numbers, broken JSON) crash and hang nothing",
            cure: "Bound depth and size in your JSON reader, and free what a refused create made.", level: 5,
            run: { try await fuzz($0) }),
    ]

    private static func settings(_ subject: Subject) async throws -> Outcome {
        let bench = try Bench(subject, .inline)
        let instance = try await bench.instance()
        guard try await bench.load().supports(.configure) else { throw inapplicable("it has no configure") }
        let good = subject.settings(bench.manifest)
        let accepted = await instance.ask(.configure, ["settings": good])
        try accepted.expectFits("configure.result.json", "configure with good settings")
        let errors = accepted.json?["errors"]?.array ?? []
        if accepted.status != .ok {
            let sentence = "good settings are answered with \(accepted.shown)"
            if subject.script.isGiven { return .failed(sentence) }
            throw skip("\(sentence); give a vendor's script")
        }
        if let error = errors.first {
            let sentence = "good settings are refused at \(error["pointer"] ?? "?"): \(error["message"] ?? "?")"
            if subject.script.isGiven || subject.script.settings != nil { return .failed(sentence) }
            throw skip("\(sentence); give a vendor's script with settings that work")
        }
        let empty = await instance.ask(.configure, ["settings": [:]])
        try empty.expectFits("configure.result.json", "configure with no settings")
        var named = 0
        let properties = bench.manifest["config_schema"]?["properties"]?.object ?? [:]
        for (name, property) in properties.sorted(by: { $0.key < $1.key }) {
            var members = good.object ?? [:]
            members[name] = SampleSetting.wrong(property)
            let result = await instance.ask(.configure, ["settings": .object(members)])
            try result.expectFits("configure.result.json", "configure with a wrong \(name)")
            var pointers = (result.json?["errors"]?.array ?? []).compactMap { $0["pointer"]?.string }
            if let pointer = result.json?["pointer"]?.string { pointers.append(pointer) }
            guard pointers.contains(where: { $0 == "/\(name)" || $0.hasPrefix("/\(name)/") }) else {
                return .failed(
                    "\(name) = \(SampleSetting.wrong(property)) is a \(JSONSchema.kind(SampleSetting.wrong(property))) and "
                        + "not \(property["type"] ?? "?"), and no error names /\(name)")
            }
            named += 1
        }
        await bench.close()
        return .passed("\(named) settings")
    }

    private static func fuzz(_ subject: Subject) async throws -> Outcome {
        let bench = try Bench(subject, .inline)
        let plugin = try await bench.load()
        let base = bench.configuration()
        var random = SeededRandom(seed: subject.seed)
        let instance = try await bench.instance(connection: "con_steady")
        for round in 0..<200 {
            let config = Mutation.of(base, random: &random)
            // A refusal is an answer.
            if let made = try? await plugin.makeInstance(connection: ConnectionID("con_\(round)"), config: config) {
                let ping = await made.ask(.ping, timeout: .seconds(5))
                if ping.status != .ok { return .failed("after configuration \(round) ping ends with \(ping.shown)") }
                await made.close()
            }
            guard plugin.supports(.configure) else { continue }
            let body = Mutation.of(["settings": base["settings"] ?? .null], random: &random)
            let result = await instance.perform(.configure, body: body, timeout: .seconds(5))
            if result.status == .deadline { return .failed("configure hangs on mutation \(round)") }
            try result.expectFits("configure.result.json", "configure with mutation \(round)")
        }
        try bench.expectNoMisbehaviour()
        await bench.close()
        return .passed("seed \(subject.seed)")
    }
}

/// SplitMix64: the same seed, the same run, on every machine.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}

/// Hostile texts made from a good one.
enum Mutation {
    static func of(_ value: JSONValue, random: inout SeededRandom) -> [UInt8] {
        switch Int.random(in: 0..<10, using: &random) {
        case 0: return replaceOne(value, with: deep(Int.random(in: 1...200, using: &random)), &random).bytes
        case 1: return replaceOne(value, with: .string(String(repeating: "é\u{202e}", count: 20_000)), &random).bytes
        case 2: return inserting(#""\ud800\udc00\ud800 \u0000 \q""#, value, &random)
        case 3: return inserting("1e999999", value, &random)
        case 4: return inserting("-123456789012345678901234567890", value, &random)
        case 5: return Array(value.bytes.prefix(Int.random(in: 0..<max(1, value.bytes.count), using: &random)))
        case 6:
            var bytes = value.bytes
            for _ in 0..<4 where !bytes.isEmpty {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            return bytes
        case 7: return replaceOne(value, with: .null, &random).bytes
        case 8: return replaceOne(value, with: .array(Array(repeating: .integer(1), count: 5000)), &random).bytes
        default: return inserting("\"\u{7f}\u{fffd}\u{1f600}\"", value, &random)
        }
    }

    private static func deep(_ depth: Int) -> JSONValue {
        (0..<depth).reduce(JSONValue.integer(1)) { inner, level in level % 2 == 0 ? [inner] : ["deep": inner] }
    }

    /// Puts a value in the place of a random member, at the top or below `settings`.
    private static func replaceOne(_ value: JSONValue, with other: JSONValue, _ random: inout SeededRandom) -> JSONValue
    {
        guard case .object(var members) = value, !members.isEmpty else { return other }
        let names = members.keys.sorted()
        let name = names[Int.random(in: names.indices, using: &random)]
        if name == "settings", let inner = members[name], case .object(let settings) = inner, !settings.isEmpty {
            members[name] = replaceOne(inner, with: other, &random)
        } else {
            members[name] = other
        }
        return .object(members)
    }

    /// Text that no JSON writer of ours makes, in the place of a random member.
    private static func inserting(_ text: String, _ value: JSONValue, _ random: inout SeededRandom) -> [UInt8] {
        let mark = "mark-\(random.next())"
        let written = replaceOne(value, with: .string(mark), &random).description
        return Array(written.replacing("\"\(mark)\"", with: text).utf8)
    }
}
