// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostConfiguration
import MilepostModel
import MilepostStore
import MilepostVault

/// `milepostd --init`: data directory, key ring and first administrator's token (decisions 33 and 34).
///
/// Runs under the data directory's lock and refuses when a daemon holds it, or when there is a database without its key.
/// Safe to repeat: an existing key is never touched; each run makes a new token.
struct Initialisation {
    let configuration: Configuration
    let path: String

    func run() async throws -> JSONValue {
        let clock = SystemClock()
        try refuseLostKey()
        try DataDirectory.ensure(configuration.dataDirectory, for: ServiceUnit(configuration: path)?.user)
        let isKeyNew = try ensureKey()
        try DataDirectory.becomeOwner(configuration.dataDirectory)
        guard let lock = try DataDirectoryLock.tryAcquire(directory: configuration.dataDirectory) else {
            throw InitialisationError(
                description:
                    "a daemon is working on \(configuration.dataDirectory): stop it first, or make tokens with "
                    + "milepost tokens create")
        }
        defer { lock.release() }
        let store = try SQLiteStore.open(directory: configuration.dataDirectory, clock: clock)
        let text = try MilepostVault.AccessToken.generate(random: OpenSSLRandomSource())
        let token = MilepostModel.AccessToken(
            id: "tok_" + Digest.hex(Array(text.hash.bytes.prefix(6))), name: "init", hash: text.hash.bytes,
            scopes: [.admin, .ingest], createdAt: clock.now)
        try await store.saveToken(token)
        try await store.audit(
            AuditEntry(at: clock.now, actor: "cli:init", action: "tokens.create", target: token.id))
        await store.close()
        return [
            "token": .string(text.text), "token_id": .string(token.id), "config": .string(path),
            "data_dir": .string(configuration.dataDirectory), "kek": .string(configuration.kms.path),
            "kek_created": .bool(isKeyNew), "listen": .string(configuration.listen[0].description),
        ]
    }

    /// The key ring alone: a package makes it at its first installation, as root and before there is any data.
    func makeKey() throws -> JSONValue {
        let isKeyNew = try ensureKey()
        return ["kek": .string(configuration.kms.path), "kek_created": .bool(isKeyNew)]
    }

    /// A new key would open nothing of what the database holds, and nobody would notice until the next delivery.
    private func refuseLostKey() throws {
        let database = configuration.dataDirectory + "/milepost.db"
        let files = FileManager.default
        guard files.fileExists(atPath: database), !files.fileExists(atPath: configuration.kms.path) else { return }
        throw InitialisationError(
            description:
                "there is a database \(database), and its key \(configuration.kms.path) is missing (or this user may "
                + "not look): restore the key from its own backup. Only if it is lost for good, make another with "
                + "milepostd --make-key; then each integration has to be connected again, because nothing opens the "
                + "credentials that the old one sealed. Nothing was changed")
    }

    /// - Returns: whether it was made now; one that is there is read, so that a damaged one is told here.
    private func ensureKey() throws -> Bool {
        let keyFile = KeyRingFile(path: configuration.kms.path)
        try keyFile.checkOutside(dataDirectory: configuration.dataDirectory)
        guard !FileManager.default.fileExists(atPath: configuration.kms.path) else {
            _ = try keyFile.read()
            return false
        }
        try FileManager.default.createDirectory(
            atPath: (configuration.kms.path as NSString).deletingLastPathComponent,
            withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        _ = try keyFile.create(createdAt: SystemClock().now, random: OpenSSLRandomSource())
        return true
    }
}

struct InitialisationError: Error, CustomStringConvertible {
    let description: String
}

enum DataDirectory {
    /// Root becomes the directory's owner, for good: what root made in it the daemon could not write.
    static func becomeOwner(_ path: String) throws {
        guard geteuid() == 0 else { return }
        let facts = try FileManager.default.attributesOfItem(atPath: path)
        guard let user = (facts[.ownerAccountID] as? NSNumber)?.uint32Value,
            let group = (facts[.groupOwnerAccountID] as? NSNumber)?.uint32Value, user != 0
        else { return }
        guard setgroups(0, nil) == 0, setgid(group) == 0, setuid(user) == 0 else {
            throw InitialisationError(
                description: "cannot become uid \(user), the owner of \(path) (errno \(errno)): run this as that user")
        }
    }

    /// Makes it for its owner alone.
    ///
    /// - Parameter user: who the daemon will run as; what root makes is given to it. Nil leaves it to whoever calls.
    static func ensure(_ path: String, for user: Account? = nil) throws {
        let files = FileManager.default
        guard !files.fileExists(atPath: path) else { return }
        guard geteuid() == 0, let user else {
            try files.createDirectory(
                atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            return
        }
        // Its user must get through the folders above it.
        let parent = (path as NSString).deletingLastPathComponent
        if !files.fileExists(atPath: parent) {
            try files.createDirectory(
                atPath: parent, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        }
        try files.createDirectory(
            atPath: path, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
        guard unsafe chown(path, user.id, user.group) == 0 else {
            throw InitialisationError(
                description: "\(path) cannot be given to \(user.name), the daemon's user (errno \(errno)): "
                    + "make it yourself, with install -d -m 700 -o \(user.name) \(path)")
        }
    }
}
