// SPDX-License-Identifier: Apache-2.0

/// Something that happened at a vendor, as somebody who heard of it handed it in (HOOK-08).
public struct VendorEvent: Sendable, Equatable {
    public enum Topic: String, Sendable, Codable, CaseIterable {
        case dealStageChanged = "deal.stage_changed"
    }

    /// Ours, made of the connection and what tells the event from others.
    public let id: String
    public let workspace: WorkspaceID
    /// The connection whose vendor it is about.
    public let connection: ConnectionID
    public let integration: IntegrationName
    public let topic: Topic
    /// When it happened; when it came, if nobody said.
    public let at: Timestamp
    public let receivedAt: Timestamp
    /// The topic's facts, each of them there and null when unknown; money is decimal text.
    public let data: JSONValue

    public init(
        id: String, workspace: WorkspaceID, connection: ConnectionID, integration: IntegrationName, topic: Topic,
        at: Timestamp, receivedAt: Timestamp, data: JSONValue
    ) {
        self.id = id
        self.workspace = workspace
        self.connection = connection
        self.integration = integration
        self.topic = topic
        self.at = at
        self.receivedAt = receivedAt
        self.data = data
    }
}
