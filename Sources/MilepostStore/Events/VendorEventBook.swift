// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Events of vendors that were handed in, and what was made of them (HOOK-08).
public protocol VendorEventBook: Sendable {
    /// Stores an event with its deliveries in one transaction, once for what tells it from others.
    ///
    /// - Parameters:
    ///   - identity: what makes it the only one of its connection; up to the caller.
    ///   - digest: of its content: the same identity with another one is another event under a name that is taken.
    func takeVendorEvent(
        _ event: VendorEvent, identity: String, digest: String, deliveries: [Delivery]
    ) async throws -> VendorEventFate
    /// Newest first; of one connection, or of the whole workspace.
    func vendorEvents(
        workspace: WorkspaceID, connection: ConnectionID?, topic: VendorEvent.Topic?, cursor: String?, limit: Int
    ) async throws -> Page<VendorEvent>
    /// Those about a person, for export (PRV-01).
    func vendorEvents(workspace: WorkspaceID, person: String) async throws -> [VendorEvent]
    /// What each of the events became, by its id.
    func deliveries(ofEvents ids: [String], workspace: WorkspaceID) async throws -> [String: [Delivery]]
}

public enum VendorEventFate: Sendable, Equatable {
    /// With the deliveries that were really made.
    case taken([Delivery])
    /// It is there; what came first.
    case repeated(VendorEvent)
    /// Another one has its identity.
    case conflicting(VendorEvent)
}
