// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// A plugin's state as an administrator sees it.
public struct PluginHealth: Sendable, Hashable {
    public enum State: String, Sendable, Codable, CaseIterable { case loaded, refused, quarantined, restarting, absent }
    public let name: PluginName
    public let state: State
    public let isolation: PluginIsolation
    public let version: String?
    /// Reached by the worker: 0 means none. Inline plugins have none.
    public let landlockABI: UInt32
    /// 0, 1 or 2 filters.
    public let seccompStages: UInt32
    public let workerProcessID: Int32?
    public let restarts: Int
    public let lastCrash: String?
    public let misbehaviours: Int
    public let lastMisbehaviour: String?
    /// One sentence: why it is in this state and what to do. Nil when there is nothing to say.
    public let reason: String?
}

/// A plugin found in a folder, by its manifest alone; nothing of it has run.
public struct DiscoveredPlugin: Sendable {
    public let name: PluginName
    public let directory: String
    public let manifest: Result<PluginManifest, PluginLoadError>
}
