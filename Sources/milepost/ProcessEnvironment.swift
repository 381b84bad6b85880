// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostModel

/// What only an executable may read: environment and clock.
enum ProcessEnvironment {
    static var current: [String: String] { ProcessInfo.processInfo.environment }
    static var now: Timestamp { Timestamp(milliseconds: Int64(Date().timeIntervalSince1970 * 1000)) }
}

extension ProcessEnvironment {
    /// Waits on the command line's only thread.
    static func pause(_ duration: Duration) {
        Thread.sleep(
            forTimeInterval: Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18)
    }
}
