// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import MilepostVault

/// What somebody should act on, with cause and cure in plain words (TRB-01 to TRB-09).
extension MilepostServer {
    static func problems(
        _ health: StoreHealth, _ connections: [Connection], _ plugins: [JSONValue], _ call: Call
    ) async throws -> [JSONValue] {
        let chains = try await call.engine.store.chains()
        return storageProblems(health, leastFree: Int64(call.settings.leastFreeDisk))
            + keyProblems(try await call.engine.vault.status())
            + connectionProblems(
                connections.filter { $0.state != .disconnected }, installed: Set(chains.map(\.connection)),
                call.engine.plugins)
            + pluginProblems(plugins)
            + (try await call.engine.scheduler.isOverdue()
                ? [
                    problem(
                        "schedule_overdue", "No tick ran within its interval.",
                        "See the log; milepost tick runs one now.")
                ] : [])
            + tokenProblems(connections, chains, now: call.engine.clock.now)
            + scopeProblems(try await call.engine.rules.service.connectionsWithoutScopes())
            + formProblems(try await call.engine.store.formTroubles(newest: newestForms))
    }

    /// Forms looked at for persons that nobody can tell apart: enough to notice, few enough to look at each time.
    private static let newestForms = 5000

    private static func problem(
        _ code: String, _ message: String, _ cure: String, of connection: Connection? = nil, reason: String? = nil,
        plugin: String? = nil, isWarning: Bool = false
    ) -> JSONValue {
        var members: [String: JSONValue] = [
            "code": .string(code), "message": .string(message), "cure": .string(cure),
            "severity": isWarning ? "warning" : "problem",
        ]
        if let connection {
            members["workspace"] = .string(connection.workspace.rawValue)
            members["integration"] = .string(connection.integration.description)
        }
        if let reason { members["reason_code"] = .string(reason) }
        if let plugin { members["plugin"] = .string(plugin) }
        return .object(members)
    }

    private static func storageProblems(_ health: StoreHealth, leastFree: Int64) -> [JSONValue] {
        guard health.isWritable else {
            return [
                problem(
                    health.problem?.rawValue ?? "storage", health.detail ?? "The store cannot be written.",
                    health.problem == .storageFull
                        ? "Free disk space; the daemon goes on by itself." : "Restore the newest backup.")
            ]
        }
        guard health.freeDiskBytes < leastFree else { return [] }
        return [
            problem(
                "disk_low",
                "\(health.freeDiskBytes >> 20) MiB are free for the database; limits.least_free_disk is \(leastFree >> 20) MiB.",
                "Make room on the disk of data_dir, or shorten retention.clicks_days.")
        ]
    }

    private static func keyProblems(_ vault: VaultStatus) -> [JSONValue] {
        guard !vault.missingKeyIDs.isEmpty else { return [] }
        return [
            problem(
                "kek_mismatch",
                "The key ring lacks \(vault.missingKeyIDs.joined(separator: ", ")), which wraps stored data keys: the credentials "
                    + "that they seal cannot be opened.",
                "Put the ring back that was in use, from its own backup, then milepost keys reload; if it is lost, connect "
                    + "each integration again.")
        ]
    }

    private static func connectionProblems(
        _ connections: [Connection], installed: Set<ConnectionID>, _ plugins: HostedPlugins
    ) -> [JSONValue] {
        var found: [JSONValue] = []
        for connection in connections where connection.state != .active {
            let name = "\(connection.workspace)/\(connection.integration)"
            let why = connection.stateReason?.message ?? "no reason was given"
            found.append(
                problem(
                    connection.state.rawValue,
                    "\(name) is \(connection.state.rawValue) since \(connection.stateSince): \(why)",
                    cure(for: connection, isInstalled: installed.contains(connection.id), plugins), of: connection,
                    reason: connection.stateReason?.code))
        }
        for connection in connections {
            if let (message, cure) = connection.failingProblem {
                found.append(problem("endpoint_fails", message, cure, of: connection))
            }
            for warning in connection.warnings {
                found.append(
                    problem(
                        warning.code, "\(connection.workspace)/\(connection.integration): \(warning.message)",
                        cure(forWarning: warning.code, of: connection), of: connection, isWarning: true))
            }
        }
        return found
    }

    private static func cure(
        for connection: Connection, isInstalled: Bool, _ plugins: HostedPlugins
    ) -> String {
        let name = "\(connection.integration) -w \(connection.workspace)"
        switch connection.state {
        case .needsReauth where ["credentials_restored", "credentials_copied"].contains(connection.stateReason?.code):
            return "Install it again, the history stays: milepost connect \(connection.integration) --oauth -w "
                + "\(connection.workspace). When no other daemon works with these credentials: milepost app adopt."
        case .needsReauth where isInstalled:
            return "Install it again, the history stays: milepost connect \(connection.integration) --oauth -w "
                + "\(connection.workspace)."
        case .needsReauth:
            return
                "Make a new token where the vendor shows it (milepost plugins show \(connection.integration.plugin)) and "
                + "hand it in: milepost connect \(name)."
        case .permission:
            return
                "Give the token's user the missing right at the vendor (admin access), or use another user's token."
        case .needsTarget:
            let needed = plugins.requiredSettings(of: connection.integration.plugin)
            return "Set what the reason names: milepost integrations set \(name) SETTING=VALUE"
                + (needed.isEmpty ? "." : "; it must have \(needed.joined(separator: ", ")).")
        case .dailyBudget:
            return "Nothing: sending resumes after midnight, when the vendor's daily budget is filled again."
        case .plan:
            return "Put the workspace on a plan that fires: milepost workspaces set \(connection.workspace) --plan …."
        case .disabled where connection.isDisabledForEndpoint:
            return "Mend the other side, then milepost integrations enable \(name)."
        default: return "See milepost integrations show \(name)."
        }
    }

    private static func cure(forWarning code: String, of connection: Connection) -> String {
        let name = "\(connection.integration) -w \(connection.workspace)"
        switch code {
        case "field_unknown", "field_ambiguous":
            return
                "Use the field's 40-character key: milepost options \(connection.integration) lists what the vendor has; "
                + "then milepost integrations set \(name)."
        case "property_missing", "template_pending": return "milepost provision \(name)."
        case "field_renamed":
            return "Nothing is broken; to accept the new name set the field again: milepost integrations set \(name)."
        default: return "Adjust the setting, or ignore it if it is meant."
        }
    }

    private static func pluginProblems(_ plugins: [JSONValue]) -> [JSONValue] {
        plugins.filter { !["loaded", "disabled"].contains($0["state"]?.string) }.map {
            problem(
                "plugin_\($0["state"]?.string ?? "absent")",
                "Plugin \($0["name"]?.string ?? "?"): \($0["reason"]?.string ?? "not loaded")",
                "Mend what the sentence names, then run milepost reload.", plugin: $0["name"]?.string)
        }
    }

    /// TRB-03 and TRB-06, as far as forms tell. Addresses are not repeated here.
    private static func formProblems(_ troubles: [FormTroubles]) -> [JSONValue] {
        troubles.flatMap { trouble -> [JSONValue] in
            var found: [JSONValue] = []
            if trouble.unnamed > 0 {
                found.append(
                    problem(
                        "email_missing",
                        "\(trouble.workspace): \(trouble.unnamed) of the newest forms name neither an e-mail address nor a "
                            + "contact_id; these persons were filtered out, and their clicks stay unknown.",
                        "Let the form ask for the e-mail address and make it a required field."))
            }
            if let first = trouble.shared.first {
                let more = trouble.shared.count > 1 ? " (\(trouble.shared.count) such addresses)" : ""
                found.append(
                    problem(
                        "duplicate_person",
                        "\(trouble.workspace): the contacts \(first.joined(separator: ", ")) share one e-mail address\(more).",
                        "Merge them in the CRM (Merge duplicates); its clicks then go to one record."))
            }
            return found
        }
    }
}
