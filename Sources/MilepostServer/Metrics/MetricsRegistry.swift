// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Counters, gauges and histograms, rendered as Prometheus text. Any thread; a call costs one lock and one look-up.
///
/// Series are bounded: past `maximumSeries` of one metric new label values are counted in one series labelled `other`,
/// so that hostile paths or names cannot fill the memory.
public final class MetricsRegistry: Sendable {
    enum Kind: String { case counter, gauge, histogram }

    struct Definition {
        var name: String
        var kind: Kind
        var help: String
        var buckets: [Double] = []
    }

    private struct Histogram {
        var counts: [Int]
        var sum = 0.0
        var count = 0
    }

    /// One series of a counter, for callers that count often: adding costs one atomic operation.
    final class Counter: Sendable {
        private let total = Atomic<Int>(0)
        func add(_ amount: Int) { total.add(amount, ordering: .relaxed) }
        var value: Int { total.load(ordering: .relaxed) }
    }

    private struct State {
        var counters: [String: [String: Counter]] = [:]
        var values: [String: [String: Double]] = [:]
        var histograms: [String: [String: Histogram]] = [:]
    }

    private let state = Mutex(State())

    package static let maximumSeries = 2000

    public init() {}

    /// Every metric of the daemon, for the documentation and the renderer.
    static let definitions: [Definition] = [
        .init(name: "milepost_events_total", kind: .counter, help: "Click events by result."),
        .init(name: "milepost_http_requests_total", kind: .counter, help: "REST requests by route and status."),
        .init(
            name: "milepost_tick_duration_seconds", kind: .histogram, help: "Duration of threshold ticks.",
            buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300]),
        .init(name: "milepost_ticks_total", kind: .counter, help: "Threshold ticks by result."),
        .init(name: "milepost_deliveries_total", kind: .counter, help: "Settled attempts by the state they led to."),
        .init(name: "milepost_delivery_attempts_total", kind: .counter, help: "Attempts by verb and verdict."),
        .init(name: "milepost_queue_depth", kind: .gauge, help: "Unfinished and dead deliveries by state."),
        .init(name: "milepost_queue_oldest_age_seconds", kind: .gauge, help: "Age of the oldest unfinished delivery."),
        .init(name: "milepost_dead_letters", kind: .gauge, help: "Deliveries given up."),
        .init(name: "milepost_connection_state", kind: .gauge, help: "1 for the state a connection is in."),
        .init(
            name: "milepost_endpoint_failing_seconds", kind: .gauge,
            help: "For how long the deliveries of a connection have failed without one success; 0 while they do not."),
        .init(
            name: "milepost_endpoint_disabled", kind: .gauge,
            help: "1 while a connection is disabled because its endpoint failed for too long or is gone."),
        .init(
            name: "milepost_egress_limiter_waits_total", kind: .counter,
            help: "Requests that waited for a vendor's budget."),
        .init(
            name: "milepost_egress_limiter_wait_milliseconds_total", kind: .counter,
            help: "Milliseconds that requests waited for a vendor's budget."),
        .init(name: "milepost_schedule_overdue", kind: .gauge, help: "1 when no tick ran within its interval."),
        .init(name: "milepost_plugin_state", kind: .gauge, help: "1 for the state a plugin is in."),
        .init(
            name: "milepost_stream_clicks_total", kind: .counter,
            help: "Clicks of destinations that take every click, by action and outcome."),
        .init(
            name: "milepost_stream_lag_seconds", kind: .histogram, help: "From a click's receipt to its delivery.",
            buckets: [0.01, 0.05, 0.25, 1, 5, 30, 120, 600, 3600]),
        .init(
            name: "milepost_held_clicks", kind: .gauge,
            help: "Clicks held for their identity now, and those released and expired so far."),
        .init(
            name: "milepost_rule_clicks", kind: .gauge,
            help: "Clicks that a rolling rule has looked at so far, by what became of them."),
        .init(
            name: "milepost_rule_crossings_total", kind: .counter,
            help: "Contacts who reached a rolling rule's threshold, by what came of it."),
        .init(name: "milepost_plugin_up", kind: .gauge, help: "1 while the plugin is loaded."),
        .init(name: "milepost_plugin_restarts_total", kind: .gauge, help: "Worker restarts since the daemon started."),
        .init(
            name: "milepost_plugin_events_total", kind: .counter,
            help: "Refusals, crashes, hangs and other plugin events."),
        .init(
            name: "milepost_warnings_total", kind: .counter,
            help: "Delivery warnings by code, e.g. a missing custom field."),
        .init(
            name: "milepost_refresh_attempts_total", kind: .counter, help: "Token refreshes by plugin and result."),
        .init(
            name: "milepost_workspace_refresh_attempts_total", kind: .counter,
            help: "Token refreshes by workspace, plugin and result."),
        .init(
            name: "milepost_intercepts_total", kind: .counter,
            help: "What hooks said before deliveries left, by judged integration, hook, verdict and effect."),
        .init(
            name: "milepost_intercept_duration_seconds", kind: .histogram, help: "How long hooks took to judge.",
            buckets: [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30]),
        .init(name: "milepost_store_writable", kind: .gauge, help: "1 while the store takes writes."),
        .init(name: "milepost_store_bytes", kind: .gauge, help: "Size of the database file."),
        .init(name: "milepost_store_free_disk_bytes", kind: .gauge, help: "Free space where the database lies."),
    ]

    private static let byName = Dictionary(definitions.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })

    package func add(_ name: String, _ amount: Int, _ labels: [String: String]) {
        guard amount != 0 else { return }
        counter(name, labels).add(amount)
    }

    /// The counter of a series, made when first asked for.
    func counter(_ name: String, _ labels: [String: String]) -> Counter {
        state.withLock { state in
            let key = Self.series(labels, in: state.counters[name])
            if let existing = state.counters[name]?[key] { return existing }
            let made = Counter()
            state.counters[name, default: [:]][key] = made
            return made
        }
    }

    package func set(_ name: String, _ value: Double, _ labels: [String: String]) {
        state.withLock { state in
            let key = Self.series(labels, in: state.values[name])
            state.values[name, default: [:]][key] = value
        }
    }

    /// Forgets a gauge's series, before those that there are now are set anew.
    package func clear(_ name: String) { state.withLock { $0.values[name] = nil } }

    package func observe(_ name: String, _ value: Double, _ labels: [String: String] = [:]) {
        guard let definition = Self.byName[name] else { return }
        state.withLock { state in
            let key = Self.series(labels, in: state.histograms[name])
            var histogram =
                state.histograms[name]?[key] ?? Histogram(counts: Array(repeating: 0, count: definition.buckets.count))
            for (index, bound) in definition.buckets.enumerated() where value <= bound { histogram.counts[index] += 1 }
            histogram.sum += value
            histogram.count += 1
            state.histograms[name, default: [:]][key] = histogram
        }
    }

    /// Prometheus text format 0.0.4, metrics and series in stable order.
    package func rendered() -> String {
        let snapshot = state.withLock { state in
            (
                state.values.merging(state.counters.mapValues { $0.mapValues { Double($0.value) } }) { gauges, _ in
                    gauges
                },
                state.histograms
            )
        }
        var text = ""
        for definition in Self.definitions + Self.perPlugin(snapshot.0.keys) {
            text +=
                "# HELP \(definition.name) \(definition.help)\n# TYPE \(definition.name) \(definition.kind.rawValue)\n"
            for (labels, value) in (snapshot.0[definition.name] ?? [:]).sorted(by: { $0.key < $1.key }) {
                text += "\(definition.name)\(Self.braced(labels)) \(Self.number(value))\n"
            }
            for (labels, histogram) in (snapshot.1[definition.name] ?? [:]).sorted(by: { $0.key < $1.key }) {
                for (bound, count) in zip(definition.buckets, histogram.counts) {
                    text += "\(definition.name)_bucket\(Self.braced(labels, "le=\"\(Self.number(bound))\"")) \(count)\n"
                }
                text += "\(definition.name)_bucket\(Self.braced(labels, "le=\"+Inf\"")) \(histogram.count)\n"
                text += "\(definition.name)_sum\(Self.braced(labels)) \(Self.number(histogram.sum))\n"
                text += "\(definition.name)_count\(Self.braced(labels)) \(histogram.count)\n"
            }
        }
        return text
    }

    private static let perPluginEnding = "_refresh_attempts_total"

    /// A plugin's own counter, named after it as dashboards of its vendor expect (OBS-01).
    static func refreshAttempts(of plugin: String) -> String {
        let name = plugin.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "_" }
        return String(name) + perPluginEnding
    }

    private static func perPlugin(_ names: some Sequence<String>) -> [Definition] {
        names.filter { $0.hasSuffix(perPluginEnding) && byName[$0] == nil }.sorted().map {
            Definition(name: $0, kind: .counter, help: "Token refreshes of this plugin by result.")
        }
    }

    private static func series(_ labels: [String: String], in existing: [String: some Any]?) -> String {
        let key = labels.sorted { $0.key < $1.key }.map { "\($0.key)=\"\(escaped($0.value))\"" }.joined(separator: ",")
        guard let existing, existing[key] == nil, existing.count >= maximumSeries else { return key }
        return labels.keys.sorted().map { "\($0)=\"other\"" }.joined(separator: ",")
    }

    /// Byte by byte: as characters a quote or a line break may be one with its neighbour, and would pass.
    private static func escaped(_ text: String) -> String {
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\n"): bytes += Array("\\n".utf8)
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
            default: bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func braced(_ labels: String, _ more: String = "") -> String {
        let all = [labels, more].filter { !$0.isEmpty }.joined(separator: ",")
        return all.isEmpty ? "" : "{\(all)}"
    }

    private static func number(_ value: Double) -> String {
        value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : String(value)
    }
}
