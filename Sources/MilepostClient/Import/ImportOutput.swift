// SPDX-License-Identifier: Apache-2.0

import Glibc
public import MilepostModel

/// Every rejected line of an import, as NDJSON.
@safe public final class RejectFile {
    private let file: UnsafeMutablePointer<FILE>
    private let path: String

    /// - Parameter isResumed: whether the import goes on where an earlier run was cut short; what that run wrote is kept.
    /// - Throws: `bad_file` when the file cannot be opened for writing.
    public init(path: String, isResumed: Bool = false) throws(ClientError) {
        self.path = path
        guard let file = unsafe fopen(path, isResumed ? "ae" : "we") else {
            throw ClientError(code: "bad_file", detail: "\(path): \(unsafe String(cString: strerror(errno)))")
        }
        unsafe self.file = file
    }

    deinit { unsafe fclose(file) }

    public func append(_ line: ImportSummary.RejectedLine) {
        unsafe fputs(line.json.description + "\n", file)
    }

    /// Writes what is still in memory.
    ///
    /// - Throws: `bad_file` when a line could not be written, be it one before; a full disk is the usual reason.
    public func finish() throws(ClientError) {
        guard unsafe fflush(file) == 0, unsafe ferror(file) == 0 else {
            throw ClientError(
                code: "bad_file", detail: "not every rejected line could be written to \(path)",
                advice: "is the disk full?")
        }
    }
}

/// Clicks, rate and time left, on one line of a terminal.
public final class ImportProgressBar {
    private let terminal: Terminal
    private let clock: () -> Timestamp
    private let start: Timestamp
    private var isShown = false

    public init(terminal: Terminal, clock: @escaping () -> Timestamp) {
        self.terminal = terminal
        self.clock = clock
        start = clock()
    }

    public func show(_ progress: ClickImport.Progress) {
        guard terminal.isInteractive else { return }
        isShown = true
        Prompt.say("\r\u{1b}[K" + Self.text(progress, elapsedMilliseconds: clock().milliseconds - start.milliseconds))
    }

    public func finish() { if isShown { Prompt.say("\n") } }

    /// Says on a line of its own, on a terminal or not, why nothing goes on.
    public func wait(_ error: ClientError, atMost: Duration) {
        finish()
        isShown = false
        Prompt.say(Self.text(error, atMost: atMost))
    }

    static func text(_ error: ClientError, atMost: Duration) -> String {
        let who = error.code == "unreachable" ? "the daemon does not answer" : "the daemon takes nothing now"
        return "milepost: \(who) (\(Terminal.harmless(error.detail))); trying again for "
            + "\(atMost.components.seconds) seconds\n"
    }

    static func text(_ progress: ClickImport.Progress, elapsedMilliseconds: Int64) -> String {
        let elapsed = max(1, elapsedMilliseconds)
        let rate = Int64(progress.summary.clicks) * 1000 / elapsed
        var text = "\(progress.summary.clicks) clicks, \(rate)/s"
        if let total = progress.bytesTotal, total > 0, progress.bytesRead > 0 {
            let share = min(1, Double(progress.bytesRead) / Double(total))
            let bar = String(repeating: "#", count: Int(share * 24)).padded(to: 24)
            let left = Int64(Double(elapsed) * (1 - share) / share) / 1000
            text = "[\(bar)] \(Int(share * 100))% \(text), \(RelativeTime.span(seconds: left)) left"
        }
        return text
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}

extension Pages {
    public func importSummary(_ summary: ImportSummary, isDryRun: Bool) -> String {
        var text = "\(summary.clicks) clicks: "
        text += isDryRun ? "nothing sent (dry run)" : "\(summary.accepted) accepted, \(summary.duplicate) known before"
        text += "\n\(summary.nonClicks) lines without a click, \(summary.rejected) rejected"
        if summary.linksDescribed > 0 { text += "\n\(summary.linksDescribed) links described" }
        if let why = summary.factsRefused { text += "\nlinks not described: \(Terminal.harmless(why))" }
        for line in summary.rejections {
            text += "\n  line \(line.line): \(terminal.paint(line.code, .yellow)) \(Terminal.harmless(line.message))"
        }
        let hidden = summary.rejected - summary.rejections.count
        return hidden > 0 ? text + "\n  … and \(hidden) more; --rejects FILE lists all" : text
    }
}
