// SPDX-License-Identifier: Apache-2.0

public import MilepostConfiguration
public import MilepostModel

/// How a plan and what came of it are shown.
public struct ApplyReport: Sendable {
    public enum Outcome: Sendable, Equatable {
        case planned, done
        case failed([ConfigurationIssue])
    }
    public private(set) var results: [(step: ApplyStep, outcome: Outcome)] = []
    private let elsewhere: [ApplyKey]

    public init(elsewhere: [ApplyKey]) { self.elsewhere = elsewhere }

    public mutating func add(_ step: ApplyStep, _ outcome: Outcome) { results.append((step, outcome)) }

    public var hasFailed: Bool { results.contains { if case .failed = $0.outcome { true } else { false } } }

    /// Whether the daemon is not what the files say.
    public var hasChanges: Bool { results.contains { $0.step.action != .leave } }

    /// Whether there is something to say beside changes.
    public var hasMore: Bool { !results.isEmpty || !elsewhere.isEmpty }

    public var json: JSONValue {
        [
            "changes": .array(results.filter { $0.step.action != .leave }.map(Self.json)),
            "left": .array(results.filter { $0.step.action == .leave }.map(Self.json)),
            "elsewhere": .array(elsewhere.map { .string($0.description) }),
            "failed": .integer(Int64(results.count { if case .failed = $0.outcome { true } else { false } })),
        ]
    }

    private static func json(_ step: ApplyStep, _ outcome: Outcome) -> JSONValue {
        var issues: [ConfigurationIssue] = []
        let word =
            switch outcome {
            case .planned: "planned"
            case .done: "done"
            case .failed: "failed"
            }
        if case .failed(let found) = outcome { issues = found }
        return [
            "action": .string(step.action.rawValue), "kind": .string(step.key.kind.rawValue),
            "workspace": step.key.workspace.isEmpty ? .null : .string(step.key.workspace),
            "name": .string(step.key.name), "source": .string(step.source),
            "line": step.desired?.line.map { .integer(Int64($0)) } ?? .null, "result": .string(word),
            "changes": .array(
                step.changes.map {
                    ["field": .string($0.field), "from": $0.from ?? .null, "to": $0.to ?? .null]
                }), "errors": .array(issues.map(\.json)),
        ]
    }

    public func text(_ terminal: Terminal) -> String {
        var lines = results.flatMap { Self.lines(of: $0.step, $0.outcome, terminal) }
        if results.allSatisfy({ $0.step.action == .leave }) {
            lines.append("nothing to change: the daemon is what the files say")
        }
        let left = results.count { $0.step.action == .leave }
        if left > 0 { lines.append("\(left) no longer named by any file: --prune takes them away") }
        if !elsewhere.isEmpty { lines.append("\(elsewhere.count) come from files that were not given: left alone") }
        return lines.joined(separator: "\n")
    }

    private static func lines(of step: ApplyStep, _ outcome: Outcome, _ terminal: Terminal) -> [String] {
        let (sign, colour): (String, Terminal.Colour) =
            switch step.action {
            case .create: ("+", .green)
            case .change, .adopt: ("~", .yellow)
            case .remove: ("-", .red)
            case .leave: ("?", .grey)
            }
        let place =
            step.desired.map { "\($0.source)\($0.line.map { ":\($0)" } ?? "")" } ?? "no longer in \(step.source)"
        let note = step.action == .adopt ? "   (made by hand; from now on this file's)" : ""
        let done =
            switch outcome {
            case .planned: ""
            case .done: "   done"
            case .failed: "   FAILED"
            }
        var lines = [
            terminal.paint("\(sign) \(Terminal.harmless(step.key.description))", colour)
                + "   \(Terminal.harmless(place))\(note)\(done)"
        ]
        if step.action != .leave, step.action != .remove {
            lines += step.changes.map { change in
                let from = change.from.map { Terminal.harmless($0.cell) + " → " } ?? ""
                return "    \(Terminal.harmless(change.field)): \(from)"
                    + (change.to.map { Terminal.harmless($0.cell) } ?? "back to its default")
            }
        }
        if case .failed(let issues) = outcome { lines += issues.map { "    \(Terminal.harmless("\($0)"))" } }
        return lines
    }
}

extension ConfigurationIssue {
    /// As `--json` shows it.
    public var json: JSONValue {
        [
            "code": .string(code.rawValue), "file": .string(file), "line": line.map { .integer(Int64($0)) } ?? .null,
            "message": .string(message),
        ]
    }
}
