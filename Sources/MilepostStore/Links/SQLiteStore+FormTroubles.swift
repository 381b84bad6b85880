// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

/// What a workspace's forms say of persons that cannot be told apart.
public struct FormTroubles: Sendable, Equatable {
    public var workspace: WorkspaceID
    /// Forms with neither an e-mail address nor a contact's id (TRB-03).
    public var unnamed = 0
    /// Contacts that gave the same address, each group at most five; at most 20 groups (TRB-06).
    public var shared: [[String]] = []

    public init(workspace: WorkspaceID, unnamed: Int = 0, shared: [[String]] = []) {
        self.workspace = workspace
        self.unnamed = unnamed
        self.shared = shared
    }
}

extension SQLiteStore {
    public func formTroubles(newest: Int) async throws -> [FormTroubles] {
        try await read("looking through forms") { db in
            var found: [String: FormTroubles] = [:]
            let unnamed = try Row.fetchAll(
                db,
                sql: """
                    SELECT w.name AS workspace, count(*) AS forms
                    FROM (SELECT * FROM forms ORDER BY id DESC LIMIT ?) f JOIN workspaces w ON w.id = f.workspace
                    WHERE coalesce(f.contact, '') = '' AND coalesce(f.email, '') = '' GROUP BY w.name
                    """, arguments: [newest])
            for row in unnamed {
                let name: String = row["workspace"]
                found[name] = FormTroubles(workspace: WorkspaceID(name), unnamed: row["forms"])
            }
            let shared = try Row.fetchAll(
                db,
                sql: """
                    SELECT w.name AS workspace, json_group_array(DISTINCT f.contact) AS contacts
                    FROM (SELECT * FROM forms ORDER BY id DESC LIMIT ?) f JOIN workspaces w ON w.id = f.workspace
                    WHERE f.contact <> '' AND f.email <> '' GROUP BY w.name, lower(f.email)
                    HAVING count(DISTINCT f.contact) > 1 ORDER BY max(f.id) DESC LIMIT 20
                    """, arguments: [newest])
            for row in shared {
                let name: String = row["workspace"]
                let contacts = (StoredJSON.value(row["contacts"]).array ?? []).compactMap(\.string).sorted().prefix(5)
                found[name, default: FormTroubles(workspace: WorkspaceID(name))].shared.append(Array(contacts))
            }
            return found.values.sorted { $0.workspace.rawValue < $1.workspace.rawValue }
        }
    }
}
