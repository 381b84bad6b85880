// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// How far a re-wrap has come.
public struct RewrapProgress: Sendable, Equatable {
    /// Data keys moved to the current key by this run.
    public var rewrapped = 0
    /// Data keys that do not open and keep their old key, with the reason; at most `Vault.maximumRewrapFailures`.
    public var failures: [WorkspaceID: VaultError] = [:]

    public init() {}
}

/// What `milepost status` and `milepost keys` show.
public struct VaultStatus: Sendable, Equatable {
    public let currentKeyID: String
    /// How many data keys each key of the provider wraps; a key with 0 that is not current can be dropped.
    public let dataKeyCounts: [String: Int]
    /// Keys that wrap data keys and that the provider does not have: those workspaces' secrets cannot be opened.
    public let missingKeyIDs: [String]
    public let health: KeyProviderHealth
}

extension Vault {
    /// Rows a chunk: a few milliseconds of the store's time, so that deliveries go on between.
    public static let rewrapChunk = 100
    /// Beyond it the ring is the wrong one, and going on would only fill the log.
    public static let maximumRewrapFailures = 1000

    /// Moves every data key to the provider's current key while secrets go on being used (SEC-11).
    ///
    /// Credentials are not touched. A key is replaced only if its row is still the one that was read, so several runs at
    /// once do no harm, and an interrupted run is simply repeated. Data keys that do not open are left and reported.
    ///
    /// - Parameter progress: called after each chunk.
    /// - Throws: `VaultError` when the store or the provider fails, or too many rows do; `CancellationError`.
    @discardableResult
    public func rewrapAll(
        progress report: @Sendable (RewrapProgress) -> Void = { _ in }
    ) async throws -> RewrapProgress {
        var progress = RewrapProgress()
        // A row that keeps losing its swap would make this loop endless; the third time it counts as failed.
        var lostSwaps: [WorkspaceID: Int] = [:]
        while true {
            try Task.checkCancellation()
            let current = try await provider.currentKeyID()
            // Failed rows stay in the answer, so ask for as many more.
            let rows = try await store.dataKeysNotWrapped(
                by: current, limit: Self.rewrapChunk + progress.failures.count)
            let pending = rows.filter { progress.failures[$0.workspace] == nil }
            if pending.isEmpty { return progress }
            for row in pending {
                do throws(VaultError) {
                    if try await rewrap(row) {
                        progress.rewrapped += 1
                    } else {
                        lostSwaps[row.workspace, default: 0] += 1
                        if lostSwaps[row.workspace] == 3 {
                            throw VaultError(
                                .recordTampered, "the data key of \(row.workspace) keeps changing: run it again")
                        }
                    }
                } catch {
                    guard error.code == .recordTampered || error.code == .keyUnknown else { throw error }
                    progress.failures[row.workspace] = error
                    if progress.failures.count > Self.maximumRewrapFailures { throw error }
                }
            }
            report(progress)
        }
    }

    private func rewrap(_ row: WrappedDataKey) async throws(VaultError) -> Bool {
        let context = KeyContext(workspace: row.workspace, dataKeyID: row.id)
        let dataKey = try await provider.unwrap(row.wrapped, keyID: row.kekID, context: context)
        let fresh = try await wrap(dataKey, context: context)
        return try await fromStore("re-wrapping the data key of \(row.workspace)") { [store] in
            try await store.replaceDataKey(fresh, ifKekIs: row.kekID)
        }
    }

    /// - Throws: `.keyInUse` while any data key needs `keyID`; ask before a key is dropped.
    public func checkUnused(_ keyID: String) async throws(VaultError) {
        let count = try await fromStore("counting the data keys of \(keyID)") { [store] in
            try await store.dataKeyCount(wrappedBy: keyID)
        }
        guard count == 0 else {
            throw VaultError(
                .keyInUse, "\(keyID) still wraps \(count) data keys: wait for the re-wrap, which milepost status shows")
        }
    }

    public func status() async throws(VaultError) -> VaultStatus {
        let current = try await provider.currentKeyID()
        let ids = try await provider.keyIDs()
        return try await fromStore("counting data keys") { [store, provider] in
            var counts: [String: Int] = [:]
            for id in ids { counts[id] = try await store.dataKeyCount(wrappedBy: id) }
            let others = try await store.dataKeysNotWrapped(by: current, limit: Self.maximumRewrapFailures)
            let missing = Set(others.map(\.kekID)).subtracting(ids).sorted()
            return VaultStatus(
                currentKeyID: current, dataKeyCounts: counts, missingKeyIDs: missing, health: await provider.health())
        }
    }
}
