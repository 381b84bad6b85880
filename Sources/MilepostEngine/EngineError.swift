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
        /// A state or an id of an authorisation that nobody was sent away with, or that was used.
        case authorizationUnknown = "authorization_unknown"
        /// The vendor gave no access: the person refused, or the code is no good.
        case authorizationRefused = "authorization_refused"
        /// The vendor refuses the app's own credentials.
        case appRefused = "app_refused"
        /// Fewer scopes were granted than the connection needs.
        case scopeMissing = "scope_missing"
        /// The credential is good for one account, and another connection uses it for another.
        case singleAccount = "single_account"
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
