// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostStore

/// What the engine asks of plugins. `HostedPlugins` answers over the plugin host; a simulator may stand in.
public protocol PluginPort: Sendable {
    /// What the plugin's manifest says about one of its actions; nil when the plugin is not there.
    func traits(of plugin: PluginName, action: String) -> ActionTraits?
    /// The action that the plugin offers for threshold crossings; nil when it has none or is not there.
    func thresholdAction(of plugin: PluginName) -> String?
    /// Why the plugin cannot be used now; nil when it can.
    func obstacle(for plugin: PluginName) -> Reason?

    /// Delivers records of one action, one verdict each, in order. Requests of the plugin leave their intent and outcome
    /// in the journal before this returns.
    func deliver(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Verdict]
    /// Asks what became of requests whose outcome is open, one finding each, in order.
    func reconcile(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Finding]
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
