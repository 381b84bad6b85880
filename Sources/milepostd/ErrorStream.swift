// SPDX-License-Identifier: Apache-2.0

import Glibc
import Logging
import MilepostSupervision

/// Standard error: lines for whoever started the daemon, or for the journal, which keeps a time and a priority with each.
struct ErrorStream: Sendable {
    /// The journal reads it: it wants the priority before the line (sd-daemon(3)) and has a time of its own.
    let isJournal: Bool

    init(environment: [String: String]) {
        isJournal = JournalStream.takes(STDERR_FILENO, environment: environment)
    }

    /// Why the daemon ends.
    func sayError(_ text: String) {
        write(isJournal ? JournalStream.prefixed(text, priority: Logger.Level.error.journalPriority) : text)
    }

    /// Longest message in bytes; the rest of a longer one is cut.
    private static let maximumBytes = 64 << 10

    /// One write for a message, so that those of several threads do not mix. Losing one because standard error is closed or
    /// full must not end the daemon.
    func write(_ text: String) {
        var bytes = Array(text.utf8.prefix(Self.maximumBytes))
        bytes.append(0x0a)
        _ = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}

extension Logger.Level {
    /// As syslog(3) numbers them.
    var journalPriority: Int {
        switch self {
        case .critical: 2
        case .error: 3
        case .warning: 4
        case .notice: 5
        case .info: 6
        case .debug, .trace: 7
        }
    }
}
