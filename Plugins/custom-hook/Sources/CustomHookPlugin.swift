// SPDX-License-Identifier: Apache-2.0

public import MilepostKit
import Synchronization

/// Posts events to an address of the administrator's: signed, and with an id by which the receiver tells repetitions.
public final class CustomHookPlugin: Plugin {
    public static var manifest: [UInt8] { PackageResources.custom_hook_json }
    static let credential = "signing_key"

    private let context: PluginContext
    private let current: Mutex<Settings>
    /// Origins that the daemon's configuration names: what the host lets through without TLS.
    private let named: Set<String>

    public init(context: PluginContext, configuration: InstanceConfiguration) throws {
        self.context = context
        // Wrong settings are `configure`'s to name: an instance must exist for that.
        current = Mutex(Settings.read(configuration.settings).settings)
        named = Set(configuration.endpoints.values.map(Settings.origin(of:)))
    }

    var settings: Settings { current.withLock { $0 } }
}

extension CustomHookPlugin: Connecting, Configuring {
    /// Sends nothing: a receiver has no look-up by which an address could be proved without making something happen there.
    public func connect(_ request: SettingsRequest, _ operation: Operation) async throws -> ConnectResult {
        let settings = request.settings.map { Settings.read($0).settings } ?? settings
        return ConnectResult(
            account: .init(id: settings.url.isEmpty ? "unset" : settings.url, label: settings.origin),
            warnings: Self.warnings(about: settings))
    }

    public func configure(_ request: SettingsRequest, _ operation: Operation) async throws -> ConfigureResult {
        let (settings, wrong) = Settings.read(request.settings ?? [:])
        let errors = wrong + settings.unreachable(except: named)
        guard errors.isEmpty else { return ConfigureResult(errors: errors) }
        current.withLock { $0 = settings }
        return ConfigureResult(warnings: Self.warnings(about: settings))
    }

    static func warnings(about settings: Settings) -> [Warning] {
        guard settings.url.hasPrefix("http://") else { return [] }
        return [
            Warning(
                code: "plain_http",
                message:
                    "Hooks go to \(settings.origin) in clear; anyone on the way can read them. Use https where you can."
            )
        ]
    }
}

extension CustomHookPlugin {
    public func deliver(_ record: DeliveryRecord, action: String, _ operation: Operation) async throws -> Delivered {
        let settings = settings
        guard !settings.url.isEmpty else {
            throw Verdict.config(code: "setting_missing", message: "The hook has no address.", pointer: "/url")
        }
        let event = try HookEvent(record)
        if let refusal = settings.only.refusal(of: event) {
            throw Verdict.rejected(code: "filtered", message: refusal)
        }
        try await post(Message(event, settings), settings, operation)
        return Delivered(remoteID: event.id)
    }

    func post(_ message: Message, _ settings: Settings, _ operation: Operation) async throws {
        var request = HTTPRequest.idempotent("POST", settings.url, credential: Self.credential)
        request.headers =
            [("content-type", message.contentType), ("webhook-id", message.id), ("accept", "application/json")]
            + message.headers
        request.body = message.body
        request.responseCap = 64 * 1024
        let response: HTTPResponse
        do { response = try await operation.http(request) } catch {
            throw Self.verdict(for: error, settings)
        }
        if let verdict = Self.verdict(for: response, settings) { throw verdict }
    }

    /// The receiver tells repetitions by `webhook-id`, so a lost answer is tried again like any other failure.
    static func verdict(for failure: HTTPFailure, _ settings: Settings) -> Verdict {
        switch failure.code {
        case "refused_by_policy":
            return .config(
                code: "address_refused",
                message:
                    "Hooks to \(settings.origin) are not allowed: \(failure.message). An internal receiver must be named "
                    + "under plugins.custom-hook.endpoints in the daemon's configuration.", pointer: "/url")
        case "secret_unavailable":
            return .authRevoked(code: "signing_key_unusable", message: "The hook cannot be signed: \(failure.message)")
        case "request_invalid":
            return .rejected(code: "request_invalid", message: failure.message)
        default:
            return .retry(code: failure.code, message: "\(settings.origin) did not answer: \(failure.message)")
        }
    }

    /// nil for success. Standard Webhooks: 2xx is success, redirects are not followed, 410 means that the receiver is gone,
    /// 429 and 502 to 504 ask for patience.
    static func verdict(for response: HTTPResponse, _ settings: Settings) -> Verdict? {
        if response.isSuccess { return nil }
        let wait = response.header("retry-after").flatMap(Int64.init).map { Duration.seconds(max(0, min($0, 604_800))) }
        let said = "\(settings.origin) answered \(response.status)"
        switch response.status {
        case 300..<400:
            return Verdict(
                .config, code: "redirected",
                message: "\(said), a redirect, which hooks do not follow. Set the address it leads to.",
                httpStatus: response.status, pointer: "/url")
        case 410:
            return Verdict(
                .config, code: "endpoint_gone",
                message: "\(said): it is gone and wants no more hooks. Set another address, or disconnect.",
                httpStatus: 410, pointer: "/url")
        case 429:
            return Verdict(
                .rateLimited, code: "rate_limited", message: "\(said): it asks for patience.", retryAfter: wait,
                scope: "endpoint", httpStatus: 429)
        case 413, 415, 422, 400:
            return Verdict(
                .rejected, code: "refused_by_receiver", message: "\(said): it does not take this event.",
                httpStatus: response.status)
        case 401, 403:
            return Verdict(
                .authRevoked, code: "signature_refused",
                message: "\(said): does it know the signing key? Compare keys, then change one side.",
                httpStatus: response.status)
        default:
            return Verdict(
                .retry, code: "receiver_failed", message: "\(said).", retryAfter: wait, httpStatus: response.status)
        }
    }
}
