// SPDX-License-Identifier: Apache-2.0

internal import Glibc
public import MilepostModel

/// A key ring on disk.
///
/// One file and no directory, because systemd hands a credential on as one file. Every function blocks on the disk:
/// call them at start or from a thread of your own. Changes are written beside the file and renamed over it, so that a
/// crash leaves either the old ring or the new one.
public struct KeyRingFile: Sendable {
    public let path: String
    private let ownUID: UInt32

    /// - Parameters:
    ///   - path: `$CREDENTIALS_DIRECTORY/kek` when set, else the configured one; the caller has decided (decisions 33).
    ///   - ownUID: who else than root may own the file; nil for the process's effective user.
    public init(path: String, ownUID: UInt32? = nil) {
        self.path = path
        self.ownUID = ownUID ?? geteuid()
    }

    // MARK: Reading

    /// - Throws: `.keyRingUnreadable`, `.keyRingUntrusted` or `.keyRingMalformed`, each with the cure.
    public func read() throws(VaultError) -> KeyRing { try open().ring }

    private func open() throws(VaultError) -> (ring: KeyRing, owner: stat) {
        // Non-blocking, so that a FIFO in the file's place cannot hold the start up.
        let file = try FileDescriptor(path, flags: O_RDONLY | O_NONBLOCK | O_NOCTTY) { [path] reason in
            let cure =
                reason == ENOENT
                ? "restore it from its own backup; for a new installation milepost init makes it"
                : "see who may read it"
            return VaultError(
                .keyRingUnreadable, "the key ring \(path) cannot be opened (\(describe(errno: reason))): \(cure)")
        }
        let status = try file.status(path)
        try check(status)
        guard (1...KeyRing.maximumFileByteCount).contains(Int(status.st_size)) else {
            throw VaultError(
                .keyRingMalformed,
                "the key ring \(path) has \(status.st_size) bytes, it may have 1 to "
                    + "\(KeyRing.maximumFileByteCount): restore it from where you keep a copy")
        }
        let text = try unsafe SecretBytes(count: Int(status.st_size)) { (room) throws(VaultError) in
            try unsafe file.read(into: room, path: path)
        }
        return (try KeyRing(parsing: text, origin: path), status)
    }

    /// Others must neither read the keys nor put theirs in place.
    private func check(_ status: stat) throws(VaultError) {
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw VaultError(.keyRingUntrusted, "the key ring \(path) is not a regular file")
        }
        guard status.st_uid == ownUID || status.st_uid == 0 else {
            throw VaultError(
                .keyRingUntrusted,
                "the key ring \(path) belongs to user \(status.st_uid), who could replace it: chown it to root or to "
                    + "user \(ownUID)")
        }
        // systemd gives a credential to its service by an access list, whose mask shows as the group's bits (0440);
        // the group itself is root's then.
        let isRootsOwn = status.st_uid == 0 && status.st_gid == 0
        let allowed: mode_t = isRootsOwn ? 0o640 : 0o600
        let mode = status.st_mode & 0o7777
        guard mode & ~allowed == 0 else {
            throw VaultError(
                .keyRingUntrusted,
                "the key ring \(path) has mode 0\(String(mode, radix: 8)), others could read it: chmod 0600 \(path), "
                    + "and make a new key (milepost keys new) if others have been on this machine")
        }
    }

    /// A ring inside the data directory would travel with every backup of it and make the encryption worthless.
    ///
    /// Links are followed on both sides. - Throws: `.keyInsideDataDirectory`.
    public func checkOutside(dataDirectory: String) throws(VaultError) {
        guard let data = Self.resolve(dataDirectory) else { return }  // No directory yet, so nothing lies inside it.
        let parent = Self.parent(of: path)
        for candidate in [Self.resolve(path), Self.resolve(parent)].compactMap({ $0 }) {
            guard candidate != data, !candidate.hasPrefix(data.hasSuffix("/") ? data : data + "/") else {
                throw VaultError(
                    .keyInsideDataDirectory,
                    "the key ring \(path) lies inside the data directory \(dataDirectory), so a backup would carry the "
                        + "keys with the data: move it, for example to /etc/milepost/credentials/kek, and set kms.path")
            }
        }
    }

    // MARK: Writing

    /// Creates the file, 0600, with one fresh key.
    ///
    /// - Throws: `.keyRingBusy` when there is one already; it is left alone.
    public func create(createdAt time: Timestamp, random: any SecureRandomSource) throws(VaultError) -> KeyRing {
        let ring = try KeyRing(createdAt: time, random: random)
        try replace { (pending: inout PendingFile) throws(VaultError) in
            try pending.write(ring)
            // link() refuses an existing name, which rename() would overwrite.
            guard unsafe link(pending.path, path) == 0 else {
                let reason = errno
                throw VaultError(
                    reason == EEXIST ? .keyRingBusy : .keyRingUnreadable,
                    "the key ring \(path) was not created (\(describe(errno: reason))): add a key to an existing ring "
                        + "with milepost keys new")
            }
        }
        return ring
    }

    /// Rotation, first step: a fresh key, which becomes the current one once the daemon has reloaded.
    ///
    /// - Throws: `.keyRingBusy` while another change is under way, and what reading throws.
    public func addKey(createdAt time: Timestamp, random: any SecureRandomSource) throws(VaultError) -> KeyRing {
        try change { (ring) throws(VaultError) in try ring.add(createdAt: time, random: random) }
    }

    /// Rotation, last step: removes a key that wraps nothing any more (`Vault.checkUnused` knows).
    ///
    /// - Throws: `.keyInUse` for the current key, `.keyUnknown`, `.keyRingBusy`, and what reading throws.
    public func dropKey(_ id: String) throws(VaultError) -> KeyRing {
        try change { (ring) throws(VaultError) in try ring.drop(id) }
    }

    private func change(_ body: (inout KeyRing) throws(VaultError) -> Void) throws(VaultError) -> KeyRing {
        var information = stat()
        if unsafe lstat(path, &information) == 0, information.st_mode & S_IFMT == S_IFLNK {
            throw VaultError(.keyRingUntrusted, "\(path) is a link: change the file it points to, by its own path")
        }
        var changed: KeyRing?
        try replace { (pending: inout PendingFile) throws(VaultError) in
            // Read with the pending file in hand: it is the lock against another change.
            var (ring, owner) = try open()
            try body(&ring)
            try pending.write(ring)
            try pending.adopt(owner)
            try pending.rename(to: path)
            changed = ring
        }
        guard let changed else { preconditionFailure("a change of \(path) neither failed nor happened") }
        return changed
    }

    private func replace(_ body: (inout PendingFile) throws(VaultError) -> Void) throws(VaultError) {
        var pending = try PendingFile(for: path)
        try body(&pending)
        let parent = Self.parent(of: path)
        let directory = try FileDescriptor(parent, flags: O_RDONLY | O_DIRECTORY) { pending.failure($0) }
        try directory.synchronize(parent)
    }

    // MARK: Paths

    private static func resolve(_ path: String) -> String? {
        guard let resolved = unsafe realpath(path, nil) else { return nil }
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }

    private static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}
