// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Copies a database file that nobody has open. Where the file system can share blocks (btrfs, xfs) the kernel does, and the copy
/// costs neither time nor room.
struct DatabaseCopy {
    let source: String
    let destination: String

    private static let piece = 64 << 20
    /// So that no single wait for the disk is so long that nobody hears of us for minutes.
    private static let syncedEvery: Int64 = 1 << 30

    /// Made for its owner alone, complete and on disk when this returns.
    ///
    /// - Throws: `storageFull`; `failed` with what the system said.
    func run(report: (_ done: Int64, _ total: Int64) -> Void) throws {
        let from = unsafe open(source, O_RDONLY | O_CLOEXEC)
        guard from >= 0 else { throw Self.failure("reading '\(source)'") }
        defer { close(from) }
        let to = unsafe open(destination, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard to >= 0 else { throw Self.failure("making '\(destination)'") }
        defer { close(to) }
        var facts = stat()
        guard unsafe fstat(from, &facts) == 0 else { throw Self.failure("looking at '\(source)'") }
        let total = Int64(facts.st_size)
        var done: Int64 = 0
        while done < total {
            report(done, total)
            let copied = milepost_copy_range(from, to, Self.piece)
            if copied > 0 {
                if done / Self.syncedEvery != (done + copied) / Self.syncedEvery { try sync(to) }
                done += copied
            } else if done == 0, [EXDEV, EINVAL, ENOSYS, EOPNOTSUPP, EPERM].contains(Int32(-copied)) {
                try byHand(from, to, total, report)
                done = total
            } else if copied < 0 {
                throw Self.failure("copying '\(source)'", Int32(-copied))
            } else {
                throw StoreError(
                    code: .failed, detail: "'\(source)' grew shorter while it was copied: who else writes it?")
            }
        }
        try sync(to)
    }

    /// Every time: the kernel tells a failure of writing back once, and the last call would know nothing of it.
    private func sync(_ file: Int32) throws {
        guard fsync(file) == 0 else { throw Self.failure("writing '\(destination)'") }
    }

    private func byHand(_ from: Int32, _ to: Int32, _ total: Int64, _ report: (Int64, Int64) -> Void) throws {
        var room = [UInt8](repeating: 0, count: 4 << 20)
        var done: Int64 = 0
        while true {
            let count = unsafe read(from, &room, room.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Self.failure("reading '\(source)'") }
            guard count > 0 else { return }
            var written = 0
            while written < count {
                let step = unsafe room.withUnsafeBytes { unsafe write(to, $0.baseAddress! + written, count - written) }
                if step < 0, errno == EINTR { continue }
                guard step > 0 else { throw Self.failure("writing '\(destination)'") }
                written += step
            }
            if done / Self.syncedEvery != (done + Int64(count)) / Self.syncedEvery { try sync(to) }
            done += Int64(count)
            report(done, total)
        }
    }

    static func failure(_ activity: String, _ code: Int32 = errno) -> StoreError {
        let seen = unsafe String(cString: strerror(code))
        return StoreError(
            code: code == ENOSPC || code == EDQUOT ? .storageFull : .failed, detail: "\(activity): \(seen)")
    }
}
