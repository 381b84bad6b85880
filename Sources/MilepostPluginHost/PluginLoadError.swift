// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Why a plugin was refused. `code` is stable: it appears in the API, in logs, in metrics and in docs/errors.md.
public struct PluginLoadError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: String, Sendable, CaseIterable {
        case fileUntrusted = "file_untrusted"
        case fileMissing = "file_missing"
        case manifestMissing = "manifest_missing"
        case manifestInvalid = "manifest_invalid"
        case manifestDisagrees = "manifest_disagrees"
        case entryMissing = "entry_missing"
        case abiMajorMismatch = "abi_major_mismatch"
        case hostTooOld = "host_too_old"
        case loadFailed = "load_failed"
        case describeTooSlow = "describe_too_slow"
        case sandboxUnavailable = "sandbox_unavailable"
    }

    public let code: Code
    public let plugin: PluginName
    /// One sentence for the operator: what was seen, and what to do. Never a secret.
    public let detail: String

    public init(code: Code, plugin: PluginName, detail: String) {
        self.code = code
        self.plugin = plugin
        self.detail = detail
    }

    public var description: String { "plugin \(plugin) refused (\(code.rawValue)): \(detail)" }
}
