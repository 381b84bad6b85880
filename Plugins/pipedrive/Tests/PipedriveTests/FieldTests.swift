// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import MilepostKit
import MilepostKitTesting
import Pipedrive
import Testing

extension Serialized {
    @Suite("custom fields (FLD-11)", .timeLimit(.minutes(1)))
    struct FieldTests {
        struct Case: Sendable {
            var label: String
            var value: JSONValue
            /// What v2 and v1 receive under the key; nil: refused.
            var v2: JSONValue?
            var v1: JSONValue?
            /// A word of the refusal's reason.
            var reason = ""
        }

        static let accepted: [Case] = [
            Case(label: "Priority", value: "High", v2: 5, v1: "5"),
            Case(label: "Priority", value: "high", v2: 5, v1: "5"),
            Case(label: "Priority", value: 6, v2: 6, v1: "6"),
            Case(label: "Tags", value: ["Spring", 8], v2: [7, 8], v1: "7,8"),
            Case(label: "Tags", value: "Summer", v2: [8], v1: "8"),
            Case(label: "Day", value: "2028-02-29", v2: "2028-02-29", v1: "2028-02-29"),
            Case(
                label: "Money", value: ["value": "12.5", "currency": "EUR"], v2: ["value": 12.5, "currency": "EUR"],
                v1: 12.5),
            Case(label: "Money", value: ["amount": 3, "currency": "USD"], v2: ["value": 3, "currency": "USD"], v1: 3),
            Case(label: "Owner", value: 7, v2: 7, v1: 7), Case(label: "Owner", value: "7", v2: 7, v1: 7),
            Case(label: "Count", value: 1.5, v2: 1.5, v1: 1.5),
            Case(label: "Count", value: "{threshold}", v2: 100, v1: 100),
            Case(label: "Link", value: 42, v2: "42", v1: "42"),
        ]

        static let refused: [Case] = [
            Case(label: "Priority", value: "Huge", reason: "option"),
            Case(label: "Priority", value: 99, reason: "option"),
            Case(label: "Priority", value: ["High"], reason: "option"),
            Case(label: "Tags", value: [], reason: "one option"),
            Case(label: "Tags", value: ["Spring", "Winter"], reason: "option"),
            Case(label: "Tags", value: "SUMMER", reason: "several"),
            Case(label: "Day", value: "2026-02-29", reason: "YYYY-MM-DD"),
            Case(label: "Day", value: "02/11/2026", reason: "YYYY-MM-DD"),
            Case(label: "Day", value: "2026-11-02T10:00:00Z", reason: "YYYY-MM-DD"),
            Case(label: "Money", value: 5, reason: "money"), Case(label: "Money", value: ["value": 5], reason: "money"),
            Case(label: "Money", value: ["value": 5, "currency": "euro"], reason: "money"),
            Case(label: "Money", value: ["value": 5, "currency": "e\"}"], reason: "money"),
            Case(label: "Money", value: ["value": "much", "currency": "EUR"], reason: "number"),
            Case(label: "Owner", value: "Ada", reason: "number of a record"),
            Case(label: "Owner", value: -1, reason: "number of a record"),
            Case(label: "Count", value: "many", reason: "number"), Case(label: "Count", value: "nan", reason: "number"),
            Case(label: "Count", value: true, reason: "number"),
            Case(label: "Range", value: "2026-01-01", reason: "not supported"),
            Case(label: "Link", value: [1], reason: "text"),
        ]

        func key(_ label: String) -> String {
            switch label {
            case "Priority": priorityKey
            case "Link": linkKey
            case "Tags": typedKey("set")
            case "Day": typedKey("date")
            case "Money": typedKey("monetary")
            case "Owner": typedKey("user")
            default: typedKey("double")
            }
        }

        @Test("a value that fits is converted, in both generations", arguments: accepted.indices)
        func accepts(index: Int) async throws {
            let field = Self.accepted[index]
            for (api, wanted) in [("v2", field.v2), ("v1", field.v1)] {
                let host = try #require(
                    connected(Account(), settings: ["api": .string(api), "fields": [field.label: field.value]]))
                defer { host.destroy() }
                let done = await host.run(MP_VERB_DELIVER, deliver(payload()))
                #expect(done.body["records"]?[0]?["warnings"] == nil)
                let deal = host.sent.first { $0.step == "deal" }?.body
                #expect((api == "v2" ? deal?["custom_fields"] : deal)?[key(field.label)] == wanted)
                if api == "v1", field.label == "Money" {
                    #expect(deal?[key("Money") + "_currency"] == field.value["currency"])
                }
            }
        }

        @Test("a value that does not fit is left out with a reason, and the deal is made", arguments: refused.indices)
        func refuses(index: Int) async throws {
            let field = Self.refused[index]
            let host = try #require(connected(Account(), settings: ["fields": [field.label: field.value]]))
            defer { host.destroy() }
            let record = await host.run(MP_VERB_DELIVER, deliver(payload())).body["records"]?[0]
            #expect(record?["class"] == "ok")
            #expect(record?["warnings"]?[0]?["code"] == "field_invalid")
            #expect(record?["warnings"]?[0]?["message"]?.string?.contains(field.reason) == true)
            #expect(host.sent.first { $0.step == "deal" }?.body?["custom_fields"] == nil)
        }
    }
}
