// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore

extension MilepostServer {
    static var linkRoutes: [Route] {
        [
            .get("/v1/workspaces", "workspaces.list", .scope(.viewer), "Lists the workspaces.") { call in
                let all = try await call.engine.store.workspaces().filter {
                    call.principal?.workspace == nil || call.principal?.workspace == $0.id
                }
                return Answer(["workspaces": .array(all.map(\.json))])
            },
            .change(
                .put, "/v1/workspaces/{ws}", "workspaces.put", .scope(.admin), query: ["managed_by"],
                "Creates a workspace, or changes its plan.", putWorkspace),
            .get(
                "/v1/workspaces/{ws}/links", "links.list", .scope(.viewer), query: ["folder", "limit", "cursor"],
                "Lists links with their totals."
            ) { call in
                let page = try await call.engine.store.links(
                    workspace: call.workspace(), folder: call.query("folder"), cursor: call.cursor(),
                    limit: call.limit())
                return Answer(["links": .array(page.items.map { .object($0.json) }), "next": JSONValue(page.next)])
            },
            .get("/v1/workspaces/{ws}/links/{link}", "links.get", .scope(.viewer), "A link with its facts and totals.")
            { call in
                Answer(.object(try await present(try await link(call), call)))
            },
            .change(
                .put, "/v1/workspaces/{ws}/links/{link}", "links.put", .scope(.operator),
                "Sets link facts; an absent key stays, null clears.", putLink),
            .get(
                "/v1/workspaces/{ws}/links/{link}/explain", "links.explain", .scope(.viewer),
                "Why each threshold did or did not fire.", explain),
            .get("/v1/workspaces/{ws}/members/{member}", "members.get", .scope(.viewer), "A member's opt-out.") {
                call in
                let member = try call.parameter("member")
                let isOut = try await call.engine.store.hasOptedOut(member, workspace: call.workspace())
                return Answer(["id": .string(member), "crm_opt_out": .bool(isOut)])
            },
            .change(
                .put, "/v1/workspaces/{ws}/members/{member}", "members.put", .scope(.operator),
                "Sets a member's opt-out."
            ) { call in
                let workspace = try call.workspace()
                let member = try call.parameter("member")
                guard let isOut = try await call.object(keys: ["crm_opt_out"])["crm_opt_out"]?.bool else {
                    throw Problem.badRequest("crm_opt_out must be true or false.")
                }
                let now = call.engine.clock.now
                try await requireWorkspace(workspace, call)
                try await call.engine.store.setOptOut(member, workspace: workspace, isOptedOut: isOut, at: now)
                return Answer(["id": .string(member), "crm_opt_out": .bool(isOut)])
            },
        ]
    }

    /// Workspaces appear on the first write of an administrator (decisions 35).
    static func requireWorkspace(_ workspace: WorkspaceID, _ call: Call) async throws {
        if call.server.knownWorkspaces.contains(workspace) { return }
        if try await call.engine.store.workspace(workspace) == nil {
            guard call.principal?.has(.admin) == true else {
                throw Problem.notFound(
                    "There is no workspace \(workspace); it appears with an administrator's first write.")
            }
            try await requireRoom(for: workspace, call)
            _ = try await call.engine.store.ensureWorkspace(workspace, at: call.engine.clock.now)
        }
        call.server.knownWorkspaces.insert(workspace)
    }

    /// Refuses a workspace that would be one too many.
    static func requireRoom(for workspace: WorkspaceID, _ call: Call) async throws {
        let store = call.engine.store
        guard try await store.workspace(workspace) == nil else { return }
        let limit = call.settings.maximumWorkspaces
        guard await store.health().workspaces < limit else {
            throw Problem(
                status: .conflict, code: "conflict",
                detail:
                    "This daemon holds \(limit) workspaces, as many as limits.workspaces allows; raise it and reload.")
        }
    }

    private static func putWorkspace(_ call: Call) async throws -> Answer {
        let workspace = try call.workspace()
        let body = try await call.object(keys: ["plan", "trial_started_at"])
        let plan: String??
        switch body["plan"] {
        case nil: plan = nil
        case .null: plan = .some(nil)
        case .string(let name) where (1...64).contains(name.utf8.count): plan = name
        default: throw Problem.badRequest("plan must be a name of 1 to 64 bytes, or null.")
        }
        let trial: Timestamp??
        switch body["trial_started_at"] {
        case nil: trial = nil
        case .null: trial = .some(nil)
        case .some(let value):
            guard let time = value.string.flatMap({ Timestamp(rfc3339: $0) }) else {
                throw Problem.badRequest("trial_started_at must be an RFC 3339 time, or null.")
            }
            trial = time
        }
        try await requireWorkspace(workspace, call)
        if plan != nil {
            try await refuseManaged(
                "The plan of workspace \(workspace)", .workspace, workspace: workspace, name: "", call)
        }
        var stored = try await call.engine.store.ensureWorkspace(workspace, at: call.engine.clock.now)
        if plan != nil || trial != nil {
            if let plan { stored.plan = plan }
            if let trial { stored.trialStartedAt = trial }
            try await call.engine.store.setPlan(workspace, plan: stored.plan, trialStartedAt: stored.trialStartedAt)
        }
        if plan != nil {
            let document: JSONValue? = stored.plan.map { ["plan": .string($0)] }
            try await remember(.workspace, workspace: workspace, name: "", document: document, call)
        }
        return Answer(stored.json, auditDetail: ["plan": JSONValue(stored.plan)])
    }

    static func link(_ call: Call) async throws -> Link {
        let id = LinkID(try call.parameter("link"))
        guard let link = try await call.engine.store.link(id, workspace: call.workspace()) else {
            throw Problem.notFound(
                "Workspace \(try call.workspace()) has no link \(id): no click and no fact of it came in.")
        }
        return link
    }

    private static func present(_ link: Link, _ call: Call) async throws -> [String: JSONValue] {
        var body = link.json
        let store = call.engine.store
        let highest = try await store.highestReached(
            workspace: link.workspace, scope: Scope(kind: .link, id: link.id.rawValue))
        var named: [String: JSONValue] = [:]
        for connection in try await store.connections(workspace: link.workspace) {
            if let threshold = highest[connection.id] {
                named[connection.integration.description] = .integer(threshold)
            }
        }
        body["highest_threshold"] = .object(named)
        return body
    }

    private static func putLink(_ call: Call) async throws -> Answer {
        let workspace = try call.workspace()
        let change = try linkChange(await call.object())
        try await requireWorkspace(workspace, call)
        let link = try await call.engine.store.changeLink(
            LinkID(try call.parameter("link")), workspace: workspace, change: change, at: call.engine.clock.now)
        return Answer(.object(try await present(link, call)))
    }

    static func linkChange(_ body: [String: JSONValue]) throws -> LinkChange {
        var change = LinkChange()
        var errors: [SettingError] = []
        func wrong(_ key: String, _ message: String) {
            errors.append(SettingError(pointer: "/\(key)", code: "wrong_type", message: message))
        }
        func text(_ key: String) -> String?? {
            switch body[key] {
            case nil: return nil
            case .null: return .some(nil)
            case .string(let value) where value.utf8.count <= 4096: return value.isEmpty ? .some(nil) : value
            default:
                wrong(key, "\(key) must be text of at most 4,096 bytes, or null")
                return nil
            }
        }
        change.slug = text("slug")
        change.shortURL = text("short_url")
        change.destination = text("destination")
        change.title = text("title")
        change.folder = text("folder")
        change.owner = text("owner")
        if let tags = body["tags"] {
            let names = tags == .null ? [] : tags.array?.compactMap(\.string)
            if let names, names.count == (tags.array?.count ?? 0), names.count <= 100 {
                change.tags = names
            } else {
                wrong("tags", "tags must be a list of at most 100 texts")
            }
        }
        if let flags = body["flags"] {
            let known = flags == .null ? [] : flags.array?.compactMap { $0.string.flatMap(Link.Flag.init(rawValue:)) }
            if let known, known.count == (flags.array?.count ?? 0) {
                change.flags = Set(known)
            } else {
                wrong("flags", "flags may hold test and internal")
            }
        }
        let fields: Set<String> = ["slug", "short_url", "destination", "title", "folder", "tags", "flags", "owner"]
        for key in body.keys.sorted() where !fields.contains(key) {
            errors.append(SettingError(pointer: "/\(key)", code: "unknown", message: "\(key) is not a link fact"))
        }
        guard errors.isEmpty else {
            throw EngineError(
                code: .validationFailed, detail: errors.map(\.message).joined(separator: "; "), errors: errors)
        }
        return change
    }

    private static func explain(_ call: Call) async throws -> Answer {
        let link = try await link(call)
        var (lines, notes) = try await call.engine.explainer.explain(link)
        if let note = try await call.engine.rules.explainer.note(on: link) { notes.append(note) }
        return Answer([
            "link": .string(link.id.rawValue), "totals": link.totals.json,
            "explanations": .array(
                lines.map { line in
                    [
                        "integration": .string(line.integration.description), "threshold": .integer(line.threshold),
                        "scope": ["kind": .string(line.scope.kind.rawValue), "id": .string(line.scope.id)],
                        "outcome": .string(line.outcome), "reason_code": .string(line.reason.code),
                        "reason": .string(line.reason.message), "delivery": JSONValue(line.delivery?.rawValue),
                        "at": line.at.json, "decisions": .array(line.decisions.map(\.json)),
                    ]
                }),
            "notes": .array(notes.map(\.json)),
        ])
    }
}
