// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostRules
public import MilepostStore
import Synchronization

/// Makes, changes, checks and removes rolling rules (RULE-03, RULE-09, RULE-18, RULE-21).
///
/// A rule is checked against the vendor when it is saved and once a day after that: pipelines and stages come and go.
public struct RuleService: Sendable {
    let store: any Store
    let port: any RulePort
    let clock: any DaemonClock
    let cache: RuleCache
    let reporter: any EngineReporter
    /// For how long clicks are kept; nil when that is not known.
    let retentionDays: Int?
    /// Called after a change, so that it takes effect at once.
    let wake: @Sendable (WorkspaceID) -> Void

    /// Rules are checked again after this long.
    static let checkInterval: Duration = .seconds(86_400)

    /// A rule that may be saved, and what its author should know.
    public struct Checked: Sendable {
        public var rule: RollingRule
        public var warnings: [Reason]
    }

    // MARK: Reading

    public func list(_ workspace: WorkspaceID) async throws -> [StoredRule] {
        try await withScopeWarnings(try await store.rules(workspace: workspace))
    }

    public func get(_ id: String, workspace: WorkspaceID) async throws -> StoredRule {
        guard let rule = try await store.rule(id, workspace: workspace) else {
            throw EngineError(code: .notFound, detail: "Workspace \(workspace) has no rule \(id).")
        }
        return try await withScopeWarnings([rule])[0]
    }

    // MARK: Checking

    /// Reads a document and checks what it holds, here and at the vendor; saves nothing.
    public func check(_ document: JSONValue, workspace: WorkspaceID) async throws -> [Checked] {
        let read = RollingRuleReader.read(document)
        try Self.refuse(read.errors)
        let first = try await firstClick(workspace)
        let now = clock.now
        var checked: [Checked] = []
        var errors: [SettingError] = []
        var shelf = VendorShelf(port: port)
        for (index, rule) in read.rules.enumerated() {
            let found = try await vendorProblems(rule, workspace: workspace, shelf: &shelf)
            let base = Self.pointer(of: index, in: document)
            errors += found.errors.map {
                SettingError(pointer: base + $0.pointer, code: $0.code, message: $0.message)
            }
            checked.append(
                Checked(
                    rule: rule,
                    warnings: RuleAdvice.warnings(rule, firstClick: first, retentionDays: retentionDays, now: now)
                        + found.warnings))
        }
        try Self.refuse(errors)
        return checked
    }

    private static func pointer(of index: Int, in document: JSONValue) -> String {
        if document.array != nil { return "/\(index)" }
        return document["rules"] == Optional.none ? "" : "/rules/\(index)"
    }

    private static func refuse(_ errors: [SettingError]) throws {
        guard !errors.isEmpty else { return }
        let shown = errors.prefix(20).map { "\($0.pointer.isEmpty ? "/" : $0.pointer): \($0.message)" }
        throw EngineError(code: .validationFailed, detail: shown.joined(separator: "; "), errors: errors)
    }

    /// Errors point below the rule.
    private func vendorProblems(
        _ rule: RollingRule, workspace: WorkspaceID, shelf: inout VendorShelf
    ) async throws -> (errors: [SettingError], warnings: [Reason]) {
        guard let connection = try await store.connection(rule.integration, workspace: workspace),
            connection.state != .disconnected
        else {
            return (
                [
                    SettingError(
                        pointer: "/action/type", code: "not_connected",
                        message: "the workspace has no connection \(rule.integration); connect it first")
                ], []
            )
        }
        let plugin = rule.integration.plugin
        if let obstacle = port.obstacle(for: plugin) {
            throw EngineError(code: .pluginUnavailable, detail: obstacle.message)
        }
        guard port.ruleAction(of: plugin, named: rule.action.type) != nil else {
            return (
                [
                    SettingError(
                        pointer: "/action/type", code: "unknown_value",
                        message: "\(plugin) has no action \(rule.action.type) for rules")
                ], []
            )
        }
        return try await stageProblems(rule, connection, &shelf)
    }

    private func stageProblems(
        _ rule: RollingRule, _ connection: Connection, _ shelf: inout VendorShelf
    ) async throws -> (errors: [SettingError], warnings: [Reason]) {
        let unchecked = Reason(
            code: "stages_unchecked",
            message:
                "\(rule.integration.plugin) does not list its pipelines and stages, so the rule's could not be checked."
        )
        guard let pipelines = try await shelf.pipelines(of: connection) else { return ([], [unchecked]) }
        guard let pipeline = pipelines.first(where: { $0.word == rule.action.pipeline }) else {
            return ([Self.unknown("pipeline", rule.action.pipeline, among: pipelines)], [])
        }
        guard let stages = try await shelf.stages(of: pipeline, connection) else { return ([], [unchecked]) }
        let from = stages.firstIndex { $0.word == rule.action.fromStage }
        let to = stages.firstIndex { $0.word == rule.action.toStage }
        var errors: [SettingError] = []
        if from == nil { errors.append(Self.unknown("from_stage", rule.action.fromStage, among: stages)) }
        if to == nil { errors.append(Self.unknown("to_stage", rule.action.toStage, among: stages)) }
        if let from, let to, to < from, !rule.isForced {
            errors.append(
                SettingError(
                    pointer: "/action/to_stage", code: "moves_back",
                    message:
                        "\(rule.action.toStage) comes before \(rule.action.fromStage) in the pipeline, so the rule would "
                        + "move deals back; write force: true if that is meant"))
        }
        return (errors, [])
    }

    private static func unknown(_ key: String, _ word: String, among choices: [PickerChoice]) -> SettingError {
        let nearest = Nearest.match(for: word, among: choices.map(\.word) + choices.map(\.label))
        let named = choices.first { $0.word == nearest || $0.label == nearest }
        let hint =
            named.map { "did you mean \($0.word) (\($0.label))?" }
            ?? "there are \(choices.prefix(12).map(\.word).joined(separator: ", "))"
        return SettingError(
            pointer: "/action/\(key)", code: "unknown_value", message: "the vendor has no \(key) \(word); \(hint)")
    }

    // MARK: Changing

    /// Creates rules that are not there yet.
    public func create(_ document: JSONValue, workspace: WorkspaceID) async throws -> [StoredRule] {
        let checked = try await check(document, workspace: workspace)
        let existing = try await store.rules(workspace: workspace)
        for item in checked where existing.contains(where: { $0.id == item.rule.id }) {
            throw EngineError(
                code: .conflict,
                detail:
                    "Workspace \(workspace) has a rule \(item.rule.id) already; change it with PUT, or give this one "
                    + "another id.")
        }
        guard existing.count + checked.count <= RollingRule.maximumCount else {
            throw Self.tooMany(existing, workspace)
        }
        return try await save(checked, workspace: workspace, existing: existing, isManaged: false)
    }

    /// Replaces the rule `id`, or creates it.
    ///
    /// - Parameter file: the one that asks and manages the rule from then on (EXT-15); nil for a person.
    /// - Returns: the rule and whether it is new.
    public func put(
        _ document: JSONValue, id: String, workspace: WorkspaceID, by file: String? = nil
    ) async throws -> (rule: StoredRule, isNew: Bool) {
        guard var members = document.object else {
            throw EngineError(code: .validationFailed, detail: "The body must be one rule, a JSON object.")
        }
        if let given = members["id"]?.string, given != id {
            throw EngineError(
                code: .validationFailed, detail: "The body's id \(given) is not the path's, \(id).",
                errors: [SettingError(pointer: "/id", code: "contradiction", message: "\(given) is not \(id)")])
        }
        members["id"] = .string(id)
        let checked = try await check(.object(members), workspace: workspace)
        let existing = try await store.rules(workspace: workspace)
        let old = existing.first { $0.id == id }
        try await refuseManaged(old, by: file)
        guard old != nil || existing.count < RollingRule.maximumCount else { throw Self.tooMany(existing, workspace) }
        let saved = try await save(checked, workspace: workspace, existing: existing, isManaged: file != nil)
        guard let rule = saved.first else {
            throw EngineError(code: .validationFailed, detail: "The body must be one rule.")
        }
        if let file { try await manage(id, document, workspace: workspace, by: file) }
        return (rule, old == nil)
    }

    private static func tooMany(_ existing: [StoredRule], _ workspace: WorkspaceID) -> EngineError {
        EngineError(
            code: .conflict,
            detail: "A workspace has at most \(RollingRule.maximumCount) rules; \(workspace) has \(existing.count).")
    }

    /// Makes the workspace's managed rules those of a file: what is not in it any more is removed (decisions 32). Those that
    /// `milepost apply` manages, each by its own file, are none of this one's.
    public func applyManaged(_ document: JSONValue, workspace: WorkspaceID) async throws -> [StoredRule] {
        let isEmpty = document["rules"]?.array?.isEmpty ?? document.array?.isEmpty ?? false
        let checked = isEmpty ? [] : try await check(document, workspace: workspace)
        let owned = try await filesOfRules(workspace)
        let existing = try await store.rules(workspace: workspace).filter { owned[$0.id] == nil }
        for item in checked {
            if let owner = owned[item.rule.id] { throw EngineError.managed("The rule \(item.rule.id)", by: owner) }
            guard let old = existing.first(where: { $0.id == item.rule.id }), !old.isManaged else { continue }
            throw EngineError(
                code: .conflict,
                detail: "The rule \(old.id) was made by REST; remove it first, or give the file's another id.")
        }
        let saved = try await save(checked, workspace: workspace, existing: existing, isManaged: true)
        for old in existing where old.isManaged && !checked.contains(where: { $0.rule.id == old.id }) {
            _ = try await store.deleteRule(old.id, workspace: workspace, at: clock.now)
        }
        changed(workspace)
        return saved
    }

    public func remove(_ id: String, workspace: WorkspaceID, by file: String? = nil) async throws {
        if file != nil, try await store.rule(id, workspace: workspace) == nil,
            try await store.managedObject(.rule, workspace: workspace, name: id) != nil
        {
            // Gone already, with the mark left behind.
            return try await store.release(.rule, workspace: workspace, name: id)
        }
        try await refuseManaged(try await get(id, workspace: workspace), by: file)
        _ = try await store.deleteRule(id, workspace: workspace, at: clock.now)
        if file != nil { try await store.release(.rule, workspace: workspace, name: id) }
        changed(workspace)
    }

    private func save(
        _ checked: [Checked], workspace: WorkspaceID, existing: [StoredRule], isManaged: Bool
    ) async throws -> [StoredRule] {
        _ = try await store.ensureWorkspace(workspace, at: clock.now)
        let drafts = checked.map { item in
            let old = existing.first { $0.id == item.rule.id }.flatMap {
                RollingRuleReader.read($0.document).rules.first
            }
            return RuleDraft(
                id: item.rule.id, document: item.rule.json, isManaged: isManaged, warnings: item.warnings,
                keepsWindows: old?.countsLike(item.rule) ?? false, window: item.rule.trigger.window)
        }
        let saved = try await store.saveRules(drafts, workspace: workspace, at: clock.now)
        changed(workspace)
        return try await withScopeWarnings(saved)
    }

    private func changed(_ workspace: WorkspaceID) {
        cache.forget(workspace)
        wake(workspace)
    }

    // MARK: Once a day

    /// The oldest click that a short look at the log's beginning finds; nil when there is none.
    private func firstClick(_ workspace: WorkspaceID) async throws -> Timestamp? {
        var position = ClickPosition.start
        for _ in 0..<Self.pagesLookedAt {
            let page = try await store.readClicks(after: position, workspace: workspace, limit: 1000)
            if let oldest = page.clicks.map(\.click.time).min() { return oldest }
            guard page.hasMore else { return nil }
            position = page.through
        }
        return nil
    }

    private static let pagesLookedAt = 200

    private func isUnchecked(_ rule: StoredRule) -> Bool { clock.now >= rule.checkedAt + Self.checkInterval }

    /// Looks at every rule that was not looked at for a day. What it finds becomes the rule's warnings and a line in the
    /// log; a vendor that does not answer is asked again the next day.
    public func recheck() async {
        do {
            for workspace in try await store.ruleWorkspaces() {
                let first = try await firstClick(workspace)
                var shelf = VendorShelf(port: port)
                for stored in try await store.rules(workspace: workspace) where isUnchecked(stored) {
                    await recheck(stored, firstClick: first, shelf: &shelf)
                }
            }
        } catch {
            reporter.rulesNoticed("", "rules could not be checked against the vendor: \(error)")
        }
    }

    private func recheck(_ stored: StoredRule, firstClick: Timestamp?, shelf: inout VendorShelf) async {
        guard let rule = RollingRuleReader.read(stored.document).rules.first else { return }
        let now = clock.now
        var warnings = RuleAdvice.warnings(rule, firstClick: firstClick, retentionDays: retentionDays, now: now)
        do {
            let found = try await vendorProblems(rule, workspace: stored.workspace, shelf: &shelf)
            warnings += found.warnings
            for error in found.errors {
                let reason = Reason(
                    code: "rule_\(error.code)",
                    message: "The rule does not fit the vendor's account any more: \(error.message).")
                warnings.append(reason)
                if !stored.warnings.contains(where: { $0.code == reason.code }) {
                    reporter.rulesNoticed(stored.workspace, "rule \(stored.id): \(reason.message)")
                }
            }
        } catch {
            // What was known stays until the vendor answers again.
            warnings += stored.warnings.filter { $0.code.hasPrefix("rule_") }
        }
        do {
            try await store.setWarnings(rule: stored.number, warnings, checkedAt: now)
        } catch {
            reporter.rulesNoticed(stored.workspace, "warnings of rule \(stored.id) could not be stored: \(error)")
        }
    }
}

/// Pipelines and stages, read once for all rules of one check.
struct VendorShelf: Sendable {
    let port: any RulePort
    private var pipelines: [ConnectionID: [PickerChoice]?] = [:]
    private var stages: [String: [PickerChoice]?] = [:]

    init(port: any RulePort) { self.port = port }

    mutating func pipelines(of connection: Connection) async throws -> [PickerChoice]? {
        if let known = pipelines[connection.id] { return known }
        let found = try await port.choices("pipelines", under: nil, on: connection)
        pipelines[connection.id] = .some(found)
        return found
    }

    mutating func stages(of pipeline: PickerChoice, _ connection: Connection) async throws -> [PickerChoice]? {
        let key = "\(connection.id)/\(pipeline.word)"
        if let known = stages[key] { return known }
        let found = try await port.choices("stages", under: pipeline.value, on: connection)
        stages[key] = .some(found)
        return found
    }
}
