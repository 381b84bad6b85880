// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// One thing that `milepost doctor` looked at.
public struct Finding: Sendable, Hashable {
    public enum Severity: String, Sendable { case ok, warning, problem }
    /// Stable; for scripts.
    public let code: String
    public let severity: Severity
    public let what: String
    public let cause: String
    public let cure: String

    public init(code: String, severity: Severity, what: String, cause: String = "", cure: String = "") {
        self.code = code
        self.severity = severity
        self.what = what
        self.cause = cause
        self.cure = cure
    }

    public var json: JSONValue {
        .object([
            "code": .string(code), "severity": .string(severity.rawValue), "what": .string(what),
            "cause": .string(cause),
            "cure": .string(cure),
        ])
    }
}
