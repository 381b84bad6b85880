// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What `milepost config diff` found: settings of the daemon, and what files for `milepost apply` would change.
public struct ConfigurationDiff: Sendable {
    private let daemon: JSONValue
    private let applied: ApplyReport?

    /// - Parameters:
    ///   - daemon: the answer of `GET /v1/admin/configuration/diff`.
    ///   - applied: a plan; nil where no files were given.
    public init(daemon: JSONValue, applied: ApplyReport?) {
        self.daemon = daemon
        self.applied = applied
    }

    /// Whether the daemon would refuse its files, so that nothing can be said of them.
    public var hasErrors: Bool { !(daemon["errors"]?.array ?? []).isEmpty }

    /// Whether a reload, a restart or `milepost apply` would change anything.
    public var differs: Bool { !changes.isEmpty || (applied?.hasChanges ?? false) }

    public var exitStatus: ExitStatus { hasErrors ? .failure : differs ? .different : .success }

    private var changes: [JSONValue] { daemon["changes"]?.array ?? [] }

    public var json: JSONValue {
        ["differs": .bool(differs), "daemon": daemon, "apply": applied?.json ?? .null]
    }

    public func text(_ terminal: Terminal) -> String {
        var lines: [String] = []
        for error in daemon["errors"]?.array ?? [] {
            lines.append(terminal.paint("! \(Terminal.harmless(error.string ?? ""))", .red))
        }
        for (need, advice) in [("reload", "milepost reload"), ("restart", "systemctl restart milepost")] {
            let some = changes.filter { $0["needs"]?.string == need }
            guard !some.isEmpty else { continue }
            lines.append("after '\(advice)':")
            lines += some.map { Self.line($0, terminal) }
        }
        if let applied, applied.hasChanges { lines.append("after 'milepost apply':") }
        if let applied, applied.hasChanges || applied.hasMore { lines.append(applied.text(terminal)) }
        if !differs, !hasErrors { lines.append("no difference: what the files say is in force") }
        return lines.joined(separator: "\n")
    }

    private static func line(_ change: JSONValue, _ terminal: Terminal) -> String {
        let key = Terminal.harmless(change["key"]?.string ?? "")
        let (running, file) = (change["running"]?.string, change["file"]?.string)
        switch (running, file) {
        case (nil, let file?): return terminal.paint("+ \(key): \(Terminal.harmless(file))", .green)
        case (let running?, nil): return terminal.paint("- \(key): \(Terminal.harmless(running))", .red)
        default:
            return terminal.paint(
                "~ \(key): \(Terminal.harmless(running ?? "")) → \(Terminal.harmless(file ?? ""))", .yellow)
        }
    }
}
