// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
public import MilepostConfiguration
import MilepostModel

/// Compares files with the daemon and carries the difference out, through the same REST routes that everybody uses.
public struct Application<Transport: ClientTransport> {
    private let transport: Transport
    /// By object and credential; in clear, only as long as the run.
    private var secrets: [ApplyKey: [String: String]] = [:]
    private let desired: DesiredState

    /// - Parameter environment: where references to variables are looked up.
    /// - Throws: every secret that is not there, with the line that names it.
    public init(
        _ desired: DesiredState, over transport: Transport, environment: [String: String]
    ) throws(ConfigurationError) {
        self.desired = desired
        self.transport = transport
        var issues: [ConfigurationIssue] = []
        for object in desired.objects {
            for (name, reference) in object.secrets.sorted(by: { $0.key < $1.key }) {
                do throws(SecretProblem) {
                    secrets[ApplyKey(object), default: [:]][name] = try reference.value(environment)
                } catch {
                    issues.append(
                        ConfigurationIssue(
                            code: .unreadable, file: object.source, line: reference.field.line,
                            message: "\(reference.field.place): \(error.message)"))
                }
            }
        }
        guard issues.isEmpty else { throw ConfigurationError(issues: issues) }
    }

    /// Asks what is there; changes nothing.
    public func plan(prunes: Bool) throws(ClientError) -> ApplyPlan {
        ApplyPlan(desired: desired, current: try current(), prunes: prunes)
    }

    // MARK: Looking

    private func current() throws(ClientError) -> CurrentState {
        var state = CurrentState()
        for item in try transport.json(ClientRequest("GET", "/v1/admin/managed"))["managed"]?.array ?? [] {
            // A kind that this command does not know yet is a newer daemon's, and none of these files' business.
            guard let kind = item["kind"]?.string.flatMap(ManagedObject.Kind.init(rawValue:)) else { continue }
            let key = ApplyKey(
                kind: kind, workspace: item["workspace"]?.string ?? "", name: item["name"]?.string ?? "")
            state.managed[key] = CurrentState.Managed(
                source: item["source"]?.string ?? "", document: item["document"]?.object ?? [:])
        }
        if desired.objects.contains(where: { $0.kind == .plans }) {
            let answer = try transport.json(ClientRequest("GET", "/v1/admin/plans"))
            if answer["source"]?.string == "api" {
                state.found[ApplyKey(kind: .plans, workspace: "", name: "")] = answer["plans"]?.object ?? [:]
            }
        }
        try lookAtWorkspaces(&state)
        return state
    }

    private func lookAtWorkspaces(_ state: inout CurrentState) throws(ClientError) {
        guard desired.objects.contains(where: { !$0.workspace.isEmpty }) else { return }
        let known = try transport.json(ClientRequest("GET", "/v1/workspaces"))["workspaces"]?.array ?? []
        let plans = Dictionary(
            known.compactMap { item in item["id"]?.string.map { ($0, item["plan"] ?? .null) } },
            uniquingKeysWith: { first, _ in first })
        for (workspace, plan) in plans where plan != .null {
            state.found[ApplyKey(kind: .workspace, workspace: workspace, name: "")] = ["plan": plan]
        }
        let asked = Set(desired.objects.filter { $0.kind == .connection }.map(\.workspace))
        for workspace in asked.sorted() where plans[workspace] != nil {
            let answer = try transport.json(
                ClientRequest("GET", ClientRequest.path("v1", "workspaces", workspace, "integrations")))
            for item in answer["integrations"]?.array ?? [] where item["state"]?.string != "disconnected" {
                let key = ApplyKey(kind: .connection, workspace: workspace, name: item["integration"]?.string ?? "")
                state.found[key] = item["settings"]?.object ?? [:]
            }
        }
        try lookAtRules(in: Set(plans.keys), &state)
        for (key, given) in secrets.sorted(by: { $0.key < $1.key }) where state.found[key] != nil {
            let answer = try transport.json(
                ClientRequest(
                    "POST", ClientRequest.path("v1", "workspaces", key.workspace, "integrations", key.name, "compare"),
                    json: .object(["credentials": .object(given.mapValues(JSONValue.string))])))
            state.differentCredentials[key] = Set((answer["different"]?.array ?? []).compactMap(\.string))
        }
    }

    private func lookAtRules(in known: Set<String>, _ state: inout CurrentState) throws(ClientError) {
        let asked = Set(desired.objects.filter { $0.kind == .rule }.map(\.workspace)).intersection(known)
        for workspace in asked.sorted() {
            let answer = try transport.json(
                ClientRequest("GET", ClientRequest.path("v1", "workspaces", workspace, "rules")))
            for item in answer["rules"]?.array ?? [] {
                let key = ApplyKey(kind: .rule, workspace: workspace, name: item["id"]?.string ?? "")
                state.found[key] = item.object ?? [:]
            }
        }
    }

    // MARK: Doing

    /// Carries one step out. Steps are independent: one that fails leaves the others to be done.
    public func perform(_ step: ApplyStep) throws(ClientError) {
        guard step.action != .leave else { return }
        let request = request(for: step)
        _ = try transport.json(request)
    }

    private func request(for step: ApplyStep) -> ClientRequest {
        let file = ["managed_by": step.source]
        let key = step.key
        switch (key.kind, step.action) {
        case (.plans, _):
            let plans = step.desired?.document ?? [:]
            return ClientRequest("PUT", "/v1/admin/plans", query: file, json: ["plans": .object(plans)])
        case (.workspace, _):
            let plan = step.desired?.document["plan"] ?? .null
            return ClientRequest(
                "PUT", ClientRequest.path("v1", "workspaces", key.workspace), query: file, json: ["plan": plan])
        case (.rule, let action):
            // A rule is replaced whole: what the file does not name has its default.
            let path = ClientRequest.path("v1", "workspaces", key.workspace, "rules", key.name)
            guard action != .remove else { return ClientRequest("DELETE", path, query: file) }
            return ClientRequest("PUT", path, query: file, json: .object(step.desired?.document ?? [:]))
        case (.connection, .remove):
            return ClientRequest(
                "DELETE", ClientRequest.path("v1", "workspaces", key.workspace, "integrations", key.name), query: file)
        case (.connection, let action):
            var body = step.members
            let given = (secrets[key] ?? [:]).filter { step.credentials.contains($0.key) }
            if !given.isEmpty { body["credentials"] = .object(given.mapValues(JSONValue.string)) }
            let path = ClientRequest.path("v1", "workspaces", key.workspace, "integrations", key.name)
            guard action == .create else { return ClientRequest("PATCH", path, query: file, json: .object(body)) }
            if let fires = step.desired?.firesForCurrentState { body["fire_current"] = .bool(fires) }
            return ClientRequest("POST", path, query: file, json: .object(body))
        }
    }

    /// What a refusal is about, line by line: file, line and field where the daemon names a member.
    public static func complaints(_ error: ClientError, about step: ApplyStep) -> [ConfigurationIssue] {
        func issue(_ pointer: String, _ message: String) -> ConfigurationIssue {
            guard let desired = step.desired else {
                return ConfigurationIssue(
                    code: .refused, file: step.source, line: nil, message: "\(step.key): \(message)")
            }
            let field = desired.field(at: pointer)
            return ConfigurationIssue(
                code: .refused, file: desired.source, line: field.line, message: "\(field.place): \(message)")
        }
        let errors = error.document?["errors"]?.array ?? []
        guard !errors.isEmpty else { return [issue("", "\(error.code): \(error.detail)")] }
        return errors.map { issue($0["pointer"]?.string ?? "", $0["message"]?.string ?? error.detail) }
    }
}

private struct SecretProblem: Error {
    var message: String
}

extension SecretReference {
    /// Bytes of a file with a secret.
    private static let maximumSize = 65_536

    fileprivate func value(_ environment: [String: String]) throws(SecretProblem) -> String {
        switch kind {
        case .environment(let name):
            guard let value = environment[name], !value.isEmpty else {
                throw SecretProblem(message: "the environment variable \(name) is not set")
            }
            return value
        case .file(let path):
            guard let data = FileManager.default.contents(atPath: path), data.count <= Self.maximumSize else {
                throw SecretProblem(message: "\(path) cannot be read, or is larger than 64 KiB")
            }
            let text = ConnectRequest.trimmed(String(decoding: data, as: UTF8.self))
            guard !text.isEmpty else { throw SecretProblem(message: "\(path) is empty") }
            return text
        }
    }
}
