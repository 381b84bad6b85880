// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import MilepostKit
import MilepostKitTesting
import Pipedrive
import Synchronization
import Testing

extension Serialized {
    @Suite("finds out", .timeLimit(.minutes(1)))
    struct ReconcileTests {
        let title = "Link spring hit 100 clicks"
        let intent: JSONValue = [
            "step": "deal", "state": "intent", "wire": "maybe_sent", "intent_at": "2026-11-02T10:00:00Z",
        ]

        func planned(field: Bool) -> JSONValue {
            var plan: [String: JSONValue] = ["title": .string(title), "pipeline_id": 1]
            if field {
                plan["field_key"] = .string(linkKey)
                plan["field_value"] = "lnk_spring"
            }
            return [["step": "plan", "state": "done", "result": .object(plan)], intent]
        }

        func deal(
            _ id: Int64, title: String? = nil, pipeline: Int64 = 1, creator: Int64 = 7,
            added: String = "2026-11-02T10:00:01Z",
            link: String = "lnk_spring"
        ) -> JSONValue {
            [
                "id": .int(id), "title": .string(title ?? self.title), "pipeline_id": .int(pipeline),
                "creator_user_id": .int(creator), "add_time": .string(added), "custom_fields": [linkKey: .string(link)],
            ]
        }

        func look(_ deals: [JSONValue], field: Bool = true, settings: JSONValue = [:], hits: [Int64] = []) async throws
            -> (finding: JSONValue?, sent: [SentRequest])
        {
            let account = Account()
            account.state.withLock {
                $0.deals = deals
                $0.searchHits = hits
            }
            let host = try #require(connected(account, settings: settings))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_RECONCILE, deliver(payload(), journal: planned(field: field)))
            return (done.body["records"]?[0], host.sent)
        }

        @Test("DEAL-09: the deal with field and title is found and nothing is changed")
        func finds() async throws {
            let (finding, sent) = try await look([deal(502, title: "Link spring hit 1000 clicks"), deal(501)])
            #expect(finding?["answer"] == "applied")
            #expect(finding?["remote_id"] == "501")
            #expect(finding?["result"]?["deal_id"] == 501)
            #expect(sent.allSatisfy { $0.method == "GET" && $0.isIdempotent })
        }

        @Test("decision 6: another threshold, another link, an older deal are no match")
        func others() async throws {
            let deals = [
                deal(503, title: "Link spring hit 1000 clicks"), deal(502, link: "lnk_autumn"),
                deal(400, added: "2026-11-02T09:54:59Z"),
            ]
            let (finding, sent) = try await look(deals)
            #expect(finding?["answer"] == "not_applied")
            #expect(sent.contains { $0.bucket == "search" })
        }

        @Test("within the clock skew of five minutes the deal counts")
        func skew() async throws {
            #expect(try await look([deal(501, added: "2026-11-02T09:55:00Z")]).finding?["answer"] == "applied")
        }

        @Test("without a field: title, pipeline and our own user")
        func withoutField() async throws {
            #expect(try await look([deal(501, creator: 8)], field: false).finding?["answer"] == "not_applied")
            #expect(try await look([deal(501)], field: false).finding?["answer"] == "applied")
        }

        @Test(
            "a deal that somebody archived or deleted meanwhile is not made again",
            arguments: ["archived", "deleted"], ["v2", "v1"])
        func putAway(shelf: String, api: String) async throws {
            let account = Account()
            account.state.withLock {
                if shelf == "archived" { $0.archived = [deal(501)] } else { $0.deleted = [deal(501)] }
            }
            let host = try #require(connected(account, settings: ["api": .string(api)]))
            defer { host.destroy() }
            let found = await host.run(MP_VERB_RECONCILE, deliver(payload(), journal: planned(field: true)))
            let finding = found.body["records"]?[0]
            #expect(finding?["answer"] == "applied" && finding?["remote_id"] == "501")
            #expect(finding?["message"]?.string?.contains(shelf) == true)
            #expect(host.logged.count == 1)

            // The host stores what was found and lets the delivery go on.
            let result = try #require(finding?["result"])
            let journal: JSONValue = [["step": "deal", "state": "done", "result": result]]
            let done = await host.run(MP_VERB_DELIVER, deliver(payload(), journal: journal)).body["records"]?[0]
            #expect(done?["class"] == "ok")
            #expect(done?["warnings"]?[0]?["code"] == .string("deal_\(shelf)"))
            #expect(host.sent.contains { $0.step == "note" } == (shelf == "archived"))
            #expect(!host.sent.contains { $0.step == "deal" })
        }

        @Test(
            "a note that an archived deal does not take is a warning; one that a live deal does not take is a refusal")
        func refusedNote() async throws {
            let host = try #require(
                connected(
                    Account(fault: { $0.step == "note" ? .json(400, ["success": false, "error": "archived"]) : nil })))
            defer { host.destroy() }
            for (shelf, name) in [(JSONValue.string("archived"), "ok"), (.null, "rejected")] {
                let journal: JSONValue = [
                    ["step": "deal", "state": "done", "result": ["deal_id": 501, "shelf": shelf]]
                ]
                let done = await host.run(MP_VERB_DELIVER, deliver(payload(), journal: journal))
                #expect(done.body["records"]?[0]?["class"] == .string(name))
            }
        }

        @Test(
            "a list of deals put away that cannot be read is unknown; an account without an archive has none",
            arguments: [
                ("/deals/archived", 500, "unknown"), ("/deals?status=deleted", 403, "unknown"),
                ("/deals/archived", 404, "not_applied"),
            ])
        func putAwayFails(path: String, status: Int, answer: String) async throws {
            let failing = FakeAnswer.json(status, ["success": false, "error": "no"])
            let host = try #require(connected(Account(fault: { $0.url.contains(path) ? failing : nil })))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_RECONCILE, deliver(payload(), journal: planned(field: true)))
            #expect(done.body["records"]?[0]?["answer"] == .string(answer))
        }

        @Test("several matches: the oldest counts, and the message says so")
        func several() async throws {
            let finding = try await look([deal(502), deal(501)]).finding
            #expect(finding?["remote_id"] == "501")
            #expect(finding?["message"]?.string?.contains("2 deals match") == true)
        }

        @Test(
            "DEAL-12, DEAL-09: a deal with field and title that was moved by hand is found, whatever the API says of the move",
            arguments: [JSONValue.string("2026-11-02T10:05:00Z"), nil])
        func moved(stageChanged: JSONValue?) async throws {
            var members = try #require(deal(501, pipeline: 2).object)
            members["stage_change_time"] = stageChanged
            let (finding, sent) = try await look([.object(members)])
            #expect(finding?["answer"] == "applied" && finding?["remote_id"] == "501")
            #expect(finding?["message"]?.string?.contains("moved to pipeline 2") == true)
            #expect(sent.allSatisfy { $0.method == "GET" }, "nothing is moved back")
        }

        @Test("a match in the planned pipeline wins over one that was moved")
        func hereFirst() async throws {
            #expect(try await look([deal(501, pipeline: 2), deal(502)]).finding?["remote_id"] == "502")
        }

        @Test(
            "a match in another pipeline that nobody moved, or that bears no field, is unknown, never not_applied",
            arguments: [JSONValue.null, "2026-11-02T10:00:01Z"])
        func elsewhere(stageChanged: JSONValue) async throws {
            var members = try #require(deal(501, pipeline: 2).object)
            members["stage_change_time"] = stageChanged
            #expect(try await look([.object(members)]).finding?["answer"] == "unknown")
            #expect(try await look([deal(501, pipeline: 2)], field: false).finding?["answer"] == "unknown")
        }

        @Test("the plan of the journal wins over settings that changed since")
        func planWins() async throws {
            let finding = try await look([deal(501)], settings: ["title_template": "Other {slug}"]).finding
            #expect(finding?["answer"] == "applied")
        }

        @Test("v1: times without zone, owner as an object, key at the root")
        func v1Shapes() async throws {
            let account = Account()
            account.state.withLock {
                $0.deals = [
                    [
                        "id": 501, "title": .string(title), "pipeline_id": 1, "creator_user_id": ["id": 7, "value": 7],
                        "add_time": "2026-11-02 10:00:01", linkKey: "lnk_spring",
                    ]
                ]
            }
            let host = try #require(connected(account, settings: ["api": "v1"]))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_RECONCILE, deliver(payload(), journal: planned(field: true)))
            #expect(done.body["records"]?[0]?["answer"] == "applied")
            #expect(host.sent.first?.url == "https://api.pipedrive.com/v1/deals?sort=add_time%20DESC&limit=500")
        }

        @Test(
            "a look-up that fails is unknown", arguments: ["/deals?", "/itemSearch"],
            [FakeAnswer.json(500, .null), .text(200, "<html>"), .fails(.maybeSent, "timeout"), .json(401, .null)])
        func failed(path: String, answer: FakeAnswer) async throws {
            let host = try #require(connected(Account(fault: { $0.url.contains(path) ? answer : nil })))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_RECONCILE, deliver(payload(), journal: planned(field: true)))
            #expect(done.body["records"]?[0]?["answer"] == "unknown")
        }

        @Test("the note is found by the delivery's id", arguments: [("dlv_1", "applied"), ("dlv_2", "not_applied")])
        func notes(id: String, answer: String) async throws {
            let account = Account()
            account.state.withLock { $0.notes = [["id": 9, "content": .string("<p>Milepost delivery \(id)</p>")]] }
            let host = try #require(connected(account))
            defer { host.destroy() }
            let journal: JSONValue = [
                ["step": "deal", "state": "done", "result": ["deal_id": 501]],
                ["step": "note", "state": "intent", "intent_at": "2026-11-02T10:00:02Z"],
            ]
            let done = await host.run(MP_VERB_RECONCILE, deliver(payload(), journal: journal))
            #expect(done.body["records"]?[0]?["answer"] == .string(answer))
            #expect(done.body["records"]?[0]?["step"] == "note")
        }
    }
}
