// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel

extension WriteContext {
    /// Gives a connection its place in the log: the newest click for one that is new, and for one that was disconnected
    /// a gap over what came meanwhile (decisions 11). One that stands goes on where it was.
    func openStream(_ id: ConnectionID, after existing: Connection?) throws {
        let newest = state.clickPosition
        try db.cachedStatement(
            sql: "INSERT INTO streams (connection_id, started, position) VALUES (?1, ?2, ?2) ON CONFLICT DO NOTHING"
        ).execute(arguments: [id.rawValue, newest])
        guard db.changesCount == 0, let existing, existing.state == .disconnected else { return }
        // What was queued when it was disconnected still goes out.
        try db.execute(
            sql: """
                INSERT INTO stream_gaps (connection_id, after, through)
                SELECT connection_id, coalesce(disconnected, position), ?2 FROM streams
                WHERE connection_id = ?1 AND coalesce(disconnected, position) < ?2
                ON CONFLICT (connection_id, after) DO UPDATE SET through = excluded.through
                """, arguments: [id.rawValue, newest])
    }

    /// Remembers where the log ended when a connection was disconnected.
    func pauseStream(_ id: ConnectionID) throws {
        try db.cachedStatement(sql: "UPDATE streams SET disconnected = ? WHERE connection_id = ?")
            .execute(arguments: [state.clickPosition, id.rawValue])
    }
}
