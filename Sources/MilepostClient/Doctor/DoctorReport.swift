// SPDX-License-Identifier: Apache-2.0

public import MilepostConfiguration
public import MilepostModel

/// All findings of one examination, as text and as JSON.
public struct DoctorReport: Sendable {
    public let findings: [Finding]

    public init(findings: [Finding]) { self.findings = findings }

    /// Whether something is wrong that the exit status tells.
    public var hasProblem: Bool { findings.contains { $0.severity == .problem } }

    public var json: JSONValue {
        .object(["healthy": .bool(!hasProblem), "findings": .array(findings.map(\.json))])
    }

    /// What is well first, what is wrong last, where the reader is.
    public func page(_ terminal: Terminal) -> String {
        let order: [Finding.Severity] = [.ok, .warning, .problem]
        let lines = order.flatMap { severity in
            findings.filter { $0.severity == severity }.map { line($0, terminal) }
        }
        let problems = findings.count { $0.severity == .problem }
        let warnings = findings.count { $0.severity == .warning }
        let end: String =
            switch (problems, warnings) {
            case (0, 0): terminal.paint("nothing is wrong", .green)
            case (0, _): terminal.paint("nothing is wrong", .green) + "; warnings: \(warnings)"
            default: terminal.paint("problems: \(problems)", .red) + "; warnings: \(warnings)"
            }
        return (lines + ["", end]).joined(separator: "\n")
    }

    private func line(_ finding: Finding, _ terminal: Terminal) -> String {
        let colour: Terminal.Colour =
            switch finding.severity {
            case .ok: .green
            case .warning: .yellow
            case .problem: .red
            }
        let head =
            terminal.paint(finding.severity.rawValue, colour) + "  \(finding.area.rawValue): "
            + Terminal.harmless(finding.what)
        guard finding.severity != .ok else { return head }
        let cause = "\n  because \(Terminal.harmless(finding.cause, keepingLines: true))"
        let cure = "\n  → \(Terminal.harmless(finding.cure, keepingLines: true))"
        return head + cause + cure + (finding.reference.map { "\n  \($0) in the administrator's guide" } ?? "")
    }
}
