// SPDX-License-Identifier: Apache-2.0

import MilepostConfiguration
import Testing

/// One wrong text and the exact words that answer it.
struct WrongText: Sendable, CustomTestStringConvertible {
    var yaml: String
    var message: String
    var testDescription: String { message }

    init(_ yaml: String, _ message: String) {
        self.yaml = yaml
        self.message = message
    }
}

@Suite("configuration errors")
struct ErrorTests {
    static let table: [WrongText] = [
        WrongText("lisen: 127.0.0.1:1", "f:1: unknown key 'lisen'; did you mean 'listen'?"),
        WrongText(
            "schedule:\n  treshold_interval: 5m",
            "f:2: unknown key 'treshold_interval' in 'schedule'; did you mean 'threshold_interval'?"),
        WrongText(
            "schedule:\n\n  threshold_interval: soon",
            "f:3: schedule.threshold_interval: expected a duration such as 30s, 5m or 1h30m, from 1s to 24h, found 'soon'"
        ),
        WrongText(
            "schedule: { threshold_interval: 300 }",
            "f:1: schedule.threshold_interval: expected a duration such as 30s, 5m or 1h30m, from 1s to 24h, found '300'"
        ),
        WrongText("schedule: 5m", "f:1: schedule: expected a map, found '5m'"),
        WrongText("data_dir: relative/path", "f:1: data_dir: expected an absolute path, found 'relative/path'"),
        WrongText(
            "analytics_url: https://a.example/{slug}",
            "f:1: analytics_url: expected a URL that begins with https:// or http://, with {workspace}, {scope}, {link} or "
                + "{folder} to fill in, found 'https://a.example/{slug}'"),
        WrongText(
            "listen: 8787", "f:1: listen: expected host:port, or a list of such, found '8787'"),
        WrongText("metrics: {public: 'true'}", "f:1: metrics.public: expected true or false, found 'true'"),
        WrongText("log: {level: loud}", "f:1: log.level: expected error, warning, info, debug or trace, found 'loud'"),
        WrongText("kms: {type: aws}", "f:1: kms.type: expected 'file', found 'aws'"),
        WrongText(
            "intake:\n  max_body: 2GB",
            "f:2: intake.max_body: expected a size such as 64KiB or 32MiB, from 1KiB to 1GiB, found '2GB'"),
        WrongText("listen: a:1\nlisten: b:2", "f:2: key 'listen' stands here twice"),
        WrongText("listen: a:1\n\"listen\": b:2", "f:2: key 'listen' stands here twice"),
        WrongText(
            "plugins:\n  hubspot:\n    enabled: true\n    isolation: inline\n    enabled: false",
            "f:5: key 'enabled' stands here twice"),
        WrongText("listen: a:1\n---\nlisten: b:2", "f:2: is not YAML: but found another document"),
        WrongText("? [a]\n: b", "f:1: a key must be a plain word"),
        WrongText("listen: [a:1", "f:2: is not YAML: did not find expected ',' or ']'"),
        WrongText("listen: \u{1}", "f: is not YAML: control characters are not allowed"),
        WrongText("- a\n- b", "f:1: the file: expected a map, found a list"),
        WrongText(
            "listen: &a x:1\ndata_dir: *a",
            "f:1: anchors (&) and aliases (*) are not accepted; write the value out, or quote the text"),
        WrongText(
            "plugins:\n  pipedrive:\n    enabeld: true",
            "f:3: unknown key 'enabeld' in 'plugins.pipedrive'; did you mean 'enabled'?"),
        WrongText(
            "plugins:\n  Pipe Drive: {}",
            "f:2: plugins: 'Pipe Drive' is not a name: up to 64 lower-case letters, digits, '-' and '_'"),
        WrongText(
            "plugins:\n  hubspot:\n    endpoints: {api: ftp://x}",
            "f:3: plugins.hubspot.endpoints.api: expected a URL that begins with https:// or http://, found 'ftp://x'"),
        WrongText(
            "retention:\n  clicks_days: 120",
            "f: retention.dedupe_days: 90 is less than retention.clicks_days 120; a repeated click would count twice"),
        WrongText(
            "kms:\n  path: /var/lib/milepost/kek",
            "f:2: kms.path: /var/lib/milepost/kek lies inside data_dir, so that a backup would hold the key beside what it locks"
        ),
        WrongText(
            "schedule:\n  window: 1m", "f:2: unknown key 'window' in 'schedule'; it takes threshold_interval"),
        WrongText(
            "delivery: {operation_timeout: 10s}",
            "f:1: delivery.operation_timeout: 10s is shorter than delivery.request_timeout 30s"),
    ]

    @Test("a wrong configuration is answered with file, line, and what would be right", arguments: table)
    func message(_ wrong: WrongText) throws {
        let error = try #require(throws: ConfigurationError.self) { try Configuration.parse(wrong.yaml, file: "f") }
        #expect(error.description == wrong.message)
    }

    @Test("all errors are reported together")
    func together() throws {
        let yaml = "lisen: a:1\nlog: {levle: info}\nsandbox: maybe\nplans: {free: {fires: 3}}"
        let error = try #require(throws: ConfigurationError.self) { try Configuration.parse(yaml, file: "f") }
        #expect(error.issues.map(\.line) == [1, 2, 3, 4])
        #expect(error.issues.map(\.code) == [.unknownKey, .unknownKey, .wrongType, .wrongType])
    }

    @Test("a quote doubled within single quotes does not end them")
    func doubledQuotes() throws {
        #expect(try Configuration.parse("worker_path: '/opt/it''s: *b'").workerPath == "/opt/it's: *b")
        #expect(throws: ConfigurationError.self) { try Configuration.parse("worker_path: ''\nlisten: *b") }
    }

    @Test("deep nesting and alias bombs end quickly and with an error")
    func bombs() {
        let laughs = "a: &a [x,x]\n" + (0..<40).map { "b\($0): &b\($0) [*a,*a,*a]\n" }.joined()
        for yaml in [
            laughs, String(repeating: "[", count: 100_000), "a: " + String(repeating: "{a: ", count: 5000),
            String(repeating: "- ", count: 100_000), String(repeating: "? ", count: 5000),
            (0..<2000).map { String(repeating: " ", count: $0) + "a:\n" }.joined(),
        ] {
            #expect(throws: ConfigurationError.self) { try Configuration.parse(yaml) }
        }
    }

    @Test("no bytes crash the reader", arguments: [1, 2, 3, 4] as [UInt64])
    func fuzz(seed: UInt64) {
        var random = SplitMix(state: seed)
        let pieces = [
            "listen", "plugins", "schedule", ":", ": ", "- ", "\n", "\n  ", "[", "]", "{", "}", ",", "'", "\"", "&a",
            "*a", "|",
            ">", "#", "?", "!!str", "%YAML", "---", "...", "\t", "5m", "\u{0}", "\u{feff}", "ü", "\\", "null", "level",
        ]
        for _ in 0..<1500 {
            var text = ""
            for _ in 0..<Int(random.next() % 40) { text += pieces[Int(random.next() % UInt64(pieces.count))] }
            // Either answer is right; only a crash or a hang would be wrong.
            _ = try? Configuration.parse(text)
        }
        let reference = Array(Configuration.reference().utf8)
        for _ in 0..<60 {
            var bytes = reference
            for _ in 0..<4 {
                bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
            }
            _ = try? Configuration.parse(String(decoding: bytes, as: UTF8.self))
        }
    }
}

/// A small seeded generator, so that a failing seed can be run again.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
