// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// One open file. Owned, moved, never copied; closed exactly once.
struct FileDescriptor: ~Copyable {
    private let number: Int32

    init(
        _ path: String, flags: Int32, mode: mode_t = 0, failure: (Int32) -> VaultError
    ) throws(VaultError) {
        let number = unsafe open(path, flags | O_CLOEXEC, mode)
        guard number >= 0 else { throw failure(errno) }
        self.number = number
    }

    deinit { _ = close(number) }  // Written files were synchronised before; nothing is left that could fail.

    borrowing func status(_ path: String) throws(VaultError) -> stat {
        var status = stat()
        guard unsafe fstat(number, &status) == 0 else { throw Self.failure("reading the state of", path) }
        return status
    }

    /// Fills `room`; a file that is shorter by now is an error.
    borrowing func read(into room: UnsafeMutableRawBufferPointer, path: String) throws(VaultError) {
        var done = 0
        while done < room.count {
            let count = unsafe Glibc.read(number, room.baseAddress?.advanced(by: done), room.count - done)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                throw count == 0
                    ? VaultError(.keyRingUnreadable, "\(path) shrank while it was read: try again")
                    : Self.failure("reading", path)
            }
            done += count
        }
    }

    borrowing func write(_ bytes: UnsafeRawBufferPointer, path: String) throws(VaultError) {
        var done = 0
        while done < bytes.count {
            let count = unsafe Glibc.write(number, bytes.baseAddress?.advanced(by: done), bytes.count - done)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw Self.failure("writing", path) }
            done += count
        }
    }

    borrowing func synchronize(_ path: String) throws(VaultError) {
        guard fsync(number) == 0 else { throw Self.failure("fsync of", path) }
    }

    borrowing func setOwner(_ user: uid_t, _ group: gid_t, mode: mode_t, path: String) throws(VaultError) {
        guard fchown(number, user, group) == 0, fchmod(number, mode) == 0 else {
            throw Self.failure("setting the owner of", path)
        }
    }

    borrowing func setMode(_ mode: mode_t, path: String) throws(VaultError) {
        guard fchmod(number, mode) == 0 else { throw Self.failure("setting the mode of", path) }
    }

    private static func failure(_ what: String, _ path: String) -> VaultError {
        let reason = errno
        return VaultError(.keyRingUnreadable, "\(what) \(path) failed: \(describe(errno: reason))")
    }
}

/// The next version of a file, beside it under `<path>.new`: created with O_EXCL, so it is the lock against another
/// change too; removed at the end unless it was renamed into place.
struct PendingFile: ~Copyable {
    let path: String
    private let file: FileDescriptor
    /// Whether `path` is still ours to remove: after a rename the name is free for the next change's file.
    private var isPending = true

    init(for target: String) throws(VaultError) {
        let path = target + ".new"
        self.path = path
        file = try FileDescriptor(path, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600) {
            Self.failure(path, $0)
        }
    }

    deinit {
        if isPending { _ = unsafe unlink(path) }  // Should it stay, the next change says so.
    }

    mutating func rename(to target: String) throws(VaultError) {
        guard unsafe Glibc.rename(path, target) == 0 else { throw failure(errno) }
        isPending = false
    }

    borrowing func write(_ ring: KeyRing) throws(VaultError) {
        try file.setMode(0o600, path: path)  // Whatever the umask left.
        let text = try ring.serialized()
        guard text.count <= KeyRing.maximumFileByteCount else {
            throw VaultError(.limitExceeded, "\(path) would have \(text.count) bytes: drop old keys first")
        }
        try unsafe text.withBytes { (bytes: UnsafeRawBufferPointer) throws(VaultError) in
            try unsafe file.write(bytes, path: path)
        }
        try file.synchronize(path)
    }

    /// Keeps the owner and mode that the file had: root may rotate the ring of a daemon that is not root.
    borrowing func adopt(_ owner: stat) throws(VaultError) {
        try file.setOwner(owner.st_uid, owner.st_gid, mode: owner.st_mode & 0o7777, path: path)
        try file.synchronize(path)
    }

    borrowing func failure(_ reason: Int32) -> VaultError { Self.failure(path, reason) }

    private static func failure(_ path: String, _ reason: Int32) -> VaultError {
        switch reason {
        case EEXIST:
            VaultError(
                .keyRingBusy,
                "\(path) exists, so another change of the key ring is under way: wait for it; if none is (a crash "
                    + "left it), remove that file")
        case EROFS, EACCES, EPERM:
            VaultError(
                .keyRingReadOnly,
                "\(path) cannot be written (\(describe(errno: reason))): the daemon may only read the key ring. Run this "
                    + "milepost command as root on the daemon's machine: it changes the original, which is taken up when "
                    + "the daemon is restarted (systemctl restart milepost)")
        default:
            VaultError(.keyRingUnreadable, "\(path) cannot be written: \(describe(errno: reason))")
        }
    }
}
