// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import MilepostKit
import MilepostKitTesting
import Pipedrive
import Synchronization
import Testing

extension HostileSource {
    /// With the names of members that the vendor's answers have.
    init(seed: UInt64) { self.init(seed: seed, names: Self.vendorNames) }
    private static let vendorNames = [
        "id", "data", "success", "title", "add_time", "pipeline_id", "next_cursor", "additional_data", "x",
    ]
}

extension Serialized {
    @Suite("hostile answers", .timeLimit(.minutes(2)))
    struct FuzzTests {
        /// The account's answers, some of them spoiled; keeps the last answer that each step saw.
        final class Spoiled: Sendable {
            let account = Account()
            let state: Mutex<(random: HostileSource, deal: (Int, [UInt8])?)>
            init(seed: UInt64) {
                state = Mutex((HostileSource(seed: seed), nil))
                let deal: JSONValue = [
                    "id": 501, "title": "Link spring hit 100 clicks", "pipeline_id": 1, "creator_user_id": 7,
                    "add_time": "2026-11-02T10:00:01Z", "custom_fields": [linkKey: "lnk_spring"],
                ]
                account.state.withLock { $0.deals = [deal] }
            }

            func answer(_ request: SentRequest) -> FakeAnswer {
                guard case .json(let status, let good, _) = account.answer(request) else { return .json(500, .null) }
                return state.withLock { state in
                    let kept = [
                        200, 200, 200, 200, 201, 204, 206, 301, 400, 401, 402, 403, 404, 418, 429, 500, 503, 599,
                    ]
                    let code = state.random.below(3) == 0 ? kept[state.random.below(kept.count)] : status
                    var bytes = good.bytes
                    switch state.random.below(4) {
                    case 0: break
                    case 1: bytes = state.random.mutated(good).bytes
                    case 2: bytes = state.random.damaged(bytes)
                    default: bytes = state.random.json().bytes
                    }
                    if request.step == "deal" { state.deal = (code, bytes) }
                    return .bytes(code, bytes)
                }
            }
        }

        static let classes: Set<String> = [
            "ok", "rejected", "retry", "rate_limited", "auth_expired", "auth_revoked", "config", "uncertain",
            "cancelled",
        ]

        @Test("no answer crashes a delivery, and none is a success without the deal's id")
        func deliveries() async throws {
            var successes = 0
            for seed in 1...600 {
                let vendor = Spoiled(seed: UInt64(seed))
                let host = try #require(hosted(vendor))
                defer { host.destroy() }
                let done = await host.run(MP_VERB_DELIVER, deliver(payload()))
                #expect(done.status == MP_OK, "seed \(seed)")
                let record = done.body["records"]?[0]
                let name = record?["class"]?.string ?? "none"
                #expect(Self.classes.contains(name), "seed \(seed)")
                guard name == "ok" else {
                    #expect(
                        record?["error"]?["code"]?.string != nil && record?["error"]?["message"]?.string != nil,
                        "seed \(seed)")
                    continue
                }
                successes += 1
                let (status, body) = try #require(vendor.state.withLock { $0.deal })
                let id = try #require(try JSONValue(parsing: body)["data"]?["id"]?.int, "seed \(seed)")
                #expect((200..<300).contains(status) && record?["remote_id"] == .string(String(id)), "seed \(seed)")
            }
            #expect(successes > 20)
        }

        @Test("no answer crashes a look-up, and none finds a deal that no answer named")
        func lookups() async throws {
            var found = 0
            for seed in 1...400 {
                let vendor = Spoiled(seed: UInt64(seed) &* 7_919)
                let host = try #require(hosted(vendor))
                defer { host.destroy() }
                let journal: JSONValue = [
                    ["step": "deal", "state": "intent", "wire": "maybe_sent", "intent_at": "2026-11-02T10:00:00Z"]
                ]
                let done = await host.run(MP_VERB_RECONCILE, deliver(payload(), journal: journal))
                let finding = done.body["records"]?[0]
                let answer = finding?["answer"]?.string ?? "none"
                #expect(["applied", "not_applied", "unknown"].contains(answer), "seed \(seed)")
                if answer == "applied" {
                    found += 1
                    #expect(
                        finding?["result"]?["deal_id"]?.int.map { String($0) } == finding?["remote_id"]?.string,
                        "seed \(seed)")
                }
            }
            #expect(found > 20)
        }

        @Test("no answer crashes connecting, configuring or choosing")
        func others() async throws {
            for seed in 1...200 {
                let host = try #require(hosted(Spoiled(seed: UInt64(seed) &* 104_729)))
                defer { host.destroy() }
                let connect = await host.run(MP_VERB_CONNECT, [:])
                if connect.status == MP_OK {
                    #expect(connect.body["account"]?["id"]?.string?.isEmpty == false, "seed \(seed)")
                }
                _ = await host.run(
                    MP_VERB_CONFIGURE, ["settings": ["pipeline_id": 1, "stage_id": 11, "link_field": "Link"]])
                for picker in ["pipelines", "stages", "deal_fields", "users"] {
                    _ = await host.run(MP_VERB_OPTIONS, ["picker": .string(picker), "values": ["pipeline_id": 1]])
                }
            }
        }

        @Test("settings of any shape are refused or taken, never a crash")
        func settings() async throws {
            var random = HostileSource(seed: 3)
            let names = [
                "pipeline_id", "stage_id", "link_field", "title_template", "fields", "api", "domain", "rate_plan",
            ]
            for _ in 0..<200 {
                let settings = JSONValue.object(Dictionary(uniqueKeysWithValues: names.map { ($0, random.json()) }))
                let host = try #require(connected(Account(), settings: settings))
                defer { host.destroy() }
                let done = await host.run(MP_VERB_CONFIGURE, ["settings": settings])
                #expect(done.status == MP_OK || done.status == MP_RETRY)
            }
        }

        @Test("an answer nested a hundred thousand deep is unreadable and no crash", arguments: ["[", #"{"data":"#])
        func deep(opening: String) async throws {
            let text = String(repeating: opening, count: 100_000)
            let host = try #require(connected(Account(fault: { $0.step == "deal" ? .text(200, text) : nil })))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver(payload()))
            #expect(done.body["records"]?[0]?["class"] == "uncertain")
        }

        func hosted(_ vendor: Spoiled) -> FakeHost? {
            FakeHost(
                PipedrivePlugin.self,
                configuration: [
                    "connection": "con_1", "settings": ["pipeline_id": 1, "stage_id": 11, "link_field": "Link"],
                    "endpoints": ["api": "https://api.pipedrive.com"],
                ], script: { vendor.answer($0) })
        }
    }
}
