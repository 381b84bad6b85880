// SPDX-License-Identifier: Apache-2.0

import Foundation
import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostStore

extension MilepostServer {
    private static let base = "/v1/workspaces/{ws}/integrations/{integration}/authorize"

    static var oauthRoutes: [Route] {
        [
            .get("/v1/admin/apps", "apps.list", .scope(.admin), "The vendors' apps this daemon speaks for.") { call in
                Answer(["apps": .array(try await call.engine.store.apps().map { present($0, call) })])
            },
            .get("/v1/admin/apps/{plugin}", "apps.get", .scope(.admin), "An app; its secrets are never shown.") {
                call in
                let plugin = try plugin(call)
                guard let app = try await call.engine.store.app(plugin) else {
                    throw Problem.notFound("There is no app of \(plugin); milepost app set \(plugin) makes one.")
                }
                return Answer(present(app, call))
            },
            .change(
                .put, "/v1/admin/apps/{plugin}", "apps.put", .scope(.admin),
                "Sets an app's client id and secrets; what is left out stays, null removes it."
            ) { call in
                let body = try await call.object()
                let app = try await call.engine.apps.set(plugin(call), body)
                return Answer(
                    present(app, call),
                    auditDetail: [
                        "client_id": .string(app.clientID), "set": .array(body.keys.sorted().map(JSONValue.string)),
                    ])
            },
            .change(
                .delete, "/v1/admin/apps/{plugin}", "apps.delete", .scope(.admin),
                "Forgets an app and its secrets; connections made by it can no longer be refreshed."
            ) { call in
                let plugin = try plugin(call)
                try await call.engine.apps.remove(plugin)
                return Answer(["plugin": .string(plugin.rawValue), "removed": true])
            },
            .change(
                .post, "/v1/admin/oauth/adopt", "oauth.adopt", .scope(.admin),
                "Goes on with restored or copied credentials: nobody else works with them."
            ) { call in
                let count = try await call.engine.tokens.adoptHeld()
                return Answer(
                    ["adopted": .integer(Int64(count))], auditDetail: ["adopted": .integer(Int64(count))])
            },
            .change(
                .post, base, "integrations.authorize", .scope(.admin),
                "Answers a link on which somebody consents; the body is connect's, without credentials."
            ) { call in
                let (integration, workspace) = (try call.integration(), try call.workspace())
                let invitation = try await call.engine.oauth.authorize(
                    .object(call.object()), integration, workspace: workspace)
                return Answer(
                    present(invitation), status: .created,
                    auditDetail: [
                        "id": .string(invitation.id),
                        "scopes": .array(invitation.plan.scopes.map(JSONValue.string)),
                    ])
            },
            .get(base, "integrations.authorize.status", .scope(.admin), query: ["id"], "What became of a link.") {
                call in
                let (integration, workspace) = (try call.integration(), try call.workspace())
                guard let id = call.query("id"), (1...128).contains(id.utf8.count) else {
                    throw Problem.badRequest("id must be the id that authorize answered.")
                }
                guard let found = try await call.engine.store.authorization(id: id), found.workspace == workspace,
                    found.integration == integration
                else { throw Problem.notFound("There is no authorisation \(id).") }
                let isOver = found.state == .pending && call.engine.clock.now >= found.expiresAt
                return Answer([
                    "id": .string(found.id), "state": .string(isOver ? "expired" : found.state.rawValue),
                    "reason": found.reason?.json ?? .null, "expires_at": found.expiresAt.json,
                ])
            },
            .change(
                .post, "\(base)/complete", "integrations.authorize.complete", .scope(.admin),
                "Takes the code, or the whole address, that the vendor sent the person back with."
            ) { call in
                let made = try await complete(call)
                let engine = call.engine
                // Owned by nobody and ends by itself: one drain of a queue that is on disk anyway (REA-06).
                Task { await engine.goOn(made.connection) }
                return Answer(
                    try await presentOne(made.connection, call), status: made.isNew ? .created : .ok,
                    auditDetail: ["account": JSONValue(made.connection.account?.id)])
            },
            .get(
                OAuthService.callbackPath, "oauth.callback", .open,
                query: ["code", "state", "error", "error_description"],
                "Where a vendor sends a person back to; the state parameter is the authority.", callback),
        ]
    }

    private static func plugin(_ call: Call) throws -> PluginName {
        let text = try call.parameter("plugin")
        guard IntegrationName(text)?.name.isEmpty == true else {
            throw Problem.badRequest("\(text) is not a plugin's name.")
        }
        return PluginName(text)
    }

    private static func present(_ app: AppRegistration, _ call: Call) -> JSONValue {
        [
            "plugin": .string(app.plugin.rawValue), "client_id": .string(app.clientID),
            "app_id": JSONValue(app.facts["app_id"]), "secrets": .array(app.secrets.map(JSONValue.string)),
            "redirect_uri": .string(call.engine.oauth.redirectURI), "updated_at": app.updatedAt.json,
        ]
    }

    private static func present(_ invitation: OAuthService.Invitation) -> JSONValue {
        [
            "id": .string(invitation.id), "url": .string(invitation.url),
            "redirect_uri": .string(invitation.redirectURI), "expires_at": invitation.expiresAt.json,
            "scopes": .array(
                invitation.plan.wanted.map {
                    ["scope": .string($0.scope), "feature": JSONValue($0.feature), "reason": .string($0.reason)]
                }),
        ]
    }

    private static func complete(_ call: Call) async throws -> (connection: Connection, isNew: Bool) {
        let (integration, workspace) = (try call.integration(), try call.workspace())
        let body = try await call.object(keys: ["id", "code", "state", "redirect_url"])
        let service = call.engine.oauth
        var state = body["state"]?.string
        var returned = body["code"]?.string.map { OAuthService.Return.code($0) }
        if let url = body["redirect_url"]?.string {
            guard url.utf8.count <= 8192, let query = url.split(separator: "?", maxSplits: 1).last.map(String.init)
            else {
                throw Problem.badRequest("redirect_url must be the whole address the vendor sent you back with.")
            }
            let members = FormFields(query)
            state = members["state"]
            returned = members["code"].map { .code($0) } ?? members["error"].map { .refusal($0) }
        }
        guard let returned else {
            throw Problem.badRequest("Hand in redirect_url, or code together with id or state.")
        }
        if let id = body["id"]?.string {
            return try await service.complete(
                id: id, state: state, returned, integration, workspace: workspace)
        }
        guard let state else { throw Problem.badRequest("Beside code there must be id or state.") }
        return try await service.complete(state: state, returned, integration, workspace: workspace)
    }

    // MARK: The page a person comes back to

    private static func callback(_ call: Call) async throws -> Answer {
        // A look-ahead of a mail program or a browser must not use the code up.
        guard call.request.method == .get else { return page("Milepost", "This address takes a vendor's answer.") }
        guard let state = call.query("state"), !state.isEmpty else {
            return page("Not connected", "The address carries no state. Begin again.", status: .badRequest)
        }
        let returned: OAuthService.Return
        if let code = call.query("code") {
            returned = .code(code)
        } else {
            returned = .refusal(call.query("error") ?? "none")
        }
        do {
            let (connection, _) = try await call.engine.oauth.complete(state: state, returned)
            try await call.engine.store.audit(
                AuditEntry(
                    at: call.engine.clock.now, actor: "oauth callback", action: "integrations.authorize.complete",
                    target: "/v1/workspaces/\(connection.workspace)/integrations/\(connection.integration)",
                    detail: ["account": JSONValue(connection.account?.id)]))
            let engine = call.engine
            // As after any reauthorisation: one drain of a queue that is on disk anyway (REA-06).
            Task { await engine.goOn(connection) }
            let account = connection.account?.label ?? connection.account?.id ?? "the account"
            return page("Connected", "\(connection.integration) is connected to \(account). You may close this page.")
        } catch {
            guard let problem = Problem(error) else { throw error }
            return page("Not connected", problem.detail, status: problem.status)
        }
    }

    /// For HTML, scalar by scalar: as characters a `<` and the sign before it may be one, which would then pass.
    package static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "'": result += "&#39;"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    private static func page(_ title: String, _ text: String, status: HTTPResponse.Status = .ok) -> Answer {
        var answer = Answer(
            text: "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>\(escaped(title))</title>"
                + "</head>"
                + "<body><h1>\(escaped(title))</h1><p>\(escaped(text))</p></body></html>\n",
            contentType: "text/html; charset=utf-8", status: status)
        answer.headers = [
            HTTPField.Name("content-security-policy")!:
                "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            HTTPField.Name("referrer-policy")!: "no-referrer",
            HTTPField.Name("x-content-type-options")!: "nosniff", HTTPField.Name("x-frame-options")!: "DENY",
        ]
        return answer
    }
}

/// The fields of a query, percent-decoded; the first of a name counts.
struct FormFields {
    private var fields: [String: String] = [:]

    init(_ query: String) {
        let bare = query.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false).first ?? ""
        for pair in bare.split(separator: "&").prefix(64) {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, let name = Self.decoded(parts[0]), let value = Self.decoded(parts[1]),
                fields[name] == nil
            else { continue }
            fields[name] = value
        }
    }

    subscript(name: String) -> String? { fields[name] }

    private static func decoded(_ text: Substring) -> String? {
        String(text.replacing("+", with: " ")).removingPercentEncoding
    }
}
