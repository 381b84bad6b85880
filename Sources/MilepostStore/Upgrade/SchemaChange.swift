// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// Changes of the schema that an administrator asks for, while no daemon works.
public enum SchemaChange {
    /// Tries the upgrade on a copy, which goes again: of the store in `directory`, or of a backup.
    ///
    /// - Throws: `locked` while a daemon has the directory; a backup needs no lock. `upgradeDiffers`, `storageFull`, `corrupt`,
    ///   `schemaTooNew`.
    public static func rehearse(
        directory: String, backup: String?, report: @escaping @Sendable (UpgradeProgress) -> Void
    ) throws -> UpgradeReport {
        if let backup { return try StoreUpgrade(path: backup, report: report).rehearse(backup: backup) }
        return try locked(directory) { try StoreUpgrade(path: $0, report: report).rehearse() }
    }

    /// Takes the store in `directory` one version back, for the daemon of that version.
    ///
    /// - Throws: `locked`, `downgradeLosesData`, `upgradeDiffers`, `storageFull`, `failed` where there is no way back.
    public static func downgrade(
        directory: String, acceptsLoss: Bool, report: @escaping @Sendable (UpgradeProgress) -> Void
    ) throws -> UpgradeReport {
        try locked(directory) { try StoreUpgrade(path: $0, report: report).back(acceptsLoss: acceptsLoss) }
    }

    /// Copies from before earlier changes, by path; they hold what was erased since.
    public static func keptCopies(directory: String) -> [String] {
        StoreUpgrade.keptCopies(beside: directory + "/milepost.db")
    }

    private static func locked<Value>(_ directory: String, _ body: (String) throws -> Value) throws -> Value {
        let directory = try DataDirectoryLock.resolve(directory)
        guard let lock = try DataDirectoryLock.tryAcquire(directory: directory) else {
            throw StoreError(
                code: .locked,
                detail: "a daemon works on '\(directory)': stop it first (systemctl stop milepost)")
        }
        defer { lock.release() }
        let path = directory + "/milepost.db"
        do {
            try DatabaseFile(path: path).examine()
            return try body(path)
        } catch {
            throw StoreError(error, while: "changing the schema of '\(path)'")
        }
    }
}
