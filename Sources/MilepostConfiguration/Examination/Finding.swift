// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// One thing that `milepost doctor` looked at.
public struct Finding: Sendable, Hashable {
    public enum Severity: String, Sendable { case ok, warning, problem }

    /// What doctor examines; every finding belongs to one.
    public enum Area: String, Sendable, CaseIterable {
        case configuration, permissions, key, clock, disk, plugins, connections, webhooks, tls, dns
        /// The daemon itself: whether it answers, and its schedule.
        case daemon
    }

    public let area: Area
    /// Stable; for scripts.
    public let code: String
    public let severity: Severity
    public let what: String
    public let cause: String
    public let cure: String
    /// The row of the administrator's table of troubles, such as `TRB-04`; nil when it has none.
    public let reference: String?

    public init(
        _ area: Area, code: String, severity: Severity, what: String, cause: String = "", cure: String = "",
        reference: String? = nil
    ) {
        self.area = area
        self.code = code
        self.severity = severity
        self.what = what
        self.cause = cause
        self.cure = cure
        self.reference = reference
    }

    public var json: JSONValue {
        .object([
            "area": .string(area.rawValue), "code": .string(code), "severity": .string(severity.rawValue),
            "what": .string(what), "cause": .string(cause), "cure": .string(cure),
            "reference": JSONValue(reference),
        ])
    }
}
