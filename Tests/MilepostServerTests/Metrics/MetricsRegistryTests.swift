// SPDX-License-Identifier: Apache-2.0

import MilepostServer
import Testing

@Suite("metrics")
struct MetricsRegistryTests {
    private func lines(_ registry: MetricsRegistry, _ name: String) -> [String] {
        registry.rendered().split(separator: "\n").map(String.init).filter { $0.hasPrefix(name) }
    }

    @Test("OBS-07: every metric has a help and a type line, and values keep their labels in order")
    func rendering() {
        let registry = MetricsRegistry()
        registry.add("milepost_events_total", 2, ["result": "accepted"])
        registry.add("milepost_events_total", 3, ["result": "accepted"])
        registry.set("milepost_queue_depth", 1.5, ["state": "held", "integration": "a\"b\\c\nd"])
        #expect(lines(registry, "milepost_events_total") == ["milepost_events_total{result=\"accepted\"} 5"])
        #expect(
            lines(registry, "milepost_queue_depth")
                == ["milepost_queue_depth{integration=\"a\\\"b\\\\c\\nd\",state=\"held\"} 1.5"])
        let text = registry.rendered().split(separator: "\n")
        let helps = text.filter { $0.hasPrefix("# HELP ") }.map { $0.split(separator: " ")[2] }
        let types = text.filter { $0.hasPrefix("# TYPE ") }.map { $0.split(separator: " ")[2] }
        #expect(helps == types && Set(helps).count == helps.count)
        #expect(text.filter { !$0.hasPrefix("#") }.allSatisfy { line in helps.contains { line.hasPrefix($0) } })
    }

    @Test("a quote or a line break in a label is escaped, also where it is one character with its neighbour")
    func escaping() {
        let registry = MetricsRegistry()
        registry.set("milepost_queue_depth", 1, ["state": "a\r\nb\u{600}\"c"])
        #expect(lines(registry, "milepost_queue_depth") == ["milepost_queue_depth{state=\"a\r\\nb\u{600}\\\"c\"} 1"])
    }

    @Test("a histogram's buckets are cumulative and end with all")
    func histogram() {
        let registry = MetricsRegistry()
        for value in [0.0005, 0.003, 1000] { registry.observe("milepost_tick_duration_seconds", value) }
        let found = lines(registry, "milepost_tick_duration_seconds")
        #expect(found.first == "milepost_tick_duration_seconds_bucket{le=\"0.001\"} 1")
        #expect(found.contains("milepost_tick_duration_seconds_bucket{le=\"0.005\"} 2"))
        #expect(found.contains("milepost_tick_duration_seconds_bucket{le=\"300\"} 2"))
        #expect(found.contains("milepost_tick_duration_seconds_bucket{le=\"+Inf\"} 3"))
        #expect(found.last == "milepost_tick_duration_seconds_count 3")
    }

    @Test("labels without end share one series in the end, and nothing is lost of the sum")
    func cap() {
        let registry = MetricsRegistry()
        let extra = 50
        for index in 0..<MetricsRegistry.maximumSeries + extra {
            registry.add("milepost_warnings_total", 1, ["integration": "i", "code": "c\(index)"])
        }
        let found = lines(registry, "milepost_warnings_total")
        #expect(found.count == MetricsRegistry.maximumSeries + 1)
        #expect(found.contains("milepost_warnings_total{code=\"other\",integration=\"other\"} \(extra)"))
    }
}
