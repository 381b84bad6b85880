// SPDX-License-Identifier: Apache-2.0

import Logging
import MilepostConfiguration
import MilepostModel
import MilepostSupervision
import Synchronization

/// Writes log lines to standard error, as text or as one JSON object a line.
struct LogOutput: LogHandler {
    let label: String
    let format: Configuration.Log.Format
    let stream: ErrorStream
    let level: LogLevel
    /// Nothing below it is written, unless the level is `trace`: for frameworks that say at `info` what is detail to us.
    var floor = Logger.Level.trace
    /// A level of this logger alone, when its owner sets one.
    private var own: Logger.Level?
    var metadata: Logger.Metadata = [:]

    /// Shared by all loggers, so that a reload changes it everywhere.
    final class LogLevel: Sendable {
        private let value: Mutex<Logger.Level>
        init(_ level: Logger.Level) { value = Mutex(level) }
        var current: Logger.Level {
            get { value.withLock { $0 } }
            set { value.withLock { $0 = newValue } }
        }
    }

    init(
        label: String, format: Configuration.Log.Format, stream: ErrorStream, level: LogLevel,
        floor: Logger.Level = .trace
    ) {
        self.label = label
        self.format = format
        self.stream = stream
        self.level = level
        self.floor = floor
    }

    var logLevel: Logger.Level {
        get {
            if let own { return own }
            let current = level.current
            return current == .trace ? current : max(current, floor)
        }
        set { own = newValue }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let facts = metadata.merging(event.metadata ?? [:]) { _, new in new }
        let now = SystemClock().now.description
        let line: String
        switch format {
        case .json:
            var members: [String: JSONValue] = [
                "ts": .string(now), "level": .string(event.level.rawValue), "logger": .string(label),
                "message": .string("\(event.message)"),
            ]
            for (key, value) in facts { members[key] = .string("\(value)") }
            line = JSONValue.object(members).description
        case .text:
            let tail = facts.sorted { $0.key < $1.key }.map { " \($0.key)=\(Self.quoted("\($0.value)"))" }.joined()
            let said = "\(event.level.rawValue.uppercased()) \(label): \(Self.oneLine("\(event.message)"))\(tail)"
            line =
                stream.isJournal
                ? JournalStream.prefixed(said, priority: event.level.journalPriority) : "\(now) \(said)"
        }
        stream.write(line)
    }

    private static func quoted(_ text: String) -> String {
        let isPlain = !text.isEmpty && text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x22 && $0 != 0x7f }
        return isPlain ? text : JSONValue.string(text).description
    }

    /// A log line stays one line, whatever a vendor's text holds.
    private static func oneLine(_ text: String) -> String {
        String(text.map { $0.isNewline ? " " : $0 })
    }
}

extension Logger.Level {
    init(_ level: Configuration.Log.Level) {
        self =
            switch level {
            case .error: .error
            case .warning: .warning
            case .info: .info
            case .debug: .debug
            case .trace: .trace
            }
    }
}
