// SPDX-License-Identifier: Apache-2.0

/// One thing that is wrong with a configuration, with the place to mend.
public struct ConfigurationIssue: Sendable, Hashable, CustomStringConvertible {
    /// Stable; for scripts and tests.
    public enum Code: String, Sendable {
        case unreadable, tooLarge = "too_large", notYAML = "not_yaml", tooDeep = "too_deep", alias
        case duplicateKey = "duplicate_key", unknownKey = "unknown_key", wrongType = "wrong_type"
        case inconsistent, unknownVariable = "unknown_variable"
        /// The daemon did not take it; the message says why.
        case refused
    }
    public let code: Code
    /// Where it stands: a file's path, or `environment`.
    public let file: String
    /// 1 for the first line; nil when the whole file, or the environment, is meant.
    public let line: Int?
    /// What is wrong, and what would be right.
    public let message: String

    public init(code: Code, file: String, line: Int?, message: String) {
        self.code = code
        self.file = file
        self.line = line
        self.message = message
    }

    public var description: String { line.map { "\(file):\($0): \(message)" } ?? "\(file): \(message)" }
}

/// Everything that is wrong with a configuration, found in one go.
public struct ConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Never empty; in order of file, then line.
    public let issues: [ConfigurationIssue]

    public init(issues: [ConfigurationIssue]) {
        precondition(!issues.isEmpty, "a configuration error without an issue")
        self.issues = issues
    }

    /// One issue a line.
    public var description: String { issues.map(\.description).joined(separator: "\n") }
}
