// SPDX-License-Identifier: Apache-2.0

import MilepostKit
import Synchronization

/// What a way of showing clicks needs, and whether this account offers it.
struct BackendFinding: Sendable {
    var backend: Settings.Backend
    var isPossible: Bool
    /// Why not, or what to know; a sentence's end.
    var reason: String
    var missingScopes: [String] = []
}

extension HubSpotPlugin {
    /// The back end of the settings, or the one that `auto` finds: asked once for each instance.
    func backend(_ settings: Settings, _ operation: Operation) async throws(Verdict) -> Settings.Backend {
        guard settings.backend == .auto else { return settings.backend }
        if let known = state.withLock({ $0.backend }) { return known }
        let chosen = try await findings(settings, operation).last { $0.isPossible }?.backend ?? .off
        state.withLock { $0.backend = chosen }
        return chosen
    }

    /// Tries the back ends in order of preference until one is possible; the last finding is the one to take.
    func findings(_ settings: Settings, _ operation: Operation) async throws(Verdict) -> [BackendFinding] {
        guard settings.backend == .auto else { return [try await finding(settings.backend, settings, operation)] }
        var findings: [BackendFinding] = []
        for backend in [Settings.Backend.timelineV3, .appEvents, .customEvents, .note] {
            let finding = try await finding(backend, settings, operation)
            findings.append(finding)
            if finding.isPossible { return findings }
        }
        return findings
    }

    /// Whether one back end is possible. Asked with a batch of nothing: scopes and paths are judged before the body, and
    /// nothing can change.
    private func finding(
        _ backend: Settings.Backend, _ settings: Settings, _ operation: Operation
    ) async throws(Verdict) -> BackendFinding {
        let vendor = vendor(settings)
        let path: String
        switch backend {
        case .auto, .off: return BackendFinding(backend: .off, isPossible: true, reason: "no clicks are shown")
        case .timelineV3, .timelineAlias:
            guard let template = template(settings) else {
                // Of an app that is set up, the template is on its way: events wait for it (HCON-05).
                let isComing = settings.backend != .auto || (app?.id != nil && grant == .oauth)
                return BackendFinding(
                    backend: backend, isPossible: isComing,
                    reason: "no event template is known: milepost provision hubspot --app makes it")
            }
            path = Paths.timelineEvents(alias: backend == .timelineAlias) + "/batch/create"
            return try await probe(backend, vendor, path, "with event template \(template)", operation)
        case .appEvents:
            guard let type = settings.appEventType else {
                return BackendFinding(backend: backend, isPossible: false, reason: "app_event_type is not set")
            }
            return try await probe(
                backend, vendor, Paths.appEvents + "/batch", "with event type \(type)", operation)
        case .customEvents:
            guard let name = settings.customEventName else {
                return BackendFinding(backend: backend, isPossible: false, reason: "custom_event_name is not set")
            }
            return try await probe(
                backend, vendor, vendor.paths.customEvents + "/batch", "with custom event \(name)", operation)
        case .note:
            return try await probe(
                backend, vendor, vendor.paths.objects("notes", "/batch/update"), "with a note for each click", operation
            )
        }
    }

    private func probe(
        _ backend: Settings.Backend, _ vendor: Vendor, _ path: String, _ how: String, _ operation: Operation
    ) async throws(Verdict) -> BackendFinding {
        let answer = try await self.probe(vendor, path, operation)
        return switch answer {
        case .open: BackendFinding(backend: backend, isPossible: true, reason: how)
        case .absent(let why): BackendFinding(backend: backend, isPossible: false, reason: why)
        case .scopes(let scopes):
            BackendFinding(
                backend: backend, isPossible: false,
                reason: scopes.isEmpty
                    ? "HubSpot does not permit it" : "the scopes \(scopes.joined(separator: ", ")) are missing",
                missingScopes: scopes)
        }
    }

    enum Probe: Equatable { case open, absent(String), scopes([String]) }

    /// Asks with an empty batch whether a batch would be taken.
    func probe(_ vendor: Vendor, _ path: String, _ operation: Operation) async throws(Verdict) -> Probe {
        let response = try await vendor.send("POST", path, json: ["inputs": []], operation)
        switch response.status {
        // 400 and 409 are about the empty body, which nobody sees without the right.
        case 200..<300, 400, 409, 422: return .open
        case 403: return .scopes(VendorError(response).missingScopes)
        case 404, 405, 410, 501: return .absent("HubSpot does not offer it to this account (\(response.status))")
        default: throw vendor.verdict(for: response, operation)
        }
    }
}
