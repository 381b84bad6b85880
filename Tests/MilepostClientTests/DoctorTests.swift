// SPDX-License-Identifier: Apache-2.0

import MilepostClient
import MilepostConfiguration
import MilepostModel
import Synchronization
import Testing

/// Tells its status, and nothing else.
private struct HalfDaemon: ClientTransport {
    func send(_ request: ClientRequest) throws(ClientError) -> ClientResponse {
        guard request.path == "/v1/admin/status" else {
            throw ClientError(code: "not_found", detail: "gone", status: 404)
        }
        let status: JSONValue = [
            "connections": [
                [
                    "workspace": "acme", "integration": "crm", "plugin": "crm", "state": "needs_reauth",
                    "queue": ["dead": 1, "retrying": 0],
                ]
            ],
            "problems": [
                [
                    "code": "needs_reauth", "severity": "problem", "message": "it waits", "workspace": "acme",
                    "integration": "crm",
                ]
            ],
        ]
        return ClientResponse(status: 200, body: status.bytes)
    }
}

/// A plugin does not run, and a connection of it counts as active for some moments more. It notes what it is asked.
private final class PluginlessDaemon: ClientTransport {
    let pluginState: String
    var asked: [String] = []

    init(pluginState: String) { self.pluginState = pluginState }

    func send(_ request: ClientRequest) throws(ClientError) -> ClientResponse {
        asked.append(request.path)
        let status: JSONValue = [
            "plugins": [["name": "crm", "state": .string(pluginState)]],
            "connections": [
                ["workspace": "acme", "integration": "crm@two", "plugin": "crm", "state": "active"],
                ["workspace": "acme", "integration": "crm", "plugin": "crm", "state": "disabled"],
            ],
            "problems": [
                [
                    "code": "disabled", "message": "acme/crm is disabled", "workspace": "acme", "integration": "crm",
                    "reason_code": "plugin_unavailable",
                ],
                ["code": .string("plugin_\(pluginState)"), "plugin": "crm", "message": "Plugin crm: there is no file"],
            ],
        ]
        return ClientResponse(status: 200, body: status.bytes)
    }
}

@Suite("what doctor makes of what it sees")
struct DoctorTests {
    private static let now = Timestamp(rfc3339: "2026-11-21T12:00:00Z")!

    private static func reach(_ probe: @escaping (String, Probe.Kind) -> Probe) -> ReachExamination {
        ReachExamination(now: { now }, probe: probe)
    }

    private static func api(_ url: String, isForTokens: Bool = false) -> VendorEndpoint {
        VendorEndpoint(plugin: "acme", name: "api", url: url, isForTokens: isForTokens)
    }

    @Test(
        "a minute of skew is borne either way, and the second that a date is cut by; more is a problem",
        arguments: [(0, nil), (60, nil), (-61, nil), (61, "behind"), (-62, "ahead of"), (7200, "behind")])
    func skew(seconds: Int64, side: String?) throws {
        let found = try Self.reach { _, _ in
            Probe(outcome: .reached, status: 404, date: Self.now + .seconds(seconds))
        }.outward(endpoints: [Self.api("https://api.example/v1")], consented: [], targets: [])
        let clock = try #require(found.first { $0.area == .clock })
        #expect(clock.severity == (side == nil ? .ok : .problem), "\(clock)")
        if let side { #expect(clock.what.contains("s \(side) that of api.example")) }
    }

    @Test("an origin is looked at once, tokens' only where some are fetched, and settings' addresses without a request")
    func once() throws {
        let asked = Mutex<[String]>([])
        let reach = Self.reach { url, kind in
            asked.withLock { $0.append("\(kind) \(url)") }
            return Probe(outcome: .reached)
        }
        let tokens = VendorEndpoint(plugin: "acme", name: "oauth", url: "https://oauth.example", isForTokens: true)
        let endpoints = [Self.api("https://api.example/v1"), Self.api("https://api.example/v2"), tokens]
        _ = try reach.outward(
            endpoints: endpoints, consented: [], targets: [("ws/hook", "https://user:pass@hooks.example/in?x=1")])
        #expect(
            asked.withLock { $0 } == [
                "head https://api.example/", "connection https://hooks.example/",
            ])
        let found = try reach.outward(endpoints: endpoints, consented: ["acme"], targets: [])
        #expect(found.contains { $0.what.contains("oauth.example") })
    }

    @Test("no finding repeats what stands before an @ in an address")
    func userinfo() throws {
        for outcome in [Probe.Outcome.unresolved, .certificate, .silent, .reached] {
            let found = try Self.reach { _, _ in Probe(outcome: outcome, detail: "no") }
                .outward(endpoints: [], consented: [], targets: [("ws/hook", "https://user:secret@hooks.example/in")])
            #expect(!found.isEmpty && !"\(found.map(\.json))".contains("secret"), "\(outcome)")
        }
    }

    @Test("more addresses than it has patience for are not passed over in silence")
    func many() throws {
        let asked = Mutex(0)
        let found = try Self.reach { _, _ in
            asked.withLock { $0 += 1 }
            return Probe(outcome: .silent)
        }.outward(
            endpoints: [], consented: [],
            targets: (0..<200).map { (owner: "ws/hook@\($0)", url: "https://h\($0).example") })
        #expect(asked.withLock { $0 } == ReachExamination.maximumOrigins)
        #expect(found.last?.code == "not_reached")
    }

    @Test("TRB-05: what is not public by its name")
    func names() {
        for host in [
            "localhost", "127.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.9.9", "192.168.0.1", "169.254.1.1", "0.0.0.0",
            "[::1]", "[fe80::1]", "[fd00::1]", "intranet", "crm.local", "a.internal",
        ] { #expect(ReachExamination.isInternal(host), "\(host)") }
        for host in ["clicks.example.com", "172.32.0.1", "8.8.8.8", "[2001:db8::1]", "fdic.example", "10.example.com"] {
            #expect(!ReachExamination.isInternal(host), "\(host)")
        }
    }

    @Test(
        "TRB-05: a public address is ours only when a milepostd answers there",
        arguments: [
            (200, #"{"status":"ok","role":"active"}"#, true), (200, "<html>", false),
            (200, #"{"status":"down"}"#, false),
            (404, #"{"status":"ok"}"#, false), (200, "", false),
        ])
    func inward(status: Int, body: String, isOurs: Bool) throws {
        for address in ["https://clicks.example.com", "https://clicks.example.com/"] {
            let found = try Self.reach { url, kind in
                #expect(url == "https://clicks.example.com/healthz" && kind == .body)
                return Probe(outcome: .reached, status: status, body: Array(body.utf8))
            }.inward(publicURL: address)
            #expect(found.map(\.code) == [isOurs ? "public_url" : "webhook_unreachable"])
            #expect(found.first?.reference == (isOurs ? nil : "TRB-05"))
            // The settings' table has no "reload" for it.
            #expect(isOurs || found.first?.cure.contains("restart of milepostd") == true)
        }
    }

    @Test(
        "a port that is taken is the daemon's when it has answered or answers there, else a problem",
        arguments: [
            (true, Probe(outcome: .silent), "port"), (false, Probe(outcome: .silent), "port_taken"),
            (false, Probe(outcome: .reached, status: 404, body: Array("<html>".utf8)), "port_taken"),
            (false, Probe(outcome: .reached, status: 200, body: Array(#"{"status":"ok"}"#.utf8)), "port"),
        ])
    func taken(isAnswered: Bool, answer: Probe, code: String) throws {
        let found = try Self.reach { url, kind in
            #expect(url == "http://[::1]:8787/healthz" && kind == .body && !isAnswered)
            return answer
        }.taken([ListenAddress(host: "::1", port: 8787)], isAnswered: isAnswered)
        #expect(found.map(\.code) == [code] && found[0].severity == (code == "port" ? .ok : .problem))
        if code == "port_taken" { #expect(found[0].cure.contains("ss -ltnp") && found[0].cure.contains("'listen'")) }
    }

    @Test("deliveries that cannot be read hide nothing of what the daemon calls a problem")
    func unreadDeliveries() throws {
        let found = try DaemonExamination(HalfDaemon()).run().findings
        #expect(found.contains { $0.code == "needs_reauth" && $0.severity == .problem && $0.reference == "TRB-01" })
        #expect(found.contains { $0.code == "deliveries_unread" && $0.severity == .warning && $0.cause == "gone" })
    }

    @Test(
        "a plugin that does not run is said once, and no vendor is asked through it",
        arguments: [
            ("refused", ["crm"], []), ("refused", [], ["plugin_refused"]), ("absent", ["crm"], []),
            ("quarantined", ["crm"], ["plugin_quarantined"]), ("disabled", [], ["disabled", "plugin_disabled"]),
        ] as [(String, Set<String>, [String])])
    func pluginDown(state: String, unloadable: Set<String>, codes: [String]) throws {
        let daemon = PluginlessDaemon(pluginState: state)
        let found = try DaemonExamination(daemon, unloadable: unloadable).run().findings
        #expect(found.filter { $0.severity != .ok }.map(\.code) == codes, "\(found)")
        #expect(daemon.asked.contains { $0.hasSuffix("/check") } == (state == "disabled"))
    }

    @Test("a manifest's endpoints: overrides win, browsers' pages are left out, tokens' are marked")
    func endpoints() {
        let manifest: JSONValue = [
            "endpoints": [
                "api": ["default": "https://api.example"], "oauth": ["default": "https://oauth.example"],
                "app": ["default": "https://app.example"], "own": ["default": "https://{domain}.example"],
            ],
            "auth": [
                ["scheme": "oauth2", "authorize": ["endpoint": "app"], "token": ["endpoint": "oauth"]],
                ["scheme": "api_key"],
            ],
        ]
        let found = VendorEndpoint.all(
            in: manifest, of: "acme", overrides: ["api": "http://127.0.0.1:1", "more": "https://m"])
        #expect(
            found.map { "\($0.name) \($0.url) \($0.isForTokens)" } == [
                "api http://127.0.0.1:1 false", "more https://m false", "oauth https://oauth.example true",
            ])
        let single: JSONValue = [
            "endpoints": ["api": ["default": "https://api.example"]],
            "auth": [["scheme": "oauth2", "authorize": ["endpoint": "api"], "token": ["endpoint": "api"]]],
        ]
        #expect(VendorEndpoint.all(in: single, of: "acme", overrides: [:]).map(\.isForTokens) == [false])
        for strange: JSONValue in [.null, [], ["endpoints": "x", "auth": [1]], ["endpoints": ["a": ["default": 5]]]] {
            #expect(VendorEndpoint.all(in: strange, of: "acme", overrides: [:]).isEmpty)
        }
    }

    @Test("the page ends with how it is, and shows the reader the row of the table")
    func page() {
        let terminal = Terminal(isInteractive: false, hasColours: false)
        let fine = Finding(.disk, code: "disk_space", severity: .ok, what: "9 MiB are free")
        let odd = Finding(.dns, code: "x", severity: .warning, what: "odd", cause: "c", cure: "do")
        let wrong = Finding(
            .connections, code: "y", severity: .problem, what: "bad \u{1b}[31m", cause: "because", cure: "mend",
            reference: "TRB-04")
        #expect(DoctorReport(findings: [fine]).page(terminal).hasSuffix("\nnothing is wrong"))
        #expect(DoctorReport(findings: [fine, odd]).page(terminal).hasSuffix("nothing is wrong; warnings: 1"))
        let report = DoctorReport(findings: [wrong, odd, fine])
        let text = report.page(terminal)
        #expect(report.hasProblem && text.hasSuffix("problems: 1; warnings: 1"))
        #expect(text.hasPrefix("ok  disk: 9 MiB are free") && text.contains("TRB-04 in the administrator's guide"))
        #expect(!text.contains("\u{1b}"))
        #expect(report.json["healthy"] == false && report.json["findings"]?.array?.first?["area"] == "connections")
    }
}
