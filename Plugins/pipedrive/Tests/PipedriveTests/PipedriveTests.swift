// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import MilepostKit
import MilepostKitTesting
import Pipedrive
import Synchronization
import Testing

/// One fake host at a time drives the plugin's table.
@Suite("Pipedrive", .serialized) struct Serialized {}

extension Serialized {
    @Suite("connects and delivers", .timeLimit(.minutes(1)))
    struct PipedriveTests {
        // MARK: Connect, configure, options

        @Test("PCON-04, PCON-05, PCON-19: connect asks for the user only and names company and missing right")
        func connects() async throws {
            let host = try #require(connected(Account()))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_CONNECT, ["settings": [:]])
            #expect(host.sent.map(\.url) == ["https://api.pipedrive.com/v1/users/me"])
            #expect(host.sent.first?.credential == "api_token")
            #expect(done.body["account"]?["id"] == "54235233")
            #expect(done.body["warnings"]?[0]?["code"] == "not_admin")
        }

        @Test("PCON-17: requests name the installed app's credential, and its refusal asks for an installation")
        func installed() async throws {
            let account = Account(fault: { $0.step == "deal" ? .json(401, ["success": false]) : nil })
            let host = try #require(connected(account, credential: ["ref": "oauth", "scheme": "oauth2"]))
            defer { host.destroy() }
            _ = await host.run(MP_VERB_CONNECT, ["settings": [:]])
            let done = await host.run(MP_VERB_DELIVER, deliver(payload()))
            #expect(!host.sent.isEmpty && host.sent.allSatisfy { $0.credential == "oauth" })
            #expect(done.body["records"]?[0]?["class"] == "auth_revoked")
            #expect(done.body["records"]?[0]?["error"]?["message"]?.string?.contains("Install it again") == true)
            #expect(host.rejectedCredentials == ["oauth"])
        }

        @Test("PCON-19: an administrator's token brings no warning")
        func administrator() async throws {
            let account = Account()
            account.state.withLock { $0.isAdministrator = true }
            let host = try #require(connected(account))
            defer { host.destroy() }
            #expect(await host.run(MP_VERB_CONNECT, [:]).body["warnings"] == [])
        }

        @Test(
            "PCON-16: the company's host is used unless the endpoint was set elsewhere",
            arguments: [
                ("https://api.pipedrive.com", "https://acme.pipedrive.com"),
                ("http://127.0.0.1:9", "http://127.0.0.1:9"),
            ])
        func companyHost(endpoint: String, base: String) async throws {
            let host = try #require(
                FakeHost(
                    PipedrivePlugin.self,
                    configuration: [
                        "connection": "con_1", "endpoints": ["api": .string(endpoint)],
                        "settings": ["domain": "acme", "pipeline_id": 1, "stage_id": 11],
                    ]
                ) { _ in .json(503, .null) })
            defer { host.destroy() }
            _ = await host.run(MP_VERB_CONNECT, [:])
            _ = await host.run(MP_VERB_DELIVER, deliver(payload()))
            #expect(host.sent.count == 2)
            #expect(host.sent.allSatisfy { $0.url.hasPrefix(base + "/") })
        }

        @Test("the manifest's default endpoint, plans and settings are those of the code")
        func manifest() throws {
            let manifest = try JSONValue(parsing: PipedrivePlugin.manifest)
            #expect(manifest["endpoints"]?["api"]?["default"] == "https://api.pipedrive.com")
            let plans = ["lite", "growth", "premium", "ultimate"]
            let properties = manifest["config_schema"]?["properties"]
            #expect(properties?["rate_plan"]?["enum"]?.array?.map { $0.string } == plans)
            #expect(manifest["rate_limits"]?[0]?["presets"]?.object?.keys.sorted() == plans.sorted())
            #expect(properties?["domain"] != nil)
        }

        @Test(
            "configure refuses a plan, a host and a generation that do not exist",
            arguments: [
                ("rate_plan", "platinum"), ("domain", "acme.evil.test/"), ("domain", "-acme"), ("domain", "Acme"),
                ("api", "v3"), ("title_template", String(repeating: "x", count: 256)),
            ])
        func refusedSettings(name: String, value: String) async throws {
            let host = try #require(connected(Account()))
            defer { host.destroy() }
            let settings: JSONValue = ["pipeline_id": 1, "stage_id": 11]
            let body = JSONValue.object(settings.object!.merging([name: .string(value)]) { $1 })
            let done = await host.run(MP_VERB_CONFIGURE, ["settings": body])
            #expect(done.body["errors"]?.array?.map { $0["pointer"] } == [.string("/\(name)")])
            #expect(host.sent.isEmpty)
        }

        @Test("the deal's page is told once the company's domain is known: by setting, by the host, by connect")
        func dealPage() async throws {
            func page(settings: JSONValue = [:], account: JSONValue = .null, connecting: Account? = nil) async throws
                -> JSONValue?
            {
                let vendor = connecting ?? Account()
                let host = try #require(connected(vendor, settings: settings, account: account))
                defer { host.destroy() }
                if connecting != nil { _ = await host.run(MP_VERB_CONNECT, [:]) }
                return await host.run(MP_VERB_DELIVER, deliver(payload())).body["records"]?[0]?["remote_url"]
            }
            #expect(try await page() == nil)
            #expect(try await page(account: ["id": "1", "domain": "acme"]) == "https://acme.pipedrive.com/deal/501")
            #expect(try await page(connecting: Account()) == "https://acme.pipedrive.com/deal/501")
            let hostile = Account()
            hostile.state.withLock { $0.domain = "evil.test/?" }
            #expect(try await page(connecting: hostile) == nil)
            let host = try #require(
                connected(
                    Account(), settings: ["domain": "other"], account: ["domain": "acme"],
                    base: "https://other.pipedrive.com"))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver(payload()))
            #expect(done.body["records"]?[0]?["remote_url"] == "https://other.pipedrive.com/deal/501")
        }

        @Test(
            "DEAL-11: configure names the setting whose target is gone",
            arguments: [("pipeline_id", 3), ("stage_id", 99)])
        func configureMissing(name: String, value: Int64) async throws {
            let host = try #require(connected(Account()))
            defer { host.destroy() }
            var settings: [String: JSONValue] = ["pipeline_id": 1, "stage_id": 11]
            settings[name] = .int(value)
            let done = await host.run(MP_VERB_CONFIGURE, ["settings": .object(settings)])
            #expect(done.body["errors"]?[0]?["pointer"] == .string("/\(name)"))
            #expect(done.body["errors"]?[0]?["code"] == "target_missing")
        }

        @Test(
            "FLD-02, FLD-10: an unknown label and a label borne twice are warnings",
            arguments: [("Nobody", "field_unknown"), ("Twin", "field_ambiguous")])
        func configureWarns(label: String, code: String) async throws {
            let host = try #require(connected(Account()))
            defer { host.destroy() }
            let done = await host.run(
                MP_VERB_CONFIGURE, ["settings": ["pipeline_id": 1, "stage_id": 11, "link_field": .string(label)]])
            #expect(done.body["errors"] == [])
            #expect(done.body["warnings"]?[0]?["code"] == .string(code))
        }

        @Test("FLD-08: a mapped field that was renamed is told once for the connection, and its value goes to its key")
        func renamed() async throws {
            let settings: [String: JSONValue] = [
                "pipeline_id": 1, "stage_id": 11, "link_field": "Link", "fields": ["Count": 3],
            ]
            let labels: JSONValue = .object([linkKey: "Link", typedKey("double"): "Count"])
            let host = try #require(
                connected(
                    Account(),
                    settings: [
                        "link_field": .string(linkKey), "field_labels": .object([linkKey: "Old name"]),
                    ]))
            defer { host.destroy() }
            let first = await host.run(MP_VERB_DELIVER, deliver(payload())).body["records"]?[0]
            let warning = first?["warnings"]?[0]
            #expect(warning?["code"] == "field_renamed" && warning?["lasting"] == true)
            #expect(warning?["message"]?.string?.contains("Old name is called Link") == true)
            #expect(host.sent.first { $0.step == "deal" }?.body?["custom_fields"]?[linkKey] == "lnk_spring")
            let second = await host.run(MP_VERB_DELIVER, deliver(payload())).body["records"]?[0]
            #expect(second?["class"] == "ok" && second?["warnings"]?[0] == nil)
            let checked = await host.run(MP_VERB_CONFIGURE, ["settings": .object(settings)])
            #expect(checked.body["settings"]?["field_labels"] == labels)
        }

        @Test("PCON-08, PCON-09, PCON-11: pickers are live, in the vendor's order, with a suggestion")
        func picks() async throws {
            let host = try #require(connected(Account()))
            defer { host.destroy() }
            let pipelines = await host.run(MP_VERB_OPTIONS, ["picker": "pipelines"])
            #expect(pipelines.body["items"]?.array?.map { $0["value"] } == [1, 2])
            #expect(pipelines.body["suggested"] == 2)
            let stages = await host.run(MP_VERB_OPTIONS, ["picker": "stages", "values": ["pipeline_id": 1]])
            #expect(stages.body["items"]?.array?.map { $0["value"] } == [11, 12])
            #expect(stages.body["suggested"] == 11)
        }

        // MARK: Deliver

        @Test(
            "DEAL-01, DEAL-02, DEAL-06, FLD-01: the deal has target, title and field by key",
            arguments: ["Link", linkKey])
        func deals(field: String) async throws {
            let host = try #require(connected(Account(), settings: ["link_field": .string(field)]))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver(payload()))
            let record = done.body["records"]?[0]
            #expect(record?["class"] == "ok")
            #expect(record?["remote_id"] == "501")
            let deal = try #require(host.sent.first { $0.step == "deal" })
            #expect(deal.url == "https://api.pipedrive.com/api/v2/deals")
            #expect(
                deal.body == [
                    "title": "Link spring hit 100 clicks", "pipeline_id": 1, "stage_id": 11,
                    "custom_fields": [linkKey: "lnk_spring"],
                ])
            #expect(host.journal.map(\.step) == ["plan", "deal", "note"])
        }

        @Test("v1 puts the hash key at the root")
        func dealsV1() async throws {
            let host = try #require(connected(Account(), settings: ["link_field": "Link", "api": "v1"]))
            defer { host.destroy() }
            _ = await host.run(MP_VERB_DELIVER, deliver(payload()))
            let deal = try #require(host.sent.first { $0.step == "deal" })
            #expect(deal.url == "https://api.pipedrive.com/v1/deals")
            #expect(deal.body?[linkKey] == "lnk_spring")
        }

        @Test("DEAL-03, DEAL-04, DEAL-10: the note is escaped HTML without what is missing")
        func notes() async throws {
            let host = try #require(connected(Account()))
            defer { host.destroy() }
            _ = await host.run(
                MP_VERB_DELIVER,
                deliver(payload(slug: "<b>\u{0}&\u{202E}x", utm: ["source": "<script>", "medium": nil])))
            let note = try #require(host.sent.first { $0.step == "note" }?.body?["content"]?.string)
            #expect(note.contains("&lt;b&gt; &amp;x") && note.contains("UTM source: &lt;script&gt;"))
            #expect(!note.contains("UTM medium") && !note.contains("null") && !note.contains("<script>"))
            #expect(note.contains("<a href=\"https://links.test/spring?a=1&amp;b=2\">"))
            #expect(note.contains("dlv_1"))
        }

        @Test("DEAL-08: with the deal done only the note is sent")
        func resumesAtNote() async throws {
            let host = try #require(connected(Account()))
            defer { host.destroy() }
            let journal: JSONValue = [["step": "deal", "state": "done", "result": ["deal_id": 77]]]
            let done = await host.run(MP_VERB_DELIVER, deliver(payload(), journal: journal))
            #expect(host.sent.map(\.step) == ["note"])
            #expect(host.sent.first?.body?["deal_id"] == 77)
            #expect(done.body["records"]?[0]?["remote_id"] == "77")
        }

        @Test("a stored answer that was never confirmed counts as the deal")
        func resumesAtAnswer() async throws {
            let host = try #require(connected(Account()))
            defer { host.destroy() }
            let journal: JSONValue = [
                [
                    "step": "deal", "state": "answered", "http_status": 200,
                    "body": #"{"success":true,"data":{"id":78}}"#,
                ]
            ]
            _ = await host.run(MP_VERB_DELIVER, deliver(payload(), journal: journal))
            #expect(host.sent.map(\.step) == ["note"])
        }

        @Test(
            "FLD-02, FLD-11: a field that cannot be mapped is left out with a warning and the deal is made",
            arguments: [
                ("Nobody", "x", "field_unknown"), ("Priority", "Huge", "field_invalid"),
                ("Twin", "x", "field_ambiguous"),
            ])
        func fieldWarnings(name: String, value: String, code: String) async throws {
            let host = try #require(connected(Account(), settings: ["fields": [name: .string(value)]]))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver(payload()))
            #expect(done.body["records"]?[0]?["class"] == "ok")
            #expect(done.body["records"]?[0]?["warnings"]?[0]?["code"] == .string(code))
        }

        @Test("FLD-03, FLD-11: an option's label becomes its id, and definitions are read once")
        func optionsAndCache() async throws {
            let account = Account()
            let host = try #require(connected(account, settings: ["fields": ["priority": "high"]]))
            defer { host.destroy() }
            for _ in 0..<3 { _ = await host.run(MP_VERB_DELIVER, deliver(payload())) }
            #expect(host.sent.first { $0.step == "deal" }?.body?["custom_fields"] == [priorityKey: 5])
            #expect(account.state.withLock { $0.fieldReads } == 1)
        }

        // MARK: Answers

        static let verdicts: [(FakeAnswer, String, String)] = [
            (.json(401, ["success": false, "error": "unauthorized access"]), "auth_revoked", "credential_refused"),
            (.json(402, .null), "config", "account_closed"),
            (.json(403, ["success": false, "error": "Scope and URL mismatch"]), "config", "permission_missing"),
            (.text(403, "<html>", headers: [("content-type", "text/html")]), "rate_limited", "blocked_by_cdn"),
            (.json(429, .null, headers: [("x-ratelimit-reset", "2")]), "rate_limited", "rate_limited"),
            (
                .json(429, .null, headers: [("x-daily-ratelimit-token-remaining", "0")]), "rate_limited",
                "daily_budget_spent"
            ),
            (.json(503, .null), "retry", "vendor_unavailable"),
            (.json(500, .null), "uncertain", "vendor_unavailable"),
            (.json(502, .null), "uncertain", "vendor_unavailable"),
            (
                .json(400, ["success": false, "error": "bad", "code": "ERR_SCHEMA_VALIDATION_FAILED"]), "rejected",
                "vendor_rejected"
            ),
            (.text(200, "<html>"), "uncertain", "answer_unreadable"),
            (.json(200, ["success": true, "data": nil]), "uncertain", "answer_unreadable"),
            (.fails(.maybeSent, "reset"), "uncertain", "vendor_unavailable"),
            (.fails(.neverSent, "connect_failed"), "retry", "vendor_unavailable"),
        ]

        @Test("each answer to the deal has its class and code (REA-01, REA-07, THR-14)", arguments: verdicts.indices)
        func classes(index: Int) async throws {
            let (answer, name, code) = Self.verdicts[index]
            let host = try #require(connected(Account(fault: { $0.step == "deal" ? answer : nil })))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver(payload()))
            #expect(done.body["records"]?[0]?["class"] == .string(name))
            #expect(done.body["records"]?[0]?["error"]?["code"] == .string(code))
            #expect(!host.sent.contains { $0.step == "note" })
            #expect(host.rejectedCredentials == (code == "credential_refused" ? ["api_token"] : []))
        }

        @Test("DEAL-11: a refusal while the stage is gone asks for a new target")
        func targetGone() async throws {
            let account = Account(fault: { $0.step == "deal" ? .json(400, ["success": false, "error": "stage"]) : nil })
            account.state.withLock { $0.stages = [] }
            let host = try #require(connected(account))
            defer { host.destroy() }
            let record = await host.run(MP_VERB_DELIVER, deliver(payload())).body["records"]?[0]
            #expect(record?["class"] == "config")
            #expect(record?["error"]?["code"] == "target_missing")
            #expect(record?["error"]?["pointer"] == "/stage_id")
        }
    }
}
