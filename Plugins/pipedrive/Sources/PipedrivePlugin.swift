// SPDX-License-Identifier: Apache-2.0

public import MilepostKit
import Synchronization

/// Turns crossings of thresholds into Pipedrive deals with a note.
public final class PipedrivePlugin: Plugin {
    public static var manifest: [UInt8] { PackageResources.pipedrive_json }

    private let endpoints: [String: String]
    private let credential: InstanceConfiguration.Credential?
    private let state: Mutex<State>

    private struct State {
        var settings: Settings
        /// Definitions of the custom deal fields: read once, again on an unknown label or a refusal (FLD-03, FLD-04).
        var fields: [DealField]?
        /// Renames were looked for in these definitions.
        var hasToldRenames = false
        var ownUser: Int64?
        /// What the vendor calls the company's host; told by the host or by `connect`.
        var companyDomain: String?
    }

    public init(context: PluginContext, configuration: InstanceConfiguration) throws {
        endpoints = configuration.endpoints
        credential = configuration.heldCredential
        // Wrong settings are `configure`'s to name: an instance must exist for that.
        let domain = configuration.account?.domain.flatMap { isCompanyDomain($0) ? $0 : nil }
        state = Mutex(State(settings: Settings.read(configuration.settings).settings, companyDomain: domain))
    }

    var settings: Settings { state.withLock { $0.settings } }
    func vendor(_ settings: Settings) -> Vendor {
        Vendor(settings: settings, endpoints: endpoints, credential: credential)
    }

    /// Definitions, from the cache unless `fresh`.
    func fields(fresh: Bool = false, _ vendor: Vendor, _ operation: Operation) async throws -> [DealField] {
        if !fresh, let known = state.withLock({ $0.fields }) { return known }
        let read = try await vendor.dealFields(operation)
        state.withLock { ($0.fields, $0.hasToldRenames) = (read, false) }
        return read
    }

    /// Mapped fields that are called otherwise than when the settings were checked: told once for each reading of the
    /// definitions. The mapping holds the key and is not hurt (FLD-08).
    func renames(in fields: [DealField]) -> [Warning] {
        let labels = state.withLock { state -> [String: String] in
            guard !state.hasToldRenames else { return [:] }
            state.hasToldRenames = true
            return state.settings.labels
        }
        return labels.sorted { $0.key < $1.key }.compactMap { key, label in
            guard let field = fields.first(where: { $0.key == key }), field.label != label else { return nil }
            return Warning(
                code: "field_renamed",
                message: "The deal field \(VendorText.line(label, longest: 80)) is called "
                    + "\(VendorText.line(field.label, longest: 80)) in Pipedrive now. The mapping holds its key "
                    + "\(key) and goes on; to accept the new name, set the fields again.",
                lasting: true)
        }
    }

    /// Where a person sees a deal; nil while nobody has told the company's domain.
    func dealPage(_ id: Int64) -> String? {
        state.withLock { $0.settings.domain ?? $0.companyDomain }.map { Vendor.dealPage(id, domain: $0) }
    }

    func forgetFields() { state.withLock { $0.fields = nil } }

    func ownUser(_ vendor: Vendor, _ operation: Operation) async throws -> Int64 {
        if let known = state.withLock({ $0.ownUser }) { return known }
        let read = try await vendor.ownUser(operation)
        state.withLock { $0.ownUser = read }
        return read
    }

    private func adopt(_ settings: Settings) {
        state.withLock { state in
            if state.settings.api != settings.api { state.fields = nil }
            state.settings = settings
        }
    }
}

// MARK: Connecting

extension PipedrivePlugin: Connecting, Configuring, Choosing {
    public func connect(_ request: SettingsRequest, _ operation: Operation) async throws -> ConnectResult {
        let settings = request.settings.map { Settings.read($0).settings } ?? settings
        let vendor = vendor(settings)
        let json = try await vendor.get(vendor.v1("/users/me"), cost: 2, operation)
        guard let user = json["data"], let id = user["id"]?.int, let company = user["company_id"]?.int else {
            throw Verdict.retry(
                code: "answer_unreadable", message: "Pipedrive does not say whose token this is: no user or company.")
        }
        let domain = user["company_domain"]?.string.flatMap { isCompanyDomain($0) ? $0 : nil }
        state.withLock { state in
            state.ownUser = id
            state.companyDomain = domain ?? state.companyDomain
        }
        var warnings: [Warning] = []
        if !isAdministrator(user) {
            warnings.append(
                Warning(
                    code: "not_admin",
                    message: "The token's user is no administrator: deals go only where this user may write, and "
                        + "webhooks cannot be created. Use an administrator's token if that is not enough."))
        }
        return ConnectResult(
            account: .init(
                id: String(company), label: user["company_name"]?.string ?? String(company),
                domain: domain, user_id: String(id), user_label: user["name"]?.string),
            warnings: warnings)
    }

    private func isAdministrator(_ user: JSONValue) -> Bool {
        if user["is_admin"]?.bool == true || user["is_admin"]?.int == 1 { return true }
        return (user["access"]?.array ?? []).contains { $0["admin"]?.bool == true }
    }

    public func configure(_ request: SettingsRequest, _ operation: Operation) async throws -> ConfigureResult {
        let (settings, found) = Settings.read(request.settings ?? [:])
        var errors = found
        for (name, value) in [("pipeline_id", settings.pipelineID), ("stage_id", settings.stageID)]
        where value == nil && !errors.contains(where: { $0.pointer == "/\(name)" }) {
            errors.append(
                SettingError(pointer: "/\(name)", code: "setting_missing", message: "\(name) must be chosen."))
        }
        guard errors.isEmpty, let pipeline = settings.pipelineID, let stage = settings.stageID else {
            return ConfigureResult(errors: errors)
        }
        let vendor = vendor(settings)
        if let missing = try await missingTarget(pipeline: pipeline, stage: stage, vendor, operation) {
            return ConfigureResult(errors: [missing])
        }
        var warnings: [Warning] = []
        var kept: JSONValue?
        let names = (settings.linkField.map { [$0] } ?? []) + settings.fields.keys.sorted()
        if !names.isEmpty {
            let fields = try await fields(fresh: true, vendor, operation)
            for name in names { if let warning = Self.warning(about: name, in: fields) { warnings.append(warning) } }
            kept = Self.byKey(request.settings ?? [:], fields)
        }
        adopt(kept.map { Settings.read($0).settings } ?? settings)
        return ConfigureResult(warnings: warnings, settings: kept)
    }

    /// The settings with fields named by their keys: a label that is changed in the vendor's account must not break the
    /// mapping (FLD-08). A name that is not one field stays as it was given.
    static func byKey(_ settings: JSONValue, _ fields: [DealField]) -> JSONValue {
        func key(_ name: String) -> String {
            if case .found(let field) = DealField.find(name, in: fields) { field.key } else { name }
        }
        guard var members = settings.object else { return settings }
        if let name = members["link_field"]?.string { members["link_field"] = .string(key(name)) }
        if let named = members["fields"]?.object {
            // Label and key of one field side by side: the label's value counts, as it does when both are sent.
            let pairs = named.sorted {
                (DealField.isKey($0.key) ? 0 : 1, $0.key) < (DealField.isKey($1.key) ? 0 : 1, $1.key)
            }
            members["fields"] = .object(
                Dictionary(pairs.map { (key($0.key), $0.value) }, uniquingKeysWith: { _, last in last }))
        }
        let mapped = (members["link_field"]?.string.map { [$0] } ?? []) + (members["fields"]?.object ?? [:]).keys
        let labels = mapped.compactMap { name in
            fields.first { $0.key == name }.map { ($0.key, JSONValue.string($0.label)) }
        }
        members.removeValue(forKey: "field_labels")
        if !labels.isEmpty { members["field_labels"] = .object(Dictionary(labels, uniquingKeysWith: { $1 })) }
        return .object(members)
    }

    /// nil when pipeline and stage are there.
    func missingTarget(pipeline: Int64, stage: Int64, _ vendor: Vendor, _ operation: Operation) async throws
        -> SettingError?
    {
        guard try await vendor.pipelines(operation).contains(where: { $0.id == pipeline }) else {
            return SettingError(
                pointer: "/pipeline_id", code: "target_missing",
                message: "Pipeline \(pipeline) does not exist in Pipedrive. Choose another one.")
        }
        guard try await vendor.stages(of: pipeline, operation).contains(where: { $0.id == stage }) else {
            return SettingError(
                pointer: "/stage_id", code: "target_missing",
                message: "Stage \(stage) does not exist in pipeline \(pipeline) of Pipedrive. Choose another one.")
        }
        return nil
    }

    /// What is wrong with a field's name; nil when it names one field.
    static func warning(about name: String, in fields: [DealField]) -> Warning? {
        let shown = VendorText.line(name, longest: 80)
        switch DealField.find(name, in: fields) {
        case .found: return nil
        case .unknown:
            return Warning(
                code: "field_unknown",
                message: "No custom deal field of Pipedrive is called \(shown); deals are made without it. "
                    + "Give the field's 40-character key instead of its label.")
        case .ambiguous(let hits):
            return Warning(
                code: "field_ambiguous",
                message: "\(hits.count) deal fields of Pipedrive are called \(shown); deals are made without it. "
                    + "Give the key of the one you mean: \(hits.prefix(5).map(\.key).joined(separator: ", ")).")
        }
    }

    public func options(_ request: OptionsRequest, _ operation: Operation) async throws -> OptionsResult {
        let vendor = vendor(settings)
        let result: OptionsResult
        switch request.picker {
        case "pipelines":
            let pipelines = try await vendor.pipelines(operation)
            let suggested = pipelines.first { $0.name.lowercased() == "inbound" } ?? pipelines.first
            result = OptionsResult(
                items: pipelines.map { .init(value: .int($0.id), label: $0.name) },
                suggested: suggested.map { .int($0.id) })
        case "stages":
            let given = request.values?["pipeline_id"]
            guard let id = given?.int ?? given?.string.flatMap({ Int64($0) }) ?? settings.pipelineID else {
                throw Verdict.rejected(
                    code: "field_invalid", message: "Choose a pipeline first.", pointer: "/pipeline_id")
            }
            let stages = try await vendor.stages(of: id, operation)
            result = OptionsResult(
                items: stages.map { .init(value: .int($0.id), label: $0.name) },
                suggested: stages.first.map { .int($0.id) })
        case "deal_fields":
            let fields = try await fields(fresh: true, vendor, operation)
            result = OptionsResult(
                items: fields.map { .init(value: .string($0.key), label: $0.label, group: $0.type) })
        case "users":
            result = OptionsResult(
                items: try await vendor.users(operation).map { .init(value: .int($0.id), label: $0.name) })
        default:
            throw Verdict.rejected(
                code: "picker_unknown",
                message: "Pipedrive has no picker \(VendorText.line(request.picker, longest: 80)).")
        }
        guard let search = request.search?.lowercased(), !search.isEmpty else { return result }
        var filtered = result
        filtered.items = result.items.filter { VendorText.text($0.label.lowercased(), holds: search) }
        return filtered
    }
}
