// SPDX-License-Identifier: Apache-2.0

public import MilepostKit

extension HubSpotPlugin: Connecting, Configuring {
    /// Proves the token, finds the portal, and says which features its scopes and the app allow. Changes nothing.
    public func connect(_ request: SettingsRequest, _ operation: Operation) async throws -> ConnectResult {
        let settings = request.settings.map { Settings.read($0).settings } ?? settings
        let vendor = vendor(settings)
        let account = try await account(vendor, operation)
        let granted = scopes(operation)
        var missing: [String] = []
        var warnings: [Warning] = []
        func note(_ scopes: [String]) { missing += scopes.filter { !missing.contains($0) } }

        if settings.writesProperties {
            note(try await missingScopes(for: "contacts", "crm.objects.contacts.write", granted, vendor, operation))
        }
        if settings.countsOnDeals {
            note(try await missingScopes(for: "deals", "crm.objects.deals.write", granted, vendor, operation))
        }
        if settings.writesTimeline {
            let findings = try await findings(settings, operation)
            warnings += Self.notices(of: findings, isAuto: settings.backend == .auto)
            if let chosen = findings.last, !chosen.isPossible || settings.backend != .auto {
                note(chosen.missingScopes)
            }
        }
        if grant == .privateApp {
            warnings.append(
                Warning(
                    code: "private_app",
                    message:
                        "A Private App token opens one portal, and cannot make the app's event template. For several "
                        + "portals, or timeline events of the app, install the app instead."))
        }
        if !missing.isEmpty {
            warnings.append(
                Warning(
                    code: "scopes_missing",
                    message: "The token lacks \(missing.joined(separator: ", ")): what needs them will be refused. "
                        + (grant == .oauth
                            ? "Reinstall to be asked for them." : "Add them to the private app in HubSpot.")))
        }
        return ConnectResult(account: account, scopes: granted ?? [], missing_scopes: missing, warnings: warnings)
    }

    private func account(_ vendor: Vendor, _ operation: Operation) async throws(Verdict) -> ConnectResult.Account {
        let response = try await vendor.send("GET", Paths.account, operation)
        if response.isSuccess, let json = response.json, let id = json["portalId"]?.identifier {
            let kind = json["accountType"]?.string.map { VendorText.line($0, longest: 40) }
            let domain = json["uiDomain"]?.string.map { VendorText.line($0, longest: 255) }
            return .init(
                id: id, label: "HubSpot portal \(id)" + (kind.map { " (\($0.lowercased()))" } ?? ""), domain: domain)
        }
        // What the grant itself told is as good: not every generation lets every token ask.
        if response.isSuccess || [403, 404].contains(response.status) {
            if let id = operation.context.credentialFacts(grant.rawValue)?["account"]?.identifier ?? accountID {
                return .init(id: id, label: "HubSpot portal \(id)")
            }
        }
        guard response.isSuccess else { throw vendor.verdict(for: response, operation) }
        throw .retry(code: "answer_unreadable", message: "HubSpot does not say whose token this is: no portal.")
    }

    /// What the token may do, where the host knows; nil where only asking tells.
    private func scopes(_ operation: Operation) -> [String]? {
        let told = operation.context.credentialFacts(grant.rawValue)?["scopes"]?.array?.compactMap(\.string)
        return told?.isEmpty == false ? told : nil
    }

    /// The scope, if it is missing. A private app's token does not tell its scopes: an empty batch does.
    private func missingScopes(
        for type: String, _ scope: String, _ granted: [String]?, _ vendor: Vendor, _ operation: Operation
    ) async throws(Verdict) -> [String] {
        if let granted { return granted.contains(scope) ? [] : [scope] }
        let found = try await probe(vendor, vendor.paths.objects(type, "/batch/update"), operation)
        guard case .scopes(let named) = found else { return [] }
        return named.isEmpty ? [scope] : named
    }

    /// Which back end is in use, and why no better one (Z-06).
    private static func notices(of findings: [BackendFinding], isAuto: Bool) -> [Warning] {
        guard let chosen = findings.last else { return [] }
        let others = findings.dropLast().map { "\($0.backend.rawValue): \($0.reason)" }.joined(separator: "; ")
        let why = others.isEmpty ? "" : " Not used: \(VendorText.line(others, longest: 600))."
        if chosen.isPossible {
            return [
                Warning(
                    code: "timeline_backend",
                    message: "Clicks are shown by \(chosen.backend.rawValue): "
                        + "\(VendorText.line(chosen.reason, longest: 300)).\(why)")
            ]
        }
        return [
            Warning(
                code: "timeline_unavailable",
                message: "Clicks cannot be shown on the timeline. \(chosen.backend.rawValue): "
                    + "\(VendorText.line(chosen.reason, longest: 300)).\(why)"
                    + (isAuto ? " Contact properties are still written." : " Choose another timeline_backend."))
        ]
    }

    // MARK: Configure

    public func configure(_ request: SettingsRequest, _ operation: Operation) async throws -> ConfigureResult {
        let (settings, found) = Settings.read(request.settings ?? [:])
        guard found.isEmpty else { return ConfigureResult(errors: found) }
        let vendor = vendor(settings)
        var errors: [SettingError] = []
        var warnings: [Warning] = []
        if settings.writesProperties {
            for (field, name) in settings.properties.all {
                let pointer = settings.properties.pointer(of: field)
                let check = try await check(name, of: "contacts", wants: ["string", "enumeration"], vendor, operation)
                check.add(pointer: pointer, to: &errors, &warnings)
                if check == .unchecked { break }
            }
        }
        if settings.countsOnDeals {
            let check = try await check(settings.counter, of: "deals", wants: ["number"], vendor, operation)
            check.add(pointer: "/counter_property", to: &errors, &warnings)
        }
        if errors.isEmpty { adopt(settings) }
        return ConfigureResult(errors: errors, warnings: warnings)
    }

    private enum PropertyCheck: Equatable {
        case fits
        case missing(String)
        /// The token may not read definitions.
        case unchecked
        case refused(code: String, String)

        func add(pointer: String, to errors: inout [SettingError], _ warnings: inout [Warning]) {
            switch self {
            case .fits: break
            case .missing(let name):
                warnings.append(
                    Warning(
                        code: "property_missing",
                        message: "HubSpot has no property \(name) yet: milepost provision hubspot makes it. Until then "
                            + "writes to it are refused."))
            case .unchecked:
                warnings.append(
                    Warning(
                        code: "properties_unchecked",
                        message: "The token may not read property definitions, so the mapping was not checked."))
            case .refused(let code, let message):
                errors.append(SettingError(pointer: pointer, code: code, message: message))
            }
        }
    }

    /// Looks at a property's definition: a read-only one would fail every update it is in (crm-apis 3.6).
    private func check(
        _ name: String, of type: String, wants types: [String], _ vendor: Vendor, _ operation: Operation
    ) async throws(Verdict) -> PropertyCheck {
        let response = try await vendor.send("GET", vendor.paths.properties(type, name), operation)
        if response.status == 404 { return .missing(name) }
        if response.status == 403 { return .unchecked }
        guard response.isSuccess else { throw vendor.verdict(for: response, operation) }
        guard let definition = response.json, let kind = definition["type"]?.string else {
            throw .retry(code: "answer_unreadable", message: "HubSpot's definition of \(name) cannot be read.")
        }
        if definition["modificationMetadata"]?["readOnlyValue"]?.bool == true || definition["calculated"]?.bool == true
        {
            return .refused(
                code: "property_read_only",
                "HubSpot computes \(name) itself and takes no value for it; map the field to a property of your own.")
        }
        guard types.contains(kind) else {
            return .refused(
                code: "property_unfit",
                "Property \(name) is of type \(VendorText.line(kind, longest: 40)); "
                    + "\(types.joined(separator: " or ")) is needed.")
        }
        return .fits
    }
}
