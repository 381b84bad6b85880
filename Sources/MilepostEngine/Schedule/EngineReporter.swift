// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostStore

/// Hears what the engine does, for logs and metrics. Called from tasks, must not block.
public protocol EngineReporter: Sendable {
    func attempted(_ record: AttemptRecord, on connection: Connection)
    func settled(_ outcome: DeliveryOutcome, on connection: Connection)
    func warned(_ warning: Reason, delivery: DeliveryID, on connection: Connection)
    func connectionMoved(_ connection: Connection, to state: Connection.State, reason: Reason?)
    /// Deliveries of the connection have failed so often, without one success, that it is shown as failing; unless one
    /// succeeds, a failure past `disablesAt` disables it (EXT-08). Told once for each such run.
    func connectionFails(_ connection: Connection, _ health: EndpointHealth, disablesAt: Timestamp?)
    func ticked(_ report: TickReport)
    /// A batch of the click stream was dealt with.
    ///
    /// - Parameter lag: from the receipt of its oldest click to now; nil when nothing was sent.
    func streamed(_ counts: [StreamCount: Int64], lag: Duration?, on connection: Connection)
    func streamFailed(_ connection: ConnectionID, _ problem: String)
    /// A token refresh was answered with a pair, or ended in any other way (OBS-01).
    func refreshed(_ connection: Connection, succeeded: Bool)
    func tickFailed(_ workspace: WorkspaceID, _ problem: String)
    /// What waits on a connection that works again could not be sent at once, because the store failed; ticks go on.
    func goingOnFailed(_ connection: Connection, _ problem: String)
    /// A judge answered, or did not, about a delivery of the connection.
    func judged(_ decision: InterceptDecision, on connection: Connection)
    /// Something about rolling rules that an operator should read.
    func rulesNoticed(_ workspace: WorkspaceID, _ notice: String)
    /// A contact reached a rule's threshold, and what came of it is known.
    ///
    /// - Parameter outcome: `acted`, `refused`, `observed` or `baseline`.
    func ruleCrossed(_ rule: String, in workspace: WorkspaceID, outcome: String)
}

extension EngineReporter {
    public func rulesNoticed(_ workspace: WorkspaceID, _ notice: String) {}
    public func ruleCrossed(_ rule: String, in workspace: WorkspaceID, outcome: String) {}
    public func connectionFails(_ connection: Connection, _ health: EndpointHealth, disablesAt: Timestamp?) {}
    public func judged(_ decision: InterceptDecision, on connection: Connection) {}
    public func goingOnFailed(_ connection: Connection, _ problem: String) {}
}

extension EngineReporter {
    public func streamed(_ counts: [StreamCount: Int64], lag: Duration?, on connection: Connection) {}
    public func streamFailed(_ connection: ConnectionID, _ problem: String) {}
    public func refreshed(_ connection: Connection, succeeded: Bool) {}
}

/// Hears nothing.
public struct SilentReporter: EngineReporter {
    public init() {}
    public func attempted(_ record: AttemptRecord, on connection: Connection) {}
    public func settled(_ outcome: DeliveryOutcome, on connection: Connection) {}
    public func warned(_ warning: Reason, delivery: DeliveryID, on connection: Connection) {}
    public func connectionMoved(_ connection: Connection, to state: Connection.State, reason: Reason?) {}
    public func ticked(_ report: TickReport) {}
    public func tickFailed(_ workspace: WorkspaceID, _ problem: String) {}
}
