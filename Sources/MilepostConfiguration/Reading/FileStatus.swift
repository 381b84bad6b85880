// SPDX-License-Identifier: Apache-2.0

import Glibc

/// What the file system says about a path, links followed.
struct FileStatus: Sendable {
    let isRegular: Bool
    let isDirectory: Bool
    let owner: UInt32
    let group: UInt32
    /// Permission bits only.
    let mode: UInt32
    let size: Int

    /// Nil when there is nothing, or when it cannot be reached.
    init?(path: String) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { return nil }
        isRegular = status.st_mode & S_IFMT == S_IFREG
        isDirectory = status.st_mode & S_IFMT == S_IFDIR
        owner = status.st_uid
        group = status.st_gid
        mode = status.st_mode & 0o7777
        size = Int(status.st_size)
    }

    /// Whether there is certainly nothing: what cannot be reached may be there.
    static func isAbsent(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) != 0 && (errno == ENOENT || errno == ENOTDIR)
    }
}
