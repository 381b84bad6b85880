// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostSandbox
import Testing

/// The cases of `specs/standard-webhooks`.
private struct Vectors: Decodable {
    struct Sign: Decodable, CustomTestStringConvertible {
        var name: String
        var secret: String?
        var private_key: String?
        var public_key: String?
        var msg_id: String
        var timestamp: Int64
        var payload: String
        var signature: String
        /// What a receiver holds.
        var keys: [String] { [secret, public_key, private_key].compactMap(\.self) }
        var testDescription: String { name }
    }
    struct Verify: Decodable, CustomTestStringConvertible {
        var name: String
        var now: Int64
        var headers: [String: String]
        var ok: Bool
        var payload: String
        var secret: String
        var testDescription: String { name }
    }
    var sign: [Sign]
    var verify: [Verify]
    var invalid_secrets: [String]

    static let shared: Vectors = {
        let beside = URL(filePath: #filePath).appending(path: "../../../../shared").standardizedFileURL.path
        let folder = ProcessInfo.processInfo.environment["MILEPOST_SHARED"] ?? beside
        let file = URL(filePath: folder).appending(path: "specs/standard-webhooks/vectors.json")
        guard let data = try? Data(contentsOf: file), let found = try? JSONDecoder().decode(Vectors.self, from: data)
        else {
            fatalError(
                "MILEPOST_SHARED must name the folder with specs/standard-webhooks/vectors.json; it is \(folder)")
        }
        return found
    }()
}

@Suite("Signatures of webhooks that are received (EXT-04)")
struct HookGuardTests {
    private let bench = Bench()

    private func keys(_ keys: [String], _ more: String = "") throws {
        let list = keys.map { "\"\($0)\"" }.joined(separator: ",")
        let answer = try #require(try bench.call("POST", "/_sandbox/hooks/keys", "{\"keys\":[\(list)]\(more)}"))
        try #require(answer.status == 200, "\(answer.body)")
    }

    /// Sends at a moment and returns the status and the ledger's entry.
    private func send(
        _ headers: [String: String], _ body: String, at seconds: Int64, path: String = "/hooks/in"
    ) throws -> (status: Int, entry: JSONValue) {
        bench.now = Instant(milliseconds: seconds * 1000 + 500)
        let request = VendorRequest(
            method: "POST", target: path, headers: headers.map { Header($0.key, $0.value) }, body: Array(body.utf8))
        guard case .answer(let answer, _) = bench.world.handle(request, now: bench.now) else { throw Missing() }
        let ledger = try #require(try bench.call("GET", "/_sandbox/ledger?only=requests&path=/hooks/*"))
        return (answer.status, try #require(ledger.body["requests"]?.array?.last))
    }

    private struct Missing: Error {}

    private func headers(of vector: Vectors.Sign, _ signature: String? = nil) -> [String: String] {
        [
            "webhook-id": vector.msg_id, "webhook-timestamp": "\(vector.timestamp)",
            "webhook-signature": signature ?? vector.signature,
        ]
    }

    @Test("the published cases of the verifiers are judged as they should be", arguments: Vectors.shared.verify)
    private func verified(_ vector: Vectors.Verify) throws {
        try keys([vector.secret], #","refuse":true"#)
        let (status, entry) = try send(vector.headers, vector.payload, at: vector.now)
        #expect((entry["signature"] == "valid") == vector.ok, "\(entry)")
        #expect(status == (vector.ok ? 200 : 401))
        #expect(entry["signature_why"]?.string?.isEmpty == false)
        let expected: String? =
            vector.name.hasSuffix("missing")
            ? "missing" : vector.name.hasPrefix("301 s") ? "expired" : vector.ok ? "valid" : "invalid"
        #expect(entry["signature"]?.string == expected, "\(entry)")
    }

    @Test("what the vectors sign is valid, by shared, public and private key", arguments: Vectors.shared.sign)
    private func signed(_ vector: Vectors.Sign) throws {
        for key in vector.keys {
            try keys([key])
            let (_, entry) = try send(headers(of: vector), vector.payload, at: vector.timestamp)
            #expect(entry["signature"] == "valid", "\(key.prefix(6)): \(entry)")
            let (_, other) = try send(headers(of: vector), vector.payload + " ", at: vector.timestamp)
            #expect(other["signature"] == "invalid")
        }
    }

    @Test("while a key is rotated either key takes the message, of either kind")
    func rotation() throws {
        let symmetric = try #require(Vectors.shared.sign.first)
        let other = try #require(Vectors.shared.sign.first { $0.public_key != nil })
        let both = headers(of: symmetric, "\(other.signature) \(symmetric.signature)")
        for key in symmetric.keys + other.keys {
            try keys([key])
            #expect(try send(both, symmetric.payload, at: symmetric.timestamp).entry["signature"] == "valid")
        }
        try keys([other.public_key ?? "", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])
        #expect(
            try send(headers(of: symmetric), symmetric.payload, at: symmetric.timestamp).entry["signature"] == "invalid"
        )
        #expect(try send(headers(of: other), other.payload, at: other.timestamp).entry["signature"] == "valid")
    }

    @Test("a version that no key checks is told apart from a wrong signature")
    func versions() throws {
        let vector = try #require(Vectors.shared.sign.first)
        try keys([vector.secret ?? ""])
        let foreign = headers(of: vector, vector.signature.replacingOccurrences(of: "v1,", with: "v9,"))
        let (_, entry) = try send(foreign, vector.payload, at: vector.timestamp)
        #expect(entry["signature_why"]?.string?.contains("no signature is of version v1") == true, "\(entry)")
    }

    @Test("a message that comes again is counted, by its path; nothing is refused for it")
    func repeats() throws {
        let vector = try #require(Vectors.shared.sign.first)
        try keys([vector.secret ?? ""])
        var seen: [Int] = []
        for path in ["/hooks/in", "/hooks/in", "/hooks/other", "/hooks/in"] {
            let (status, entry) = try send(headers(of: vector), vector.payload, at: vector.timestamp, path: path)
            seen.append(entry["repeats"]?.integer ?? -1)
            #expect(status == 200)
        }
        #expect(seen == [0, 1, 0, 2])
    }

    @Test("a tolerance of its own, and what lies without it is expired and not invalid")
    func tolerance() throws {
        let vector = try #require(Vectors.shared.sign.first)
        try keys([vector.secret ?? ""], #","tolerance_s":10"#)
        func at(_ seconds: Int64) throws -> JSONValue? {
            try send(headers(of: vector), vector.payload, at: vector.timestamp + seconds).entry["signature"]
        }
        #expect(try at(10) == "valid" && at(11) == "expired" && at(-10) == "valid" && at(-12) == "expired")
    }

    @Test(
        "without keys nothing is said; a refusal uses up no planned answer; reset comes back to the command line's keys"
    )
    func surroundings() throws {
        let vector = try #require(Vectors.shared.sign.first)
        #expect(try send(headers(of: vector), vector.payload, at: vector.timestamp).entry["signature"] == nil)
        try keys([vector.secret ?? ""], #","path":"/hooks/judge*","refuse":true"#)
        #expect(try send([:], "{}", at: 1).entry["signature"] == nil, "another path")
        _ = try bench.call("POST", "/_sandbox/hooks", #"{"path":"/hooks/judge","times":1,"body":{"decision":"drop"}}"#)
        #expect(try send([:], "{}", at: 1, path: "/hooks/judge").status == 401)
        let planned = try bench.call("GET", "/_sandbox/hooks")
        #expect(planned?.body.array?.first?["left"]?.integer == 1)
        let shown = try #require(try bench.call("GET", "/_sandbox/hooks/keys"))
        #expect(!"\(shown.body)".contains("MfKQ9r8G"), "keys are not shown again")
        _ = try bench.call("DELETE", "/_sandbox/hooks/keys")
        #expect(try bench.call("GET", "/_sandbox/hooks/keys")?.body == .array([]))

        var settings = SandboxSettings(plan: .off)
        #expect(settings.setHookKeys([vector.secret ?? ""], refuses: true) == nil)
        let own = Bench(settings)
        _ = try own.call("DELETE", "/_sandbox/hooks/keys")
        _ = try own.call("POST", "/_sandbox/reset", "{}")
        #expect(try own.call("POST", "/hooks/in", "{}")?.status == 401)
        #expect(settings.setHookKeys(["whsec_"], refuses: false)?.contains("whsec_") == true)
    }

    @Test("a fault still strikes, and the ledger knows the signature all the same")
    func faults() throws {
        let vector = try #require(Vectors.shared.sign.first)
        try keys([vector.secret ?? ""])
        try bench.set(#"{"kind":"status","status":503,"match":{"path":"/hooks/*"}}"#)
        let (status, entry) = try send(headers(of: vector), vector.payload, at: vector.timestamp)
        #expect(status == 503 && entry["signature"] == "valid" && entry["fault"] == "status")
    }

    @Test(
        "keys that are none are refused and change nothing",
        arguments: Vectors.shared.invalid_secrets + [
            "whsec_c2hvcnQ=", "whsec_not*base64", "whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsk_MfKQ9r8G",
        ])
    func badKeys(key: String) throws {
        #expect(try bench.call("POST", "/_sandbox/hooks/keys", "{\"keys\":[\"\(key)\"]}")?.status == 400)
        #expect(try bench.call("GET", "/_sandbox/hooks/keys")?.body == .array([]))
    }

    @Test(
        "a rule that is none is refused",
        arguments: [
            "{}", #"{"keys":[]}"#, #"{"keys":[1]}"#,
            #"{"keys":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],"path":"/x"}"#,
            #"{"keys":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],"tolerance_s":-1}"#,
            #"{"keys":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],"refuse":"yes"}"#,
            #"{"keys":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],"color":1}"#,
        ])
    func badRules(body: String) throws {
        #expect(try bench.call("POST", "/_sandbox/hooks/keys", body)?.status == 400)
    }

    @Test("hostile headers are judged and never trap", arguments: 0..<400)
    func fuzz(seed: UInt64) throws {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(bound))
        }
        let pieces = [
            "v1,", "v1a,", ",", " ", "=", "\u{0}", "é", "AAAA", "-", "9223372036854775808", "1614265330", ".", "v1",
        ]
        func text() -> String { (0..<next(8)).map { _ in pieces[next(pieces.count)] }.joined() }
        try keys(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="])
        let (_, entry) = try send(
            ["webhook-id": text(), "webhook-timestamp": text(), "webhook-signature": text()], text(), at: 1_614_265_330)
        #expect(["missing", "invalid"].contains(entry["signature"]?.string ?? ""), "\(entry)")
    }
}
