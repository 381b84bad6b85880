// SPDX-License-Identifier: Apache-2.0

package import GRDB

/// One version of the schema: how a store comes to it, and how it goes back from it.
package struct SchemaStep: Sendable {
    /// Also `PRAGMA user_version` once it is done.
    package let version: Int
    package let name: String
    let migrate: @Sendable (Database) throws -> Void
    /// Figures that it changes by design (`StoreFigures`): a name, or a beginning that ends with a dot. Everything else must be
    /// the same before and after.
    let alters: [String]
    /// Nil: there is no way back but a backup. Every step after the tenth has one.
    let reverse: SchemaReverse?

    package var hasWayBack: Bool { reverse != nil }

    package init(
        _ version: Int, _ name: String, _ migrate: @escaping @Sendable (Database) throws -> Void, alters: [String] = [],
        reverse: SchemaReverse? = nil
    ) {
        self.version = version
        self.name = name
        self.migrate = migrate
        self.alters = alters
        self.reverse = reverse
    }
}

/// The way back over one step. It converts the store as it is, so that what happened since the upgrade stays: a backup from
/// before the upgrade would not know of it, and would send a second time what was sent since.
package struct SchemaReverse: Sendable {
    /// What the older version has no place for, one sentence each; empty where nothing would be lost.
    let losses: @Sendable (Database) throws -> [String]
    /// Ends with the older schema, table for table.
    let revert: @Sendable (Database) throws -> Void
    /// Figures that go by design; as in `SchemaStep.alters`.
    let removes: [String]

    package init(
        losses: @escaping @Sendable (Database) throws -> [String],
        revert: @escaping @Sendable (Database) throws -> Void, removes: [String]
    ) {
        self.losses = losses
        self.revert = revert
        self.removes = removes
    }
}
