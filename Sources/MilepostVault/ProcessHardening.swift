// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux

/// Makes sure that no dump of this process can be had (decisions 38).
///
/// Our own buffers are locked and wiped; libcurl and libcrypto keep copies of a token that nobody can reach, so the
/// whole process must be closed to core dumps, debuggers and `/proc/PID/mem`.
public enum ProcessHardening {
    /// Non-dumpable, core limit 0. `milepostd` calls it first, before it reads any key; an `execve` undoes it.
    ///
    /// - Throws: `.systemFailure` when the kernel refuses; the daemon must not start then.
    public static func forbidDumps() throws(VaultError) {
        let reason = mp_memory_forbid_dumps()
        guard reason == 0, areDumpsForbidden else {
            throw VaultError(
                .systemFailure,
                "the kernel would not make this process non-dumpable (\(describe(errno: reason))): "
                    + "look for a seccomp filter that forbids prctl or setrlimit")
        }
    }

    /// What the kernel says now; `doctor` shows it.
    public static var areDumpsForbidden: Bool { mp_memory_dumps_forbidden() == 1 }
}
