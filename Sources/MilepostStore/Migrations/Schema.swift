// SPDX-License-Identifier: Apache-2.0

package import GRDB

/// The schema's versions, one file each. A migration that was released is never changed again.
package enum Schema {
    /// Also `PRAGMA user_version`, so that any tool can tell.
    package static var version: Int { steps.count }

    package static let steps: [SchemaStep] = [
        SchemaStep(1, "0001-initial", Migration0001.migrate),
        SchemaStep(2, "0002-plans", Migration0002.migrate),
        // What waits on its connection becomes `held`.
        SchemaStep(3, "0003-holds", Migration0003.migrate, alters: ["deliveries."]),
        SchemaStep(4, "0004-oauth", Migration0004.migrate),
        SchemaStep(5, "0005-streams", Migration0005.migrate),
        SchemaStep(6, "0006-rules", Migration0006.migrate),
        SchemaStep(7, "0007-managed", Migration0007.migrate),
        SchemaStep(8, "0008-interceptions", Migration0008.migrate),
        SchemaStep(9, "0009-endpoints", Migration0009.migrate),
        SchemaStep(10, "0010-identities", Migration0010.migrate, reverse: Migration0010.reverse),
    ]

    static var migrator: DatabaseMigrator { migrator(of: steps) }

    /// What a daemon that knows these steps, and no later ones, does to a store.
    ///
    /// - Parameter begins: is told the step that comes next.
    package static func migrator(
        of steps: [SchemaStep], begins: @escaping @Sendable (String) -> Void = { _ in }
    ) -> DatabaseMigrator {
        var migrator = DatabaseMigrator()
        for step in steps {
            migrator.registerMigration(step.name) { db in
                begins(step.name)
                try step.migrate(db)
            }
        }
        return migrator
    }
}
