// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Tokens, the audit log, and what scheduled jobs did.
public protocol AccessBook: Sendable {
    func saveToken(_ token: AccessToken) async throws
    func token(hash: [UInt8]) async throws -> AccessToken?
    func tokens() async throws -> [AccessToken]
    func deleteToken(id: String) async throws -> Bool

    func audit(_ entry: AuditEntry) async throws
    func auditEntries(cursor: String?, limit: Int) async throws -> Page<AuditEntry>

    /// - Parameter cursors: how far a tick has looked at each connection's changes, where that made no crossing: stored in
    ///   the run's own transaction, because a cursor that is lost only has changes looked at again. One that somebody
    ///   else moved meanwhile stays.
    func recordRun(_ run: ScheduleRun, cursors: [ConnectionID: CursorMove]) async throws
    func lastRun(of schedule: String) async throws -> ScheduleRun?
}

/// Changes of `from` (excluded) up to `through` were looked at.
public struct CursorMove: Sendable, Equatable {
    public var from: Int64
    public var through: Int64

    public init(from: Int64, through: Int64) {
        self.from = from
        self.through = through
    }
}

extension AccessBook {
    /// A run that moves no cursor.
    public func recordRun(_ run: ScheduleRun) async throws { try await recordRun(run, cursors: [:]) }
}

/// One run of a scheduled job (THR-18).
public struct ScheduleRun: Sendable, Equatable, Codable {
    public var schedule: String
    public var startedAt: Timestamp
    public var finishedAt: Timestamp
    public var succeeded: Bool
    public var summary: JSONValue

    public init(
        schedule: String, startedAt: Timestamp, finishedAt: Timestamp, succeeded: Bool,
        summary: JSONValue = .object([:])
    ) {
        self.schedule = schedule
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.succeeded = succeeded
        self.summary = summary
    }
}
