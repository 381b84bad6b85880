// SPDX-License-Identifier: Apache-2.0

public import MilepostConfiguration
import MilepostModel

/// What a working daemon knows to be wrong: connections, deliveries, plugins, its key, its disk.
public struct DaemonExamination {
    private let transport: any ClientTransport
    private let unloadable: Set<String>

    /// - Parameter unloadable: plugins that were found not to be installed as they must be; what the daemon says of that
    ///   is left out.
    public init(_ transport: any ClientTransport, unloadable: Set<String> = []) {
        self.transport = transport
        self.unloadable = unloadable
    }

    /// What was found, and where the connections send to by settings of their own.
    public struct Result: Sendable {
        public var findings: [Finding] = []
        /// Addresses among the connections' settings, each with whom it belongs to.
        public var targets: [(owner: String, url: String)] = []
        /// Plugins with a connection by consent, which fetch tokens.
        public var consented: Set<String> = []

        public init() {}
    }

    /// Asks the daemon, and has it ask each vendor whether settings still fit (TRB-09).
    ///
    /// - Throws: when the daemon does not tell its status; what is wrong is a finding.
    public func run() throws(ClientError) -> Result {
        var result = Result()
        let before = try ask("GET", "/v1/admin/status")
        result.findings += unchecked(before)
        let status = try ask("GET", "/v1/admin/status")
        let connections = status["connections"]?.array ?? []
        result.findings += (status["problems"]?.array ?? []).filter { !isSaidElsewhere($0, status) }.map {
            Self.finding($0, among: connections)
        }
        for connection in connections where connection["state"]?.string != "disconnected" {
            do throws(ClientError) {
                result.findings += try deliveries(of: connection)
            } catch {
                // One that cannot be asked about hides nothing of the others.
                result.findings.append(
                    Finding(
                        .connections, code: "deliveries_unread", severity: .warning,
                        what: "the deliveries of \(Self.name(of: connection)) could not be read", cause: error.detail,
                        cure: error.advice ?? "see 'milepost deliveries'"))
            }
            for (key, value) in (connection["settings"]?.object ?? [:]).sorted(by: { $0.key < $1.key }) {
                guard key == "url" || key.hasSuffix("_url"), let url = value.string, url.hasPrefix("http") else {
                    continue
                }
                result.targets.append((Self.name(of: connection), url))
            }
            if Self.isInstalled(connection), let plugin = connection["plugin"]?.string {
                result.consented.insert(plugin)
            }
        }
        result.findings += Self.pasted(status, connections)
        if !result.findings.contains(where: { $0.area == .connections && $0.severity == .problem }) {
            let active = connections.count { $0["state"]?.string == "active" }
            result.findings.append(
                Finding(.connections, code: "connections", severity: .ok, what: "\(active) connections work"))
        }
        return result
    }

    private func ask(_ method: String, _ path: String, query: [String: String?] = [:]) throws(ClientError) -> JSONValue
    {
        try transport.json(ClientRequest(method, path, query: query, body: method == "POST" ? Array("{}".utf8) : nil))
    }

    private static func name(of connection: JSONValue) -> String {
        "\(connection["workspace"]?.string ?? "?")/\(connection["integration"]?.string ?? "?")"
    }

    private static func isInstalled(_ connection: JSONValue) -> Bool {
        connection["oauth"] != nil && connection["oauth"] != .null
    }

    // MARK: What the daemon calls a problem

    /// States of plugins that are switched on and do not run, by their names.
    private static func down(_ status: JSONValue) -> [String: String] {
        var states: [String: String] = [:]
        for plugin in status["plugins"]?.array ?? [] {
            guard let name = plugin["name"]?.string, let state = plugin["state"]?.string,
                state != "loaded", state != "disabled"
            else { continue }
            states[name] = state
        }
        return states
    }

    /// One cause is said once: a plugin's refusal not beside what was found of its files, and a connection that waits for
    /// its plugin not beside the plugin's own problem.
    private func isSaidElsewhere(_ problem: JSONValue, _ status: JSONValue) -> Bool {
        let down = Self.down(status)
        let code = problem["code"]?.string ?? ""
        if code == "disabled", problem["reason_code"]?.string == "plugin_unavailable" {
            return down[Self.plugin(of: problem["integration"]?.string ?? "")] != nil
        }
        // A file that is not there, or is not taken; that it crashes is something else.
        guard code == "plugin_refused" || code == "plugin_absent" else { return false }
        return problem["plugin"]?.string.map(unloadable.contains) ?? false
    }

    /// `crm@second` is a connection of `crm`.
    private static func plugin(of integration: String) -> String {
        integration.split(separator: "@").first.map(String.init) ?? integration
    }

    private static func finding(_ problem: JSONValue, among connections: [JSONValue]) -> Finding {
        let code = problem["code"]?.string ?? "problem"
        let connection = connections.first {
            $0["workspace"] == problem["workspace"] && $0["integration"] == problem["integration"]
        }
        let isInstalled = connection.map(isInstalled) ?? false
        // The state says what to do, its reason what happened.
        let trouble =
            ["disabled", "needs_reauth"].contains(code)
            ? Trouble.of(problem["reason_code"]?.string ?? code, isInstalled: isInstalled) : nil
        let known = trouble?.cause == nil ? Trouble.of(code, isInstalled: isInstalled) : trouble ?? .of(code)
        // A connection's warnings are for reading, but for those that the table of troubles has, and settings that do not fit.
        let isWarning =
            problem["severity"]?.string == "warning" && known.reference == nil && !code.hasPrefix("setting_")
        return Finding(
            known.area, code: code, severity: isWarning ? .warning : .problem, what: problem["message"]?.string ?? code,
            cause: known.cause ?? "the daemon says so",
            cure: problem["cure"]?.string ?? Advice.cure(for: code) ?? "see 'milepost status'",
            reference: known.reference)
    }

    // MARK: Deliveries

    private struct Group: Hashable {
        var state: String
        var code: String
    }

    /// Deliveries looked at for each connection, newest first: enough to name what is wrong.
    private static let sample = 200

    /// Dead letters, and what is tried again, by what their reason is.
    private func deliveries(of connection: JSONValue) throws(ClientError) -> [Finding] {
        let queue = connection["queue"]
        let (dead, retrying) = (queue?["dead"]?.integer ?? 0, queue?["retrying"]?.integer ?? 0)
        guard dead + retrying > 0, let workspace = connection["workspace"]?.string,
            let integration = connection["integration"]?.string
        else { return [] }
        let page = try ask(
            "GET", ClientRequest.path("v1", "workspaces", workspace, "deliveries"),
            query: ["integration": integration, "state": "dead,retrying", "limit": "\(Self.sample)"])
        var groups: [Group: [JSONValue]] = [:]
        for delivery in page["deliveries"]?.array ?? [] {
            guard let state = delivery["state"]?.string else { continue }
            groups[Group(state: state, code: delivery["reason_code"]?.string ?? "unknown"), default: []].append(
                delivery)
        }
        let isWhole = dead + retrying <= Self.sample
        return groups.sorted { ($0.key.state, $0.key.code) < ($1.key.state, $1.key.code) }.map { group, deliveries in
            let count = (isWhole ? "" : "at least ") + "\(deliveries.count)"
            let said = deliveries.compactMap { $0["reason"]?.string }.first ?? "no reason was given"
            let known = Trouble.of(group.code, isInstalled: Self.isInstalled(connection))
            let flags = "--integration \(integration) --code \(group.code) -w \(workspace)"
            if group.state == "dead" {
                let cure = Advice.cure(for: group.code) ?? "mend what the reason names"
                return Finding(
                    known.area, code: group.code, severity: .problem,
                    what: "\(Self.name(of: connection)): dead letters, \(count), with \(group.code)", cause: said,
                    cure: "\(cure); then 'milepost replay \(flags)'", reference: known.reference)
            }
            let next = deliveries.compactMap { $0["next_attempt_at"]?.string }.min() ?? "the next tick"
            return Finding(
                known.area, code: group.code, severity: known.reference == nil ? .warning : .problem,
                what: "\(Self.name(of: connection)): \(count) are tried again, the first at \(next)",
                cause: known.cause.map { "\($0): \(said)" } ?? said,
                cure: known.reference == "TRB-07"
                    ? "nothing: sending resumes by itself at \(next), as the vendor's header says; raise rate_plan only if "
                        + "the vendor's plan allows more"
                    : Advice.cure(for: group.code) ?? "nothing yet: they are tried again by themselves",
                reference: known.reference)
        }
    }

    // MARK: Settings and credentials

    /// Has the vendors asked whether settings still fit; what does not is among the daemon's problems afterwards.
    private func unchecked(_ status: JSONValue) -> [Finding] {
        let down = Self.down(status)
        return (status["connections"]?.array ?? []).compactMap { connection in
            // Without its plugin nobody can be asked, which is no fault of the vendor.
            guard connection["state"]?.string == "active", let integration = connection["integration"]?.string,
                let workspace = connection["workspace"]?.string, down[Self.plugin(of: integration)] == nil
            else { return nil }
            do throws(ClientError) {
                _ = try ask(
                    "POST",
                    ClientRequest.path("v1", "workspaces", workspace, "integrations", integration, "check"))
                return nil
            } catch {
                return Finding(
                    .connections, code: "settings_unchecked", severity: .warning,
                    what: "whether the settings of \(workspace)/\(integration) still fit is not known",
                    cause: error.detail,
                    cure: error.advice ?? "milepost integrations check \(integration) -w \(workspace)")
            }
        }
    }

    /// Z-18: a pasted token has all rights of its user and ends with them; an installation has those that were consented to.
    private static func pasted(_ status: JSONValue, _ connections: [JSONValue]) -> [Finding] {
        let installable = (status["plugins"]?.array ?? []).filter { plugin in
            (plugin["auth"]?.array ?? []).contains { $0["scheme"]?.string == "oauth2" }
        }.compactMap { $0["name"]?.string }
        return connections.compactMap { connection in
            guard let plugin = connection["plugin"]?.string, installable.contains(plugin),
                connection["oauth"] == .null, connection["state"]?.string != "disconnected",
                let integration = connection["integration"]?.string, let workspace = connection["workspace"]?.string
            else { return nil }
            return Finding(
                .connections, code: "oauth_recommended", severity: .warning,
                what: "\(workspace)/\(integration) holds a pasted token",
                cause: "such a token may do whatever its user may, and marketplaces demand OAuth",
                cure: "milepost connect \(integration) --oauth -w \(workspace)")
        }
    }
}
