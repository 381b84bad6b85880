// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel

extension SQLiteStore {
    public func plans() async throws -> [PlanRecord] {
        try await read("reading the plans") { db in
            try Row.fetchAll(db.cachedStatement(sql: "SELECT * FROM plans ORDER BY name")).map { row in
                let integrations: String? = row["integrations"]
                return PlanRecord(
                    name: row["name"], fires: row["fires"],
                    integrations: integrations.map { Set(StoredJSON.value($0).array?.compactMap(\.string) ?? []) },
                    trialDays: row["trial_days"])
            }
        }
    }

    public func replacePlans(_ plans: [PlanRecord]) async throws {
        try await write { context in
            try context.db.execute(sql: "DELETE FROM plans")
            for plan in plans {
                let integrations = plan.integrations.map { JSONValue.array($0.sorted().map(JSONValue.string)) }
                try context.db.execute(
                    sql: "INSERT INTO plans (name, fires, integrations, trial_days) VALUES (?, ?, ?, ?)",
                    arguments: [plan.name, plan.fires, integrations?.description, plan.trialDays])
            }
        }
    }
}
