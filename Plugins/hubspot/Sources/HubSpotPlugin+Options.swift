// SPDX-License-Identifier: Apache-2.0

public import MilepostKit

extension HubSpotPlugin: Choosing {
    public func options(_ request: OptionsRequest, _ operation: Operation) async throws -> OptionsResult {
        let vendor = vendor(settings)
        let result: OptionsResult
        switch request.picker {
        case "pipelines":
            let pipelines = try await pipelines(vendor, operation)
            result = OptionsResult(
                items: pipelines.map { .init(value: .string($0.id), label: $0.label) },
                suggested: pipelines.first.map { .string($0.id) })
        case "stages":
            let given = request.values?["pipeline"]?.identifier
            guard let given else {
                throw Verdict.rejected(
                    code: "field_invalid", message: "Choose a pipeline first.", pointer: "/pipeline")
            }
            guard let pipeline = try await pipelines(vendor, operation).first(where: { $0.id == given }) else {
                throw Verdict.rejected(
                    code: "field_invalid",
                    message: "HubSpot has no deal pipeline \(VendorText.line(given, longest: 80)).",
                    pointer: "/pipeline")
            }
            result = OptionsResult(
                items: pipeline.stages.map {
                    .init(value: .string($0.id), label: $0.label, group: $0.isClosed ? "closed" : nil)
                })
        case "owners": return try await owners(request, vendor, operation)
        case "properties":
            let definitions = try await vendor.json("GET", vendor.paths.properties("contacts"), operation)
            result = OptionsResult(
                items: (definitions["results"]?.array ?? []).compactMap(Self.choice).sorted { $0.label < $1.label })
        default:
            throw Verdict.rejected(
                code: "picker_unknown",
                message: "HubSpot has no picker \(VendorText.line(request.picker, longest: 80)).")
        }
        return Self.filtered(result, by: request.search)
    }

    private static func filtered(_ result: OptionsResult, by search: String?) -> OptionsResult {
        guard let search = search?.lowercased(), !search.isEmpty else { return result }
        var filtered = result
        filtered.items = result.items.filter { VendorText.text($0.label.lowercased(), holds: search) }
        return filtered
    }

    /// A property that a UTM field could be mapped to; nil for one that takes no text. First-touch ones are shown and
    /// cannot be chosen (PROP-04).
    private static func choice(_ definition: JSONValue) -> OptionsResult.Item? {
        guard let name = definition["name"]?.string, definition["type"]?.string == "string",
            definition["hidden"]?.bool != true, definition["archived"]?.bool != true
        else { return nil }
        let isReadOnly =
            definition["modificationMetadata"]?["readOnlyValue"]?.bool == true || definition["calculated"]?.bool == true
        return OptionsResult.Item(
            value: .string(name), label: VendorText.line(definition["label"]?.string ?? name, longest: 120),
            group: definition["groupName"]?.string.map { VendorText.line($0, longest: 80) },
            disabled: isReadOnly || FirstTouch.holds(name) ? true : nil)
    }

    /// One page at a time, as HubSpot gives them.
    private func owners(_ request: OptionsRequest, _ vendor: Vendor, _ operation: Operation) async throws(Verdict)
        -> OptionsResult
    {
        let after = request.page.map { "&after=\(VendorText.urlEncoded($0))" } ?? ""
        let page = try await vendor.json("GET", vendor.paths.owners + "?limit=100" + after, operation)
        let items = (page["results"]?.array ?? []).compactMap { owner -> OptionsResult.Item? in
            guard let id = owner["id"]?.identifier, owner["archived"]?.bool != true else { return nil }
            let name = [owner["firstName"]?.string, owner["lastName"]?.string].compactMap { $0 }
                .filter { !$0.isEmpty }.joined(separator: " ")
            return .init(
                value: .string(id),
                label: VendorText.line(name.isEmpty ? owner["email"]?.string ?? id : name, longest: 120))
        }
        return Self.filtered(
            OptionsResult(items: items, next: page["paging"]?["next"]?["after"]?.identifier), by: request.search)
    }
}

/// A deal pipeline with its stages, each in the order that HubSpot shows.
struct Pipeline: Sendable, Equatable {
    struct Stage: Sendable, Equatable {
        var id: String
        var label: String
        var order: Int64
        var isClosed: Bool
    }
    var id: String
    var label: String
    var order: Int64
    var stages: [Stage]

    init?(_ json: JSONValue) {
        guard let id = json["id"]?.identifier, json["archived"]?.bool != true else { return nil }
        self.id = id
        label = VendorText.line(json["label"]?.string ?? id, longest: 120)
        order = json["displayOrder"]?.int ?? 0
        stages = (json["stages"]?.array ?? []).compactMap { stage -> Stage? in
            guard let id = stage["id"]?.identifier, stage["archived"]?.bool != true else { return nil }
            let closed = stage["metadata"]?["isClosed"]
            return Stage(
                id: id, label: VendorText.line(stage["label"]?.string ?? id, longest: 120),
                order: stage["displayOrder"]?.int ?? 0, isClosed: closed?.bool ?? (closed?.string == "true"))
        }.sorted { ($0.order, $0.id) < ($1.order, $1.id) }
    }
}

extension HubSpotPlugin {
    func pipelines(_ vendor: Vendor, _ operation: Operation) async throws(Verdict) -> [Pipeline] {
        let json = try await vendor.json("GET", vendor.paths.dealPipelines, operation)
        return (json["results"]?.array ?? []).compactMap { Pipeline($0) }
            .sorted { ($0.order, $0.id) < ($1.order, $1.id) }
    }
}
