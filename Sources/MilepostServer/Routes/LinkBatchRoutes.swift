// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore

extension MilepostServer {
    /// Facts of many links in one request: what an import of clicks knows about them.
    static var linkBatchRoutes: [Route] {
        [
            .change(
                .post, "/v1/workspaces/{ws}/links", "links.describe", .scope(.operator),
                "Sets facts of up to 1,000 links; with only_missing a fact that is there stays as it is.",
                describeLinks)
        ]
    }

    private static let linksPerRequest = 1000

    private static func describeLinks(_ call: Call) async throws -> Answer {
        let workspace = try call.workspace()
        let body = try await call.object(keys: ["links", "only_missing"])
        guard let items = body["links"]?.array, items.count <= linksPerRequest else {
            throw Problem.badRequest("links must be a list of at most \(linksPerRequest) objects.")
        }
        let fillsOnly: Bool
        switch body["only_missing"] {
        case nil, .bool(false): fillsOnly = false
        case .bool(true): fillsOnly = true
        default: throw Problem.badRequest("only_missing must be true or false.")
        }
        let changes = try linkChanges(items)
        try await requireWorkspace(workspace, call)
        let (store, now) = (call.engine.store, call.engine.clock.now)
        // Side by side, because those that wait together share a commit.
        let changed = try await withThrowingTaskGroup(of: Bool.self) { group in
            for (id, change) in changes {
                group.addTask {
                    var change = change
                    if fillsOnly, let known = try await store.link(id, workspace: workspace) {
                        change.keepOnlyMissing(in: known)
                    }
                    guard !change.isEmpty else { return false }
                    _ = try await store.changeLink(id, workspace: workspace, change: change, at: now)
                    return true
                }
            }
            return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        return Answer(
            ["changed": .integer(Int64(changed)), "unchanged": .integer(Int64(changes.count - changed))],
            auditDetail: ["links": .integer(Int64(changes.count)), "changed": .integer(Int64(changed))])
    }

    private static func linkChanges(_ items: [JSONValue]) throws -> [(LinkID, LinkChange)] {
        var errors: [SettingError] = []
        var seen: Set<LinkID> = []
        var changes: [(LinkID, LinkChange)] = []
        for (index, item) in items.enumerated() {
            func wrong(_ error: SettingError) {
                errors.append(
                    SettingError(pointer: "/links/\(index)\(error.pointer)", code: error.code, message: error.message))
            }
            guard var facts = item.object, let name = facts.removeValue(forKey: "id")?.string,
                (1...256).contains(name.utf8.count)
            else {
                wrong(SettingError(pointer: "/id", code: "wrong_type", message: "id must be 1 to 256 bytes of text"))
                continue
            }
            guard seen.insert(LinkID(name)).inserted else {
                wrong(SettingError(pointer: "/id", code: "repeated", message: "\(name) stands here twice"))
                continue
            }
            do {
                changes.append((LinkID(name), try linkChange(facts)))
            } catch let error as EngineError {
                for fault in error.errors { wrong(fault) }
            }
            guard errors.count < 100 else { break }
        }
        guard errors.isEmpty else {
            throw EngineError(
                code: .validationFailed, detail: errors.map(\.message).joined(separator: "; "), errors: errors)
        }
        return changes
    }
}

extension LinkChange {
    fileprivate var isEmpty: Bool { self == LinkChange() }

    fileprivate mutating func keepOnlyMissing(in link: Link) {
        if link.slug != nil { slug = nil }
        if link.shortURL != nil { shortURL = nil }
        if link.destination != nil { destination = nil }
        if link.title != nil { title = nil }
        if link.folder != nil { folder = nil }
        if link.owner != nil { owner = nil }
        if !link.tags.isEmpty { tags = nil }
        if !link.flags.isEmpty { flags = nil }
    }
}
