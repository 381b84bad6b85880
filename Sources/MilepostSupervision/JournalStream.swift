// SPDX-License-Identifier: Apache-2.0

import Glibc

/// The journal as the reader of a stream of lines.
///
/// Any thread may ask.
public enum JournalStream {
    /// Whether what is written to `descriptor` goes to the journal: systemd names device and inode of the stream that it
    /// connected (systemd.exec(5), `JOURNAL_STREAM`). They are compared, because the variable is inherited by processes whose
    /// output goes elsewhere.
    ///
    /// - Parameter environment: what the service manager set.
    public static func takes(_ descriptor: Int32, environment: [String: String]) -> Bool {
        guard let named = environment["JOURNAL_STREAM"] else { return false }
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { return false }
        return named == "\(status.st_dev):\(status.st_ino)"
    }

    /// `text` with its priority before each of its lines, as sd-daemon(3) has it: one prefix counts to the end of the line.
    ///
    /// - Parameter priority: 0 (emergency) to 7 (debug), as for syslog(3).
    public static func prefixed(_ text: String, priority: Int) -> String {
        text.split(whereSeparator: \.isNewline).map { "<\(priority)>\($0)" }.joined(separator: "\n")
    }
}
