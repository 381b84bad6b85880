// SPDX-License-Identifier: Apache-2.0

public import MilepostKit
import Synchronization

/// Turns clicks into timeline events and contact properties, and rules into deal stages, in HubSpot.
public final class HubSpotPlugin: Plugin {
    public static var manifest: [UInt8] { PackageResources.hubspot_json }

    let endpoints: [String: String]
    let app: InstanceConfiguration.App?
    /// The credentials that the connection holds, the manifest's order.
    let held: [String]
    /// The portal, as an earlier connect told.
    let accountID: String?
    let state: Mutex<State>

    struct State {
        var settings: Settings
        /// The back end that `auto` found; asked once for each instance.
        var backend: Settings.Backend?
        var closedStages: Set<String>?
    }

    public init(context: PluginContext, configuration: InstanceConfiguration) throws {
        endpoints = configuration.endpoints
        app = configuration.app
        held = configuration.credentials.map(\.ref)
        accountID = configuration.account?.id
        // Wrong settings are `configure`'s to name: an instance must exist for that.
        state = Mutex(State(settings: Settings.read(configuration.settings).settings))
    }

    var settings: Settings { state.withLock { $0.settings } }

    /// OAuth wherever it is held: it can do more.
    var grant: Vendor.Grant {
        held.contains(Vendor.Grant.oauth.rawValue) || !held.contains(Vendor.Grant.privateApp.rawValue)
            ? .oauth : .privateApp
    }

    func vendor(_ settings: Settings, as grant: Vendor.Grant? = nil) -> Vendor {
        Vendor(
            base: endpoints["api"] ?? "https://api.hubapi.com", paths: Paths(generation: settings.api),
            grant: grant ?? self.grant)
    }

    /// The template that timeline events are made of: the setting's, else the one that was provisioned for the app.
    func template(_ settings: Settings) -> String? {
        settings.templateID ?? app?.objects?[EventTemplate.key]
    }

    func adopt(_ settings: Settings) {
        state.withLock { state in
            state.settings = settings
            state.backend = nil
        }
    }

    /// Where a person sees a record: "0-1" are contacts, "0-3" deals. nil while the portal is not known.
    func page(_ type: String, _ id: String) -> String? {
        guard let accountID else { return nil }
        return
            "\(endpoints["app"] ?? "https://app.hubspot.com")/contacts/\(VendorText.urlEncoded(accountID))/record/\(type)/"
            + VendorText.urlEncoded(id)
    }

    // MARK: Contacts

    /// The contact behind an id or an e-mail address, with the id that it has today: a merged contact's old id leads to
    /// the survivor (RES-08).
    /// - Returns: nil when HubSpot has no such contact.
    func find(_ contact: Contact, _ vendor: Vendor, _ operation: Operation) async throws(Verdict) -> String? {
        let path: String
        if let id = contact.id, !id.isEmpty {
            path = "/\(VendorText.urlEncoded(id))?properties=email"
        } else if let email = contact.email, !email.isEmpty {
            path = "/\(VendorText.urlEncoded(email))?idProperty=email&properties=email"
        } else {
            return nil
        }
        let response = try await vendor.send("GET", vendor.paths.objects("contacts", path), operation)
        // HubSpot answers 400 for ids that cannot be one.
        if response.status == 404 || response.status == 400 { return nil }
        guard response.isSuccess else { throw vendor.verdict(for: response, operation) }
        guard let id = response.json?["id"]?.identifier else {
            throw .retry(code: "answer_unreadable", message: "HubSpot's answer does not say whose contact it is.")
        }
        return id
    }

    /// RES-07: the core holds or gives up the record, by its setting.
    static func unknown(_ contact: Contact) -> Verdict {
        let shown = VendorText.line(contact.id ?? contact.email ?? "", longest: 80)
        return .rejected(
            code: "contact_unknown",
            message: shown.isEmpty
                ? "The record names no contact." : "HubSpot has no contact \(shown): deleted, or never there.")
    }
}
