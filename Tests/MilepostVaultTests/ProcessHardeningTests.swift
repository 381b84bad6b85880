// SPDX-License-Identifier: Apache-2.0

import Glibc
import MilepostVault
import Testing

@Suite struct ProcessHardeningTests {
    /// In a process of its own, because there is no way back. SEC-07, decisions 38.
    @Test("SEC-07: after hardening the kernel gives no dump of the process")
    func noDump() async {
        await #expect(processExitsWith: .exitCode(42)) {
            try ProcessHardening.forbidDumps()
            var core = rlimit()
            let isRead = unsafe getrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &core) == 0
            let isClosed = isRead && core.rlim_cur == 0 && core.rlim_max == 0 && ProcessHardening.areDumpsForbidden
            exit(isClosed ? 42 : 1)
        }
    }

    /// `/proc/PID/mem` of a non-dumpable process belongs to root, so its own user cannot read it (decisions 40).
    @Test("SEC-07: another process of the same unprivileged user cannot open the memory", .enabled(if: geteuid() == 0))
    func memoryIsClosed() async {
        await #expect(processExitsWith: .exitCode(42)) {
            guard setgid(65_534) == 0, setuid(65_534) == 0 else { exit(2) }
            // setuid alone makes a process non-dumpable; undo that, so that the test can fail.
            guard prctlSetDumpable(), ownerOfMemory() == 65_534 else { exit(3) }
            try ProcessHardening.forbidDumps()
            exit(ownerOfMemory() == 0 ? 42 : 1)
        }
    }

    @Test("memory that cannot be locked refuses the secret, with the cure", .enabled(if: geteuid() == 0))
    func lockRefused() async {
        await #expect(processExitsWith: .exitCode(42)) {
            var none = rlimit(rlim_cur: 0, rlim_max: 0)
            guard unsafe setrlimit(Int32(__RLIMIT_MEMLOCK.rawValue), &none) == 0, setuid(65_534) == 0 else {
                exit(2)
            }
            let error = await failure { _ = try secret() }
            exit(error?.code == .memoryNotLockable && error?.detail.contains("LimitMEMLOCK") == true ? 42 : 1)
        }
    }
}

/// Of this thread: the first one has ended in a process with an asynchronous main, and an ended thread has no memory.
private func ownerOfMemory() -> uid_t {
    var status = stat()
    guard unsafe stat("/proc/thread-self/mem", &status) == 0 else { return .max }
    return status.st_uid
}

/// prctl is variadic in C, so Swift does not import it; on this ABI it takes its arguments like a function of five.
private func prctlSetDumpable() -> Bool {
    typealias Prctl = @convention(c) (Int32, CUnsignedLong, CUnsignedLong, CUnsignedLong, CUnsignedLong) -> Int32
    guard let symbol = unsafe dlsym(nil, "prctl") else { return false }
    let prctl = unsafe unsafeBitCast(symbol, to: Prctl.self)
    return prctl(4, 1, 0, 0, 0) == 0
}
