// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc
import MilepostModel

/// What only an executable may read: environment and clock.
enum ProcessEnvironment {
    static var current: [String: String] { ProcessInfo.processInfo.environment }
    static var now: Timestamp { Timestamp(milliseconds: Int64(Date().timeIntervalSince1970 * 1000)) }
}

extension ProcessEnvironment {
    /// Waits on the command line's only thread.
    static func pause(_ duration: Duration) {
        var left = timespec(
            tv_sec: Int(duration.components.seconds), tv_nsec: Int(duration.components.attoseconds / 1_000_000_000))
        var unslept = timespec()
        while unsafe nanosleep(&left, &unslept) != 0 && errno == EINTR { left = unslept }
    }
}
