// SPDX-License-Identifier: Apache-2.0

import GRDB

/// The schema's versions, one file each. A migration that was released is never changed again.
enum Schema {
    /// Also `PRAGMA user_version`, so that any tool can tell.
    static let version = 10

    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("0001-initial", migrate: Migration0001.migrate)
        migrator.registerMigration("0002-plans", migrate: Migration0002.migrate)
        migrator.registerMigration("0003-holds", migrate: Migration0003.migrate)
        migrator.registerMigration("0004-oauth", migrate: Migration0004.migrate)
        migrator.registerMigration("0005-streams", migrate: Migration0005.migrate)
        migrator.registerMigration("0006-rules", migrate: Migration0006.migrate)
        migrator.registerMigration("0007-managed", migrate: Migration0007.migrate)
        migrator.registerMigration("0008-interceptions", migrate: Migration0008.migrate)
        migrator.registerMigration("0009-endpoints", migrate: Migration0009.migrate)
        migrator.registerMigration("0010-identities", migrate: Migration0010.migrate)
        return migrator
    }
}
