// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules
import Testing

@Suite("Events of vendors as they are handed in (HOOK-08)")
struct VendorEventReaderTests {
    static let facts: [String: JSONValue] = [
        "dealId": "42", "dealTitle": "Spring", "previousStage": "11", "newStage": "12", "personId": "77",
        "value": "5000.10", "currency": "EUR",
    ]

    static func body(_ changes: [String: JSONValue?] = [:], _ outer: [String: JSONValue?] = [:]) -> JSONValue {
        func changed(_ base: [String: JSONValue], _ changes: [String: JSONValue?]) -> JSONValue {
            var members = base
            for (key, value) in changes { members[key] = value }
            return .object(members)
        }
        return changed(
            ["topic": "deal.stage_changed", "id": "e1", "data": changed(facts, changes)], outer)
    }

    static func pointers(_ body: JSONValue, key: String? = nil) -> [String] {
        switch VendorEventReader.read(body, key: key) {
        case .success: []
        case .failure(let rejected): rejected.errors.map(\.pointer)
        }
    }

    @Test("HOOK-08: the payload comes back as it went in; what is left out is null, numbers of records are text")
    func roundTrip() throws {
        let draft = try VendorEventReader.read(Self.body([:], ["at": "2026-11-21T07:00:00+01:00"])).get()
        #expect(draft.topic == .dealStageChanged && draft.id == "e1")
        #expect(draft.at == Timestamp(rfc3339: "2026-11-21T06:00:00Z"))
        #expect(draft.data == .object(Self.facts))
        let bare = try VendorEventReader.read([
            "topic": "deal.stage_changed", "at": "2026-11-21T07:00:00Z", "data": ["dealId": 42, "newStage": 12],
        ]).get()
        #expect(bare.id == nil && bare.data["dealId"] == "42" && bare.data["newStage"] == "12")
        #expect(bare.data["value"] == .null && bare.data.object?.count == 7)
    }

    @Test(
        "HOOK-08: money is decimal text or a whole number, and nothing that may have lost a cent",
        arguments: [
            ("5000.00", "5000.00"), (5000, "5000"), ("-0.5", "-0.5"), ("0", "0"), (.null, nil),
            ("123456789012345678.12345678", "123456789012345678.12345678"),
        ] as [(JSONValue, String?)])
    func money(given: JSONValue, stored: String?) throws {
        #expect(try VendorEventReader.read(Self.body(["value": given])).get().data["value"] == JSONValue(stored))
    }

    @Test(
        "HOOK-08: what is no amount is refused",
        arguments: [
            .number(5000.5), "5.000,00", "5e3", "", ".5", "5.", "+5", "1 000", "--5", "-", "1.123456789",
            "1234567890123456789", "٥", .bool(true), [1],
        ] as [JSONValue])
    func noMoney(given: JSONValue) {
        #expect(Self.pointers(Self.body(["value": given])) == ["/data/value"])
    }

    @Test("HOOK-08: every fault is named with its place")
    func faults() {
        #expect(Self.pointers([]) == [""])
        #expect(Self.pointers(Self.body([:], ["topic": "deal.won"])) == ["/topic"])
        #expect(Self.pointers(Self.body([:], ["topic": nil])) == ["/topic"])
        #expect(Self.pointers(Self.body([:], ["data": nil])) == ["/data"])
        #expect(Self.pointers(Self.body([:], ["data": "x", "id": 5])) == ["/id", "/data"])
        #expect(Self.pointers(Self.body([:], ["at": "yesterday"])) == ["/at"])
        #expect(Self.pointers(Self.body([:], ["sent": 1])) == ["/sent"])
        #expect(Self.pointers(Self.body(["dealId": nil])) == ["/data/dealId"])
        #expect(Self.pointers(Self.body(["newStage": .null])) == ["/data/newStage"])
        #expect(Self.pointers(Self.body(["dealID": "4"])) == ["/data/dealID"])
        #expect(Self.pointers(Self.body(["currency": "eur"])) == ["/data/currency"])
        #expect(Self.pointers(Self.body(["currency": nil])) == ["/data/currency"])
        #expect(Self.pointers(Self.body(["dealTitle": "a\u{0}b"])) == ["/data/dealTitle"])
        #expect(Self.pointers(Self.body(["dealId": .string(String(repeating: "x", count: 257))])) == ["/data/dealId"])
    }

    @Test("decisions 8: a repetition must be told from a second event, so there is an id, a key, or a time")
    func identity() throws {
        #expect(Self.pointers(Self.body([:], ["id": nil])) == ["/id"])
        #expect(Self.pointers(Self.body([:], ["id": nil]), key: "k") == [])
        #expect(Self.pointers(Self.body([:], ["id": nil, "at": "2026-11-21T07:00:00Z"])) == [])
        #expect(Self.pointers(Self.body(), key: "e1") == [])
        #expect(Self.pointers(Self.body(), key: "e2") == ["/id"])
        #expect(Self.pointers(Self.body([:], ["id": nil]), key: "ä") == [""])
        #expect(Self.pointers(Self.body([:], ["id": nil]), key: String(repeating: "k", count: 257)) == [""])
    }

    @Test("bytes from outside: damaged bodies are refused or read, and what is read is what the schema promises")
    func hostile() throws {
        let text = Array(Self.body([:], ["at": "2026-11-21T07:00:00Z"]).bytes)
        var seed: UInt64 = 7
        var read = 0
        for _ in 0..<4000 {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            var bytes = text
            bytes[Int(truncatingIfNeeded: (seed >> 20) % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: seed >> 50)
            guard let body = try? JSONValue(parsing: bytes),
                case .success(let draft) = VendorEventReader.read(body)
            else { continue }
            read += 1
            let facts = try #require(draft.data.object)
            #expect(Set(facts.keys) == Set(Self.facts.keys))
            #expect(facts.values.allSatisfy { $0 == .null || ($0.string?.utf8.count ?? 9999) <= 1024 })
            #expect(facts["dealId"] != .null && facts["newStage"] != .null)
        }
        #expect(read > 100, "most changes fall into texts")
    }
}
