// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostRules
public import MilepostStore
import MilepostVault

/// Takes events of vendors that somebody hands in, and passes them on to the connections that asked for them (HOOK-08).
public struct VendorEventService: Sendable {
    let store: any Store
    let plugins: any PluginPort
    let clock: any DaemonClock

    public init(store: any Store, plugins: any PluginPort, clock: any DaemonClock) {
        self.store = store
        self.plugins = plugins
        self.clock = clock
    }

    public struct Taken: Sendable {
        public var event: VendorEvent
        /// False: it was there, and nothing was made.
        public var isNew: Bool
        /// What was made for it, one a connection.
        public var deliveries: [Delivery]
    }

    /// Durable when it returns. The same event again (by its id, or by its content where it has none) makes nothing.
    ///
    /// - Throws: `EngineError.conflict` when the id belongs to an event of other content, or the connection is ended.
    public func take(
        _ draft: VendorEventDraft, from integration: IntegrationName, workspace: WorkspaceID
    ) async throws -> Taken {
        guard let source = try await store.connection(integration, workspace: workspace) else {
            throw EngineError(
                code: .notFound, detail: "Workspace \(workspace) has no connection \(integration); connect it first.")
        }
        guard source.state != .disconnected else {
            throw EngineError(
                code: .conflict, detail: "\(integration) is disconnected; connect it again to hand in its events.")
        }
        let now = clock.now
        let content: JSONValue = [
            "topic": .string(draft.topic.rawValue), "at": JSONValue(draft.at?.description), "data": draft.data,
        ]
        let digest = Digest.hex(Digest.sha256(content.bytes))
        let identity = draft.id.map { "id:\($0)" } ?? "content:\(digest)"
        let event = VendorEvent(
            id: "vev_" + Self.short([source.id.rawValue, identity]), workspace: workspace, connection: source.id,
            integration: integration, topic: draft.topic, at: draft.at ?? now, receivedAt: now, data: draft.data)
        let deliveries = try await subscribers(to: event).map { connection, action in
            Self.delivery(of: event, to: connection, action, at: now)
        }
        switch try await store.takeVendorEvent(event, identity: identity, digest: digest, deliveries: deliveries) {
        case .taken(let made): return Taken(event: event, isNew: true, deliveries: made)
        case .repeated(let first): return Taken(event: first, isNew: false, deliveries: [])
        case .conflicting(let first):
            throw EngineError(
                code: .conflict,
                detail:
                    "The id belongs to another event of \(integration), received at \(first.receivedAt); give this one "
                    + "an id of its own.")
        }
    }

    /// Connections of the workspace, whatever their state: what waits is held like anything else.
    private func subscribers(to event: VendorEvent) async throws -> [(Connection, EventAction)] {
        try await store.connections(workspace: event.workspace).filter { $0.state != .disconnected }.flatMap {
            connection in
            plugins.eventActions(of: connection.integration.plugin)
                .filter { $0.topics.contains(event.topic.rawValue) && $0.isEnabled(on: connection) }
                .map { (connection, $0) }
        }
    }

    /// `include/milepost/schemas/payload.event.json`
    private static func delivery(
        of event: VendorEvent, to connection: Connection, _ action: EventAction, at now: Timestamp
    ) -> Delivery {
        let key = short([connection.id.rawValue, action.name, event.id])
        return Delivery(
            id: DeliveryID("dlv_\(key)"), workspace: event.workspace, connection: connection.id,
            integration: connection.integration, action: action.name, scope: Scope(kind: .event, id: event.id),
            threshold: 0,
            payload: [
                "kind": "event", "workspace": .string(event.workspace.rawValue), "key": .string(key),
                "event": [
                    "id": .string(event.id), "topic": .string(event.topic.rawValue),
                    "at": .string(event.at.description), "received_at": .string(event.receivedAt.description),
                    "integration": .string(event.integration.description),
                ],
                "data": event.data,
            ], createdAt: now, updatedAt: now)
    }

    private static func short(_ parts: [String]) -> String {
        Digest.hex(Array(Digest.sha256(Array(parts.joined(separator: "\u{0}").utf8)).prefix(16)))
    }
}

/// An action that takes events of vendors, of these topics.
public struct EventAction: Sendable, Equatable {
    public var name: String
    public var topics: [String]
    /// The connection's setting that switches it.
    public var enabledBy: String?
    /// What that setting is while nobody has set it.
    public var isOnByDefault: Bool

    public init(name: String, topics: [String], enabledBy: String? = nil, isOnByDefault: Bool = true) {
        self.name = name
        self.topics = topics
        self.enabledBy = enabledBy
        self.isOnByDefault = isOnByDefault
    }

    func isEnabled(on connection: Connection) -> Bool {
        enabledBy.flatMap { connection.settings[$0]?.bool } ?? isOnByDefault
    }
}
