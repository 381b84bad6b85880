// SPDX-License-Identifier: Apache-2.0

public import MilepostKit

extension HubSpotPlugin: Provisioning {
    /// Account: the properties that the settings name. App: the template of timeline events. Reads first, keeps what is
    /// there (HCON-04, HCON-06).
    public func provision(_ request: ProvisionRequest, _ operation: Operation) async throws -> ProvisionResult {
        let settings = settings
        if request.scope == "app" { return try await provisionTemplate(settings, operation) }
        let vendor = vendor(settings)
        let wanted = try wanted(request, settings)
        var objects: [ProvisionResult.Object] = []
        for property in wanted { objects.append(try await provision(property, vendor, operation)) }
        return ProvisionResult(objects: objects)
    }

    /// Takes away what is named, and only that: a property's values go with it.
    public func deprovision(_ request: ProvisionRequest, _ operation: Operation) async throws -> ProvisionResult {
        let settings = settings
        if request.scope == "app" {
            let vendor = vendor(settings, as: .developerKey)
            let app = try appID()
            for template in try await templates(app, vendor, operation) {
                let response = try await vendor.send(
                    "DELETE", Paths.eventTemplates(app: app, "/\(VendorText.urlEncoded(template.id))"), operation)
                guard response.isSuccess || response.status == 404 else {
                    throw vendor.verdict(for: response, operation)
                }
            }
            return ProvisionResult(objects: [.init(key: EventTemplate.key, state: "absent")])
        }
        guard request.objects?.isEmpty == false else {
            throw Verdict.rejected(
                code: "objects_missing",
                message: "Name the properties to take away: their values go with them, so none is taken unasked.")
        }
        let vendor = vendor(settings)
        var objects: [ProvisionResult.Object] = []
        for property in try wanted(request, settings) {
            let response = try await vendor.send(
                "DELETE", vendor.paths.properties(property.type, property.name), operation)
            guard response.isSuccess || response.status == 404 else { throw vendor.verdict(for: response, operation) }
            objects.append(.init(key: property.key, state: "absent"))
        }
        return ProvisionResult(objects: objects)
    }

    // MARK: Properties

    /// A property that shall be there.
    struct Property: Sendable, Equatable {
        /// "contacts" or "deals"
        var type: String
        var name: String
        var label: String
        /// Both kinds can be filtered in lists (PROP-11).
        var isNumber: Bool

        var key: String { "\(type == "deals" ? "deal" : "contact")_property:\(name)" }

        var body: JSONValue {
            [
                "name": .string(name), "label": .string(label),
                "groupName": type == "deals" ? "dealinformation" : "contactinformation",
                "type": isNumber ? "number" : "string", "fieldType": isNumber ? "number" : "text",
                "description": "Written by Milepost from link clicks.",
            ]
        }
    }

    private func wanted(_ request: ProvisionRequest, _ settings: Settings) throws(Verdict) -> [Property] {
        // Consent is asked for what the settings switch on, so only that can be made.
        var all = (settings.writesProperties ? settings.properties.all : []).map { field, name in
            Property(type: "contacts", name: name, label: field.label, isNumber: false)
        }
        if settings.countsOnDeals {
            all.append(Property(type: "deals", name: settings.counter, label: "Recent link clicks", isNumber: true))
        }
        let named = (request.objects ?? []).compactMap { $0["key"]?.string }
        if named.isEmpty { return all }
        for key in named where !all.contains(where: { $0.key == key }) {
            throw .rejected(
                code: "object_unknown",
                message:
                    "\(VendorText.line(key, longest: 120)) is not called for by the connection's settings; they call for "
                    + (all.isEmpty ? "nothing" : all.map(\.key).joined(separator: ", ")) + ".")
        }
        return all.filter { named.contains($0.key) }
    }

    private func provision(_ property: Property, _ vendor: Vendor, _ operation: Operation) async throws(Verdict)
        -> ProvisionResult.Object
    {
        let there = try await vendor.send("GET", vendor.paths.properties(property.type, property.name), operation)
        if there.isSuccess {
            let kind = there.json?["type"]?.string ?? ""
            guard property.isNumber ? kind == "number" : ["string", "enumeration"].contains(kind) else {
                throw .config(
                    code: "property_unfit",
                    message:
                        "HubSpot has a property \(property.name) of type \(VendorText.line(kind, longest: 40)), which "
                        + "cannot hold the values; choose another name by property_prefix or property_mapping.",
                    pointer: "/property_mapping")
            }
            return .init(key: property.key, state: "existing", remoteID: property.name)
        }
        // 403: may not read, and perhaps may create.
        guard [403, 404].contains(there.status) else { throw vendor.verdict(for: there, operation) }
        // The name is unique, so the same request twice makes one property: it may be repeated.
        let response = try await vendor.send(
            "POST", vendor.paths.properties(property.type), json: property.body, operation)
        if VendorError.saysAlreadyThere(response) {
            return .init(key: property.key, state: "existing", remoteID: property.name)
        }
        guard response.isSuccess else { throw vendor.verdict(for: response, operation) }
        return .init(key: property.key, state: "created", remoteID: property.name)
    }

    // MARK: The app's template

    struct Template: Sendable, Equatable {
        var id: String
        var tokens: Set<String>
    }

    private func appID() throws(Verdict) -> String {
        guard let id = app?.id, !id.isEmpty else {
            throw .config(
                code: "app_missing",
                message:
                    "The id of the HubSpot app is not known: milepost app set hubspot with app id and developer key.")
        }
        return id
    }

    /// Our templates of the app, by name.
    private func templates(_ app: String, _ vendor: Vendor, _ operation: Operation) async throws(Verdict) -> [Template]
    {
        let list = try await vendor.json("GET", Paths.eventTemplates(app: app), operation)
        return (list["results"]?.array ?? []).compactMap { template in
            guard template["name"]?.string == EventTemplate.name, let id = template["id"]?.identifier else {
                return nil
            }
            return Template(id: id, tokens: Set((template["tokens"]?.array ?? []).compactMap { $0["name"]?.string }))
        }.sorted { ($0.id.utf8.count, $0.id) < ($1.id.utf8.count, $1.id) }
    }

    private func provisionTemplate(_ settings: Settings, _ operation: Operation) async throws -> ProvisionResult {
        let vendor = vendor(settings, as: .developerKey)
        let app = try appID()
        let isNew: Bool
        let id: String
        if let existing = try await templates(app, vendor, operation).first {
            for token in EventTemplate.tokens where !existing.tokens.contains(token.name) {
                let path = Paths.eventTemplates(app: app, "/\(VendorText.urlEncoded(existing.id))/tokens")
                let response = try await vendor.send("POST", path, json: EventTemplate.token(token), operation)
                guard response.isSuccess || VendorError.saysAlreadyThere(response) else {
                    throw vendor.verdict(for: response, operation)
                }
            }
            (id, isNew) = (existing.id, false)
        } else {
            // The one request here that makes another thing each time: looked for first, its intent on disk.
            let made = try await vendor.create(
                EventTemplate.key, Paths.eventTemplates(app: app), EventTemplate.body, operation)
            guard let made = made["id"]?.identifier else {
                throw Verdict.uncertain(code: "answer_unreadable", message: "HubSpot's answer names no template.")
            }
            (id, isNew) = (made, true)
        }
        try await untilUsable(id, app, vendor, operation)
        return ProvisionResult(objects: [
            .init(key: EventTemplate.key, state: isNew ? "created" : "existing", remoteID: id)
        ])
    }

    /// HubSpot takes up to a minute to show a template everywhere (HCON-05); the operation's own deadline ends it sooner.
    private func untilUsable(_ id: String, _ app: String, _ vendor: Vendor, _ operation: Operation) async throws {
        let start = operation.context.monotonicNanoseconds
        while true {
            let response = try await vendor.send(
                "GET", Paths.eventTemplates(app: app, "/\(VendorText.urlEncoded(id))"), operation)
            if response.isSuccess { return }
            guard response.status == 404 else { throw vendor.verdict(for: response, operation) }
            guard operation.context.monotonicNanoseconds - start < 60_000_000_000 else {
                throw Verdict.retry(
                    code: "template_pending",
                    message: "HubSpot made template \(id) and does not show it after a minute; run it again.")
            }
            try await operation.context.sleep(for: .seconds(2))
        }
    }
}
