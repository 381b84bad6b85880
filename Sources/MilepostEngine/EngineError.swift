// SPDX-License-Identifier: Apache-2.0

public import MilepostRules

/// Why the engine could not do what it was asked. `code` is stable: it is the `code` of the problem document.
public struct EngineError: Error, Sendable, CustomStringConvertible {
    public enum Code: String, Sendable {
        case notFound = "not_found"
        case conflict
        case managed
        case validationFailed = "validation_failed"
        case credentialRefused = "credential_refused"
        case permissionMissing = "permission_missing"
        case pluginUnavailable = "plugin_unavailable"
        case vendorUnavailable = "vendor_unavailable"
        case rateLimited = "rate_limited"
        case needsReauth = "needs_reauth"
        case secretUnavailable = "secret_unavailable"
    }
    public let code: Code
    /// What happened, to what, why, what to do. Never a secret.
    public let detail: String
    /// Which settings are wrong, for `validationFailed`.
    public let errors: [SettingError]

    public init(code: Code, detail: String, errors: [SettingError] = []) {
        self.code = code
        self.detail = detail
        self.errors = errors
    }

    public var description: String { detail }
}
