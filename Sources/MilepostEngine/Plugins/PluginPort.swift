// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostStore

/// What the engine asks of plugins. `HostedPlugins` answers over the plugin host; a simulator may stand in.
public protocol PluginPort: InterceptPort {
    /// What the plugin's manifest says about one of its actions; nil when the plugin is not there.
    func traits(of plugin: PluginName, action: String) -> ActionTraits?
    /// The action that the plugin offers for threshold crossings; nil when it has none or is not there.
    func thresholdAction(of plugin: PluginName) -> String?
    /// What the plugin does with every click of a known contact; empty when it takes none or is not there.
    func clickActions(of plugin: PluginName) -> [ClickAction]
    /// What the plugin does with events of vendors that somebody hands in; empty when it takes none or is not there.
    func eventActions(of plugin: PluginName) -> [EventAction]
    /// Why the plugin cannot be used now; nil when it can.
    func obstacle(for plugin: PluginName) -> Reason?

    /// Delivers records of one action, one verdict each, in order. Requests of the plugin leave their intent and outcome
    /// in the journal before this returns.
    func deliver(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Verdict]
    /// Asks what became of requests whose outcome is open, one finding each, in order.
    func reconcile(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Finding]
}

extension PluginPort {
    public func clickActions(of plugin: PluginName) -> [ClickAction] { [] }
    public func eventActions(of plugin: PluginName) -> [EventAction] { [] }
}

/// An action that takes every click of a known contact; safe to repeat.
public struct ClickAction: Sendable, Equatable {
    public var name: String
    /// Records in one `deliver`.
    public var maximumBatch: Int
    /// Queued clicks of one contact become one record.
    public var coalesces: Bool
    /// The connection's setting that switches it.
    public var enabledBy: String?
    /// What that setting is while nobody has set it: its default in the plugin's `config_schema`.
    public var isOnByDefault: Bool
    /// It has a use for clicks of nobody known. (One that coalesces has none: there is no contact to put them together by.)
    public var takesAnyone: Bool

    public init(
        name: String, maximumBatch: Int = 1, coalesces: Bool = false, enabledBy: String? = nil,
        isOnByDefault: Bool = true, takesAnyone: Bool = false
    ) {
        self.name = name
        self.maximumBatch = maximumBatch
        self.coalesces = coalesces
        self.enabledBy = enabledBy
        self.isOnByDefault = isOnByDefault
        self.takesAnyone = takesAnyone && !coalesces
    }

    func isEnabled(on connection: Connection) -> Bool { isEnabled(under: connection.settings) }

    func isEnabled(under settings: JSONValue) -> Bool {
        enabledBy.flatMap { settings[$0]?.bool } ?? isOnByDefault
    }
}

/// What the core must know about an action to deliver it safely.
public struct ActionTraits: Sendable, Equatable {
    /// Records in one `deliver`.
    public var maximumBatch: Int
    /// How long the vendor's look-ups may lag behind its writes.
    public var readLag: Duration
    public var canReconcile: Bool

    public init(maximumBatch: Int = 1, readLag: Duration = .zero, canReconcile: Bool = false) {
        self.maximumBatch = maximumBatch
        self.readLag = readLag
        self.canReconcile = canReconcile
    }
}
