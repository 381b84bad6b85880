// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore

// Restored and copied databases (docs/decisions/0006-token-lineage.md).

extension TokenKeeper {
    /// What a killed daemon left open becomes uncertain, and chains that this data directory did not store last are held
    /// before any of them can be harmed. For the start only, before anything is sent.
    public func recover() async throws {
        let reason = Reason(
            code: "refresh_interrupted",
            message: "The daemon ended while a token refresh was under way; the token is tried once more.")
        _ = try await store.recoverRefreshes(
            exceptOwner: owner, reason: reason, nextAttemptAt: clock.now + policy.lostAnswerPause)
        let chains = try await store.chains()
        let record = try await store.lineage()
        for chain in chains {
            switch chain.state {
            case .held, .edited, .revoked: continue
            case .ok, .failing, .uncertain, .operatorError: break
            }
            guard let connection = try await store.connection(id: chain.connection),
                let doubt = Self.doubt(about: chain, record, place: place)
            else { continue }
            await end(policy.ended(chain, .held, doubt), connection)
        }
        await recordLineage()
    }

    /// Why the newest tokens of a chain may be somewhere else; nil when nothing says so. Pure.
    static func doubt(about chain: TokenChain, _ record: LineageRecord?, place: String) -> Reason? {
        let cure = "Reinstall, or, when no other daemon works with these credentials: milepost app adopt."
        guard let record, record.place == place else {
            return Reason(
                code: "credentials_copied",
                message: "The database was moved or copied to this place: these may be restored or copied credentials, "
                    + "and a refresh here would end the other daemon's access. Nothing is sent. \(cure)")
        }
        guard let entry = record.entries[chain.connection.rawValue] else { return nil }
        // A vendor that does not rotate gave the same token again: an older row is as good as the newest.
        let isOlder =
            entry.version > chain.version || (entry.version == chain.version && entry.lineage != chain.lineage)
        guard isOlder, entry.fingerprint != chain.fingerprint || entry.lineage != chain.lineage else { return nil }
        return Reason(
            code: "credentials_restored",
            message: "The database was restored: its tokens are version \(chain.version), this place stored version "
                + "\(entry.version) last. These are restored or copied credentials, which the vendor has replaced since. "
                + "Nothing is sent. \(cure)")
    }

    /// Brings the record up to date with what is stored. A record that lags behind after a crash only sees less.
    package func recordLineage() async {
        guard let chains = try? await store.chains() else { return }
        var record = LineageRecord(place: place)
        for chain in chains {
            record.entries[chain.connection.rawValue] = .init(
                lineage: chain.lineage, version: chain.version, fingerprint: chain.fingerprint)
        }
        if let known = try? await store.lineage(), known == record { return }
        if chains.isEmpty, (try? await store.lineage()) ?? nil == nil { return }
        try? await store.storeLineage(record)  // the next refresh writes it again
    }

    /// Somebody answers for it that no other daemon works with these credentials: held chains go on.
    ///
    /// - Returns: how many.
    public func adoptHeld() async throws -> Int {
        var count = 0
        for chain in try await store.chains() where chain.state == .held {
            var released = chain
            released.state = .ok
            released.reason = Reason(
                code: RefreshPolicy.adopted, message: "Restored or copied; an administrator said go on.")
            released.nextAttemptAt = nil
            released.failures = 0
            guard try await store.settleRefresh(released) else { continue }
            count += 1
            if let connection = try await store.connection(id: chain.connection), connection.state == .needsReauth,
                connection.stateReason?.code == chain.reason?.code
            {
                await move(connection, to: .active, nil)
            }
        }
        wake()
        return count
    }
}
