// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What one tick did: the answer of `POST /v1/admin/tick` and the schedule's history.
public struct TickReport: Sendable, Equatable {
    public var startedAt: Timestamp
    public var finishedAt: Timestamp
    public var workspaces = 0
    /// Workspaces left out because another dispatcher is working on them.
    public var locked = 0
    public var linksExamined = 0
    public var crossings = 0
    public var deliveries = DeliveryTally()
    /// Workspaces that could not be handled, with why; the others were (THR-02).
    public var errors: [WorkspaceError] = []

    public struct WorkspaceError: Sendable, Equatable {
        public var workspace: WorkspaceID
        public var message: String

        public init(workspace: WorkspaceID, message: String) {
            self.workspace = workspace
            self.message = message
        }
    }

    public init(startedAt: Timestamp, finishedAt: Timestamp) {
        self.startedAt = startedAt
        self.finishedAt = finishedAt
    }

    public var json: JSONValue {
        [
            "started_at": .string(startedAt.description), "finished_at": .string(finishedAt.description),
            "duration_ms": .integer((finishedAt - startedAt).wholeMilliseconds),
            "workspaces": .integer(Int64(workspaces)),
            "locked": .integer(Int64(locked)),
            "links_examined": .integer(Int64(linksExamined)), "crossings": .integer(Int64(crossings)),
            "delivered": .integer(Int64(deliveries.delivered)), "retrying": .integer(Int64(deliveries.retrying)),
            "uncertain": .integer(Int64(deliveries.uncertain)), "held": .integer(Int64(deliveries.held)),
            "dead": .integer(Int64(deliveries.dead)),
            "errors": .array(
                errors.map { ["workspace": .string($0.workspace.rawValue), "message": .string($0.message)] }),
        ]
    }
}
