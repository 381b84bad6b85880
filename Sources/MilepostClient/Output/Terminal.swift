// SPDX-License-Identifier: Apache-2.0

import Glibc

/// What standard output can show.
public struct Terminal: Sendable {
    /// Colours and progress bars only where a person looks; `NO_COLOR` and `TERM=dumb` switch colours off.
    public let hasColours: Bool
    public let isInteractive: Bool

    public init(isInteractive: Bool, hasColours: Bool) {
        self.isInteractive = isInteractive
        self.hasColours = hasColours
    }

    public static func standardOutput(environment: [String: String]) -> Terminal {
        let isTerminal = isatty(STDOUT_FILENO) == 1
        let isPlain = environment["NO_COLOR"].map { !$0.isEmpty } ?? false || environment["TERM"] == "dumb"
        return Terminal(isInteractive: isTerminal, hasColours: isTerminal && !isPlain)
    }

    public enum Colour: String, Sendable { case red = "31", green = "32", yellow = "33", grey = "90", bold = "1" }

    public func paint(_ text: String, _ colour: Colour?) -> String {
        guard hasColours, let colour else { return text }
        return "\u{1b}[\(colour.rawValue)m\(text)\u{1b}[0m"
    }

    /// A state's colour: green works, yellow waits, red needs a person.
    public static func colour(ofState state: String) -> Colour? {
        switch state {
        case "active", "delivered", "running", "ok", "enabled": .green
        case "pending", "held", "in_flight", "uncertain", "retrying", "daily_budget", "plan", "standby", "starting":
            .yellow
        case "dead", "needs_reauth", "permission", "needs_target", "quarantined", "failed", "overdue": .red
        default: nil
        }
    }

    /// Text from elsewhere, with control characters made visible: a link's title must not drive the terminal.
    public static func harmless(_ text: String, keepingLines: Bool = false) -> String {
        func isHarmful(_ scalar: Unicode.Scalar) -> Bool {
            !(keepingLines && scalar == "\n") && (scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value))
        }
        guard text.unicodeScalars.contains(where: isHarmful) else { return text }
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars { result.append(isHarmful(scalar) ? "\u{fffd}" : scalar) }
        return String(result)
    }
}
