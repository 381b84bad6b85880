// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import HubSpot
import MilepostKit
import MilepostKitTesting
import Synchronization
import Testing

extension Serialized {
    @Suite("connecting and configuring", .timeLimit(.minutes(1)))
    struct ConnectTests {
        func warning(_ done: Completion, _ code: String) -> String? {
            (done.body["warnings"]?.array ?? []).first { $0["code"]?.string == code }?["message"]?.string
        }

        @Test("HCON-03, PAT-01, PAT-05: connect finds the portal, changes nothing and says what is in use")
        func connects() async throws {
            let portal = Portal()
            let host = try #require(connected(portal, account: .null))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_CONNECT, ["settings": [:]])
            #expect(done.body["account"]?["id"] == "62515")
            #expect(done.body["missing_scopes"] == [])
            // Nothing but look-ups and batches of nothing.
            #expect(host.sent.allSatisfy { $0.isIdempotent && ($0.method == "GET" || $0.body == ["inputs": []]) })
            #expect(host.sent.allSatisfy { $0.credential == "private_app_token" })
            #expect(warning(done, "timeline_backend")?.contains("note") == true)
            #expect(warning(done, "timeline_backend")?.contains("app_event_type is not set") == true)
            #expect(warning(done, "private_app") != nil)
            #expect(portal.state.withLock { $0.events.isEmpty && $0.notes.isEmpty })
        }

        @Test("Z-06: auto takes timeline events of a known template first, then app events, then custom events")
        func order() async throws {
            func chosen(_ settings: JSONValue, _ change: (inout Portal.State) -> Void = { _ in }) async throws -> String
            {
                let host = try #require(connected(Portal(change), settings: settings))
                defer { host.destroy() }
                let text = warning(await host.run(MP_VERB_CONNECT, ["settings": settings]), "timeline_backend") ?? ""
                return ["timeline_v3", "app_events", "custom_events", "note"].first { text.contains("by " + $0 + ":") }
                    ?? text
            }
            let all: JSONValue = [
                "timeline_template_id": "1", "app_event_type": "a", "custom_event_name": "pe1_x",
            ]
            #expect(try await chosen(all) == "timeline_v3")
            #expect(try await chosen(all) { $0.scopes = ["crm.objects.contacts.write"] } == "app_events")
            #expect(
                try await chosen(all) {
                    $0.scopes = ["crm.objects.contacts.write"]
                    $0.hasAppEvents = false
                } == "custom_events")
        }

        @Test("HCON-03, Z-05: missing scopes are named, those that the host knows and those that only asking tells")
        func scopes() async throws {
            let asked = try #require(connected(Portal({ $0.scopes = ["timeline"] }), settings: template))
            let done = await asked.run(MP_VERB_CONNECT, ["settings": template])
            asked.destroy()
            #expect(done.body["missing_scopes"] == ["crm.objects.contacts.write"])
            #expect(warning(done, "scopes_missing")?.contains("crm.objects.contacts.write") == true)
            let told = try #require(connected(Portal(), credential: "oauth"))
            defer { told.destroy() }
            told.setFacts(["scopes": ["oauth", "timeline"], "account": "62515"], of: "oauth")
            let other = await told.run(MP_VERB_CONNECT, ["settings": ["deal_counter": true]])
            #expect(
                other.body["missing_scopes"] == ["crm.objects.contacts.write", "crm.objects.deals.write"])
        }

        @Test("HCON-05: an installed app without a template waits for it, and says how to make it")
        func waiting() async throws {
            let host = try #require(connected(Portal(), credential: "oauth", app: ["id": "54321"]))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_CONNECT, ["settings": [:]])
            #expect(warning(done, "timeline_backend")?.contains("milepost provision hubspot --app") == true)
        }

        @Test("a portal that may not be asked for is taken from the grant")
        func portalOfGrant() async throws {
            let host = try #require(
                connected(Portal({ $0.hasAccountInfo = false }), credential: "oauth", account: .null))
            defer { host.destroy() }
            #expect(await host.run(MP_VERB_CONNECT, [:]).status == MP_REJECTED)
            host.setFacts(["account": "777"], of: "oauth")
            #expect(await host.run(MP_VERB_CONNECT, [:]).body["account"]?["id"] == "777")
        }

        @Test(
            "configure refuses settings that do not fit, by pointer, and asks nobody",
            arguments: [
                ("timeline_backend", "fax", "/timeline_backend"), ("timeline_backend", "app_events", "/app_event_type"),
                ("timeline_backend", "custom_events", "/custom_event_name"),
                ("timeline_template_id", "12x", "/timeline_template_id"),
                ("property_prefix", "Elido", "/property_prefix"),
                ("property_prefix", "1x", "/property_prefix"), ("property_prefix", "hs_analytics", "/property_prefix"),
                ("api", "v9", "/api"), ("rate_plan", "huge", "/rate_plan"),
                ("oauth_generation", "v2", "/oauth_generation"),
                ("contact_properties", "yes", "/contact_properties"), ("counter_property", "A b", "/counter_property"),
                ("event_title", String(repeating: "x", count: 256), "/event_title"),
            ])
        func refused(name: String, value: String, pointer: String) async throws {
            let host = try #require(connected(Portal()))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_CONFIGURE, ["settings": .object([name: .string(value)])])
            #expect(done.body["errors"]?.array?.map { $0["pointer"] } == [.string(pointer)])
            #expect(host.sent.isEmpty)
        }

        @Test("a mapping of an unknown field, a bad name and one name twice are refused")
        func badMappings() {
            func pointers(_ mapping: JSONValue) -> [String] {
                Settings.read(["property_mapping": mapping]).errors.map(\.pointer)
            }
            #expect(pointers(["colour": "x"]) == ["/property_mapping/colour"])
            #expect(pointers(["term": "A-b"]) == ["/property_mapping/term"])
            #expect(pointers(["term": "same", "content": "same"]) == ["/property_mapping/content"])
            #expect(pointers("x") == ["/property_mapping"])
        }

        @Test("the manifest's defaults, plans, generations and settings are those of the code")
        func manifest() throws {
            let manifest = try JSONValue(parsing: HubSpotPlugin.manifest)
            #expect(manifest["endpoints"]?["api"]?["default"] == "https://api.hubapi.com")
            let properties = manifest["config_schema"]?["properties"]
            func choices(_ name: String) -> [String]? { properties?[name]?["enum"]?.array?.compactMap(\.string) }
            #expect(choices("rate_plan") == Settings.ratePlans)
            #expect(choices("timeline_backend") == Settings.Backend.allCases.map(\.rawValue))
            #expect(choices("api") == Settings.Generation.allCases.map(\.rawValue))
            #expect(choices("oauth_generation").map { Set($0) } == Set(Settings.tokenGenerations))
            #expect(properties?["property_prefix"]?["default"]?.string == PropertyNames.standardPrefix)
            #expect(properties?["event_title"]?["default"]?.string == TimelineEvent.standardTitle)
            #expect(manifest["rate_limits"]?[0]?["presets"]?.object?.keys.sorted() == Settings.ratePlans.sorted())
            let mapped = properties?["property_mapping"]?["properties"]?.object?.keys.sorted()
            #expect(mapped == UTMField.allCases.map(\.rawValue).sorted())
        }

        @Test(
            "HCON-02, Z-05: the base scopes are the three of the product and oauth; each extra has its feature and reason"
        )
        func manifestScopes() throws {
            let scopes = try JSONValue(parsing: HubSpotPlugin.manifest)["auth"]?[0]?["scopes"]
            #expect(
                scopes?["base"] == ["oauth", "crm.objects.contacts.write", "crm.objects.deals.read", "timeline"])
            for extra in scopes?["features"]?.array ?? [] {
                #expect(extra["feature"]?.string?.isEmpty == false && extra["reason"]?.string?.isEmpty == false)
            }
        }

        @Test("RULE-21: pickers list pipelines, stages, owners and properties, in HubSpot's order")
        func pickers() async throws {
            let portal = Portal({
                $0.properties["contacts"]?["hs_analytics_source"] = Portal.definition("hs_analytics_source")
            })
            let host = try #require(connected(portal))
            defer { host.destroy() }
            func values(_ body: JSONValue) async -> [JSONValue] {
                (await host.run(MP_VERB_OPTIONS, body).body["items"]?.array ?? []).compactMap { $0["value"] }
            }
            #expect(await values(["picker": "pipelines"]) == ["default", "second"])
            #expect(
                await values(["picker": "stages", "values": ["pipeline": "default"]]) == [
                    "appointmentscheduled", "qualifiedtobuy", "closedwon",
                ])
            #expect(await values(["picker": "owners", "page": "p1"]) == ["7"])
            #expect(host.sent.last?.url.hasSuffix("/crm/v3/owners/?limit=100&after=p1") == true)
            let items = await host.run(MP_VERB_OPTIONS, ["picker": "properties", "search": "analytics"]).body["items"]
            #expect(items?[0]?["disabled"] == true && items?.array?.count == 1)
            #expect(await host.run(MP_VERB_OPTIONS, ["picker": "stages"]).body["pointer"] == "/pipeline")
            #expect(await host.run(MP_VERB_OPTIONS, ["picker": "colours"]).body["code"] == "picker_unknown")
        }

        @Test("a dated generation of the API has paths of its own")
        func generation() async throws {
            let host = try #require(
                connected(Portal(fault: { _ in .json(200, ["results": []]) }), settings: ["api": "2026-09"]))
            defer { host.destroy() }
            _ = await host.run(MP_VERB_OPTIONS, ["picker": "pipelines"])
            _ = await host.run(MP_VERB_OPTIONS, ["picker": "properties"])
            #expect(
                host.sent.map(\.url) == [
                    "https://api.hubapi.com/crm/pipelines/2026-09/deals",
                    "https://api.hubapi.com/crm/properties/2026-09/contacts",
                ])
        }
    }

    @Suite("what answers mean", .timeLimit(.minutes(1)))
    struct VerdictTests {
        struct Case: Sendable {
            var status: Int
            var body: JSONValue
            var headers: [(String, String)] = []
            var credential = "oauth"
            var kind: String
            var code: String
            var wait: Int64?
        }
        static let cases: [Case] = [
            Case(
                status: 401, body: ["category": "EXPIRED_AUTHENTICATION"], kind: "auth_expired", code: "token_expired"),
            Case(
                status: 401, body: ["category": "INVALID_AUTHENTICATION"], kind: "auth_expired",
                code: "credential_refused"),
            Case(
                status: 401, body: ["category": "INVALID_AUTHENTICATION"], credential: "private_app_token",
                kind: "auth_revoked", code: "credential_refused"),
            Case(
                status: 403,
                body: [
                    "category": "MISSING_SCOPES", "errors": [["context": ["requiredGranularScopes": ["timeline"]]]],
                ], kind: "config", code: "permission_missing"),
            Case(status: 423, body: .null, kind: "retry", code: "record_locked", wait: 2_000),
            Case(
                status: 477, body: .null, headers: [("Retry-After", "7200")], kind: "retry", code: "account_moving",
                wait: 7_200_000),
            Case(
                status: 429, body: ["policyName": "TEN_SECONDLY_ROLLING"],
                headers: [("X-HubSpot-RateLimit-Interval-Milliseconds", "10000")], kind: "rate_limited",
                code: "rate_limited", wait: 10_000),
            Case(
                status: 429, body: ["policyName": "DAILY"], kind: "rate_limited", code: "daily_budget_spent",
                wait: 3_600_000),
            Case(
                status: 429, body: ["policyName": "SECONDLY"], kind: "rate_limited", code: "rate_limited", wait: 1_000),
            Case(status: 502, body: .null, kind: "retry", code: "vendor_unavailable"),
            Case(
                status: 503, body: .null, headers: [("retry-after", "9")], kind: "retry", code: "vendor_unavailable",
                wait: 9_000),
            Case(status: 524, body: .null, kind: "retry", code: "vendor_unavailable"),
            Case(status: 414, body: .null, kind: "rejected", code: "vendor_rejected"),
            Case(
                status: 400, body: ["category": "VALIDATION_ERROR", "message": "No."], kind: "rejected",
                code: "vendor_rejected"),
        ]

        @Test(
            "TRB-08, RATE-06, PROV: every class of answer has its verdict, alone and in a batch",
            arguments: cases.indices)
        func classes(index: Int) async throws {
            let expected = Self.cases[index]
            let portal = Portal(fault: { _ in .json(expected.status, expected.body, headers: expected.headers) })
            let host = try #require(connected(portal, settings: template, credential: expected.credential))
            defer { host.destroy() }
            for count in [1, 3] {
                let done = await host.run(
                    MP_VERB_DELIVER, deliver("timeline_event", (0..<count).map { click("k\($0)") }))
                #expect(done.classes == Array(repeating: expected.kind, count: count))
                #expect(done.record(count - 1)["error"]?["code"]?.string == expected.code)
                if let wait = expected.wait { #expect(done.record(0)["error"]?["retry_after_ms"]?.int == wait) }
            }
            if expected.status == 401 { #expect(host.rejectedCredentials.contains(expected.credential)) }
        }

        @Test("TRB-08: a broken refresh chain offers the reinstall, a missing scope names itself")
        func sentences() async throws {
            func message(_ body: JSONValue, _ status: Int) async throws -> String {
                let host = try #require(
                    connected(Portal(fault: { _ in .json(status, body) }), settings: template, credential: "oauth"))
                defer { host.destroy() }
                let done = await host.run(MP_VERB_DELIVER, deliver("timeline_event", [click("a")]))
                return done.record(0)["error"]?["message"]?.string ?? ""
            }
            #expect(try await message(["category": "INVALID_AUTHENTICATION"], 401).contains("Reinstall"))
            let scopes: JSONValue = [
                "category": "MISSING_SCOPES",
                "errors": [["context": ["requiredGranularScopes": ["crm.objects.deals.write"]]]],
            ]
            #expect(try await message(scopes, 403).contains("crm.objects.deals.write"))
        }

        @Test("a cut connection is tried again: everything but a note may be sent twice")
        func cut() async throws {
            let host = try #require(
                connected(Portal(fault: { _ in .fails(.maybeSent, "reset") }), settings: template))
            defer { host.destroy() }
            #expect(await host.run(MP_VERB_DELIVER, deliver("timeline_event", [click("a")])).classes == ["retry"])
            #expect(await host.run(MP_VERB_DELIVER, deliver("contact_properties", [touch("a")])).classes == ["retry"])
        }

        @Test("an action that does not exist is refused")
        func unknownAction() async throws {
            let host = try #require(connected(Portal()))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver("fax", [click("a")]))
            #expect(done.status == MP_REJECTED && done.body["code"] == "action_unknown")
        }
    }
}
