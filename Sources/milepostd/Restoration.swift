// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostConfiguration
import MilepostModel
import MilepostStore

/// `milepostd --restore FILE`: a backup takes the database's place, and what was there is kept beside it (EXT-18).
///
/// Under the data directory's lock, so that it refuses while a daemon works. Everything that can go wrong with the backup
/// goes wrong on a copy: it is opened, brought up to date and checked page by page before it takes anybody's place.
struct Restoration {
    let configuration: Configuration
    let path: String
    let backup: String

    func run() async throws -> JSONValue {
        let clock = SystemClock()
        let directory = configuration.dataDirectory
        let files = FileManager.default
        guard files.fileExists(atPath: backup) else {
            throw InitialisationError(description: "\(backup) is not there, or this user may not read it")
        }
        try DataDirectory.ensure(directory, for: ServiceUnit(configuration: path)?.user)
        // Read while we still are whoever was called: a backup may well be root's own.
        let source = try FileHandle(forReadingFrom: URL(fileURLWithPath: backup))
        try DataDirectory.becomeOwner(directory)
        guard let lock = try DataDirectoryLock.tryAcquire(directory: directory) else {
            throw InitialisationError(
                description: "a daemon is working on \(directory): stop it first (systemctl stop milepost)")
        }
        defer { lock.release() }
        let room = directory + "/restoring"
        try? files.removeItem(atPath: room)  // what a restore that was cut short left
        try files.createDirectory(
            atPath: room, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
        defer { try? files.removeItem(atPath: room) }
        try Self.copy(source, to: room + "/milepost.db")

        let store = try SQLiteStore.open(directory: room, clock: clock)
        let damage = try await store.quickCheck()
        let chains = try await store.chains()
        await store.close()
        guard damage.isEmpty else {
            throw InitialisationError(
                description:
                    "the backup is damaged (\(damage.prefix(3).joined(separator: "; "))): take an older one; nothing was changed"
            )
        }
        let kept = try replace(with: room, stamp: clock.now)
        return [
            "restored": .string(backup), "data_dir": .string(directory), "kept": JSONValue(kept),
            "refresh_tokens": .integer(Int64(chains.count)),
            "connections": .array(
                chains.map { ["workspace": .string($0.workspace.rawValue), "id": .string($0.connection.rawValue)] }),
        ]
    }

    /// The write-ahead log belongs to the database that goes: under a new one its pages would be taken for that one's. So it
    /// goes first, after both have a second name.
    private func replace(with room: String, stamp: Timestamp) throws -> String? {
        let files = FileManager.default
        let database = configuration.dataDirectory + "/milepost.db"
        var kept: String?
        if files.fileExists(atPath: database) {
            let name = database + ".before-restore-" + String(stamp.milliseconds / 1000)
            for end in ["", "-wal"] where files.fileExists(atPath: database + end) {
                try files.linkItem(atPath: database + end, toPath: name + end)
            }
            kept = name
        }
        for end in ["-wal", "-shm"] where files.fileExists(atPath: database + end) {
            try files.removeItem(atPath: database + end)
        }
        guard unsafe rename(room + "/milepost.db", database) == 0 else {
            throw InitialisationError(
                description:
                    "the copy could not be named \(database) (errno \(errno)); what was there is \(kept ?? "nothing")")
        }
        let folder = unsafe open(configuration.dataDirectory, O_RDONLY | O_DIRECTORY)
        if folder >= 0 {
            fsync(folder)
            close(folder)
        }
        return kept
    }

    private static func copy(_ source: FileHandle, to path: String) throws {
        guard FileManager.default.createFile(atPath: path, contents: nil, attributes: [.posixPermissions: 0o600]),
            let target = FileHandle(forWritingAtPath: path)
        else { throw InitialisationError(description: "\(path) cannot be made: is the disk full?") }
        while let piece = try source.read(upToCount: 1 << 20), !piece.isEmpty { try target.write(contentsOf: piece) }
        try target.synchronize()
        try target.close()
    }
}
