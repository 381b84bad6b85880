// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The right to be the daemon of a data directory: a lock on `milepost.lock` in it, which the kernel releases when the
/// process ends, however it ends. A second daemon waits as a standby and takes over.
///
/// Held as long as the object lives or until `release`. The descriptor closes on exec, so a plugin worker never holds
/// it.
public final class DataDirectoryLock: Sendable {
    /// The directory it is for, without symbolic links.
    public let directory: String
    private let descriptor: Mutex<Int32>

    /// Directories that this process holds, so that a store opened under the daemon's lock does not wait for itself.
    private static let held = Mutex<Set<String>>([])

    private init(directory: String, descriptor: Int32) {
        self.directory = directory
        self.descriptor = Mutex(descriptor)
    }

    deinit { release() }

    /// Takes the lock if nobody has it.
    ///
    /// - Returns: nil when another daemon (or another part of this process) holds it.
    /// - Throws: `failed` when the directory or the file cannot be opened.
    public static func tryAcquire(directory: String) throws -> DataDirectoryLock? {
        let resolved = try resolve(directory)
        let path = resolved + "/milepost.lock"
        let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw StoreError(
                code: .failed, detail: "cannot open '\(path)': \(errorText()). The daemon's user must own the directory"
            )
        }
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            let code = errno
            if code == EINTR { continue }
            close(descriptor)
            if code == EWOULDBLOCK { return nil }
            throw StoreError(code: .failed, detail: "cannot lock '\(path)': \(errorText(code))")
        }
        held.withLock { _ = $0.insert(resolved) }
        return DataDirectoryLock(directory: resolved, descriptor: descriptor)
    }

    /// Waits until the lock is free: a standby's life. Looks every `interval`; cancellation ends it.
    public static func acquire(
        directory: String, clock: any DaemonClock, interval: Duration = .milliseconds(200)
    ) async throws -> DataDirectoryLock {
        while true {
            if let lock = try tryAcquire(directory: directory) { return lock }
            try await clock.sleep(for: interval)
        }
    }

    /// Gives the lock back. May be called more than once.
    public func release() {
        let descriptor = self.descriptor.withLock { descriptor in
            defer { descriptor = -1 }
            return descriptor
        }
        guard descriptor >= 0 else { return }
        _ = Self.held.withLock { $0.remove(directory) }
        close(descriptor)
    }

    static func isHeldHere(_ resolved: String) -> Bool { held.withLock { $0.contains(resolved) } }

    /// The directory's real path: two names of one directory are one lock.
    static func resolve(_ directory: String) throws -> String {
        guard let path = unsafe realpath(directory, nil) else {
            throw StoreError(
                code: .failed,
                detail:
                    "cannot use the data directory '\(directory)': \(errorText()). Create it for the daemon's user"
            )
        }
        defer { unsafe free(path) }
        return unsafe String(cString: path)
    }

    private static func errorText(_ code: Int32 = errno) -> String {
        unsafe String(cString: strerror(code))
    }
}
