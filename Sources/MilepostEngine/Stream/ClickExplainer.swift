// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostStore

/// Answers "what became of this click?" for each connection (invariant 8). Delivered clicks leave no row: what the cursor
/// has passed, and nothing says otherwise of, was delivered.
public struct ClickExplainer: Sendable {
    let store: any Store
    let plugins: any PluginPort

    public init(store: any Store, plugins: any PluginPort) {
        self.store = store
        self.plugins = plugins
    }

    static let bot = Reason(
        code: "excluded_bot", message: "The click was taken for a machine's; such clicks fire nothing here.")

    static let notMapped = Reason(
        code: "not_mapped", message: "The link has none of the tags and folders that this connection takes.")

    public struct Line: Sendable, Equatable {
        public var integration: IntegrationName
        /// Nil: of the click as such.
        public var action: String?
        /// `delivered`, `queued`, `held`, `expired`, `not_fired`, or the state of the delivery that it is.
        public var outcome: String
        public var reason: Reason
        public var delivery: DeliveryID?
    }

    public func explain(_ click: StoredClick) async throws -> [Line] {
        var lines: [Line] = []
        for connection in try await store.connections(workspace: click.workspace) {
            lines += try await explain(click, on: connection)
        }
        return lines
    }

    private func explain(_ click: StoredClick, on connection: Connection) async throws -> [Line] {
        func line(_ outcome: String, _ code: String, _ message: String) -> [Line] {
            [Line(integration: connection.integration, outcome: outcome, reason: Reason(code: code, message: message))]
        }
        let actions = plugins.clickActions(of: connection.integration.plugin)
        let trace = try await store.streamTrace(connection: connection.id, click: click)
        guard let place = trace.place, !actions.isEmpty else {
            return line(
                "not_fired", "takes_no_clicks",
                "\(connection.integration) takes no single clicks; the click counts in its link's total.")
        }
        if click.position <= place.started {
            return line(
                "not_fired", "before_connection", "The click came before \(connection.integration) was connected.")
        }
        if trace.isSkipped, trace.deliveries.isEmpty {
            return line("not_fired", "skipped", "The click came while \(connection.integration) was disconnected.")
        }
        if click.position > place.position, trace.held == nil {
            let why =
                connection.state == .active
                ? "it leaves with one of the next batches"
                : "the connection is \(connection.state.rawValue): \(connection.stateReason?.message ?? "no reason is known")"
            return line(
                "queued", connection.state == .active ? "queued" : connection.state.rawValue, "The click waits; \(why)."
            )
        }
        if let exclusion = trace.exclusion { return line("not_fired", exclusion.code, exclusion.message) }
        let policy = connection.policy.stream ?? StreamPolicy()
        if click.click.isBot, policy.bots == .exclude, trace.held == nil, trace.deliveries.isEmpty {
            return line("not_fired", Self.bot.code, Self.bot.message)
        }
        if let held = trace.held, held.state != .released { return [describe(held, on: connection)] }
        return actions.map { self.line(of: $0, trace, on: connection) }
    }

    private func describe(_ held: HeldClick, on connection: Connection) -> Line {
        let who =
            switch held.reason {
            case .unmatched: "nobody knows yet who clicked"
            case .contactUnknown: "the vendor has no such contact"
            case .excluded: "its link fires nothing any more"
            }
        let (outcome, message): (String, String) =
            switch held.state {
            case .held: ("held", "Held since \(held.heldAt) until \(held.until): \(who).")
            case .due: ("queued", "Its contact turned up; it leaves with one of the next batches.")
            case .released: ("delivered", "Held since \(held.heldAt) and then delivered.")
            case .expired: ("expired", "Held since \(held.heldAt) and ended on \(held.changedAt): \(who).")
            }
        return Line(
            integration: connection.integration, outcome: outcome,
            reason: Reason(code: held.reason.rawValue, message: message))
    }

    private func line(of action: ClickAction, _ trace: StreamTrace, on connection: Connection) -> Line {
        if let delivery = trace.deliveries.last(where: { $0.action == action.name }) {
            return Line(
                integration: connection.integration, action: action.name, outcome: delivery.state.rawValue,
                reason: delivery.reason
                    ?? Reason(code: delivery.state.rawValue, message: "Its delivery is \(delivery.state.rawValue)."),
                delivery: delivery.id)
        }
        guard action.isEnabled(on: connection) else {
            return Line(
                integration: connection.integration, action: action.name, outcome: "not_fired",
                reason: Reason(
                    code: "switched_off",
                    message: "\(action.enabledBy ?? action.name) is off, so \(action.name) is not done."))
        }
        return Line(
            integration: connection.integration, action: action.name, outcome: "delivered",
            reason: Reason(
                code: "delivered",
                message: action.coalesces
                    ? "Delivered, put together with what else its contact clicked." : "Delivered."))
    }
}
