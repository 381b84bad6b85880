// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore

// The `oauth` object of a connection: what is known of its tokens, never a token (OBS-03, OBS-04).

extension MilepostServer {
    /// A connection with its queue and its tokens' state.
    static func presentOne(_ connection: Connection, _ call: Call) async throws -> JSONValue {
        let counts = try await call.engine.store.deliveryCounts()
        return try await present([connection], counts, call)[0]
    }

    static func present(
        _ connections: [Connection], _ counts: [ConnectionID: [Delivery.State: Int]], _ call: Call
    ) async throws -> [JSONValue] {
        let chains = try await call.engine.store.chains()
        let byID = Dictionary(chains.map { ($0.connection, $0) }, uniquingKeysWith: { first, _ in first })
        // A connection's peers are those of all workspaces, or one that stands alone in its own would have none.
        let ages = RefreshAges(
            chains, of: try await call.engine.store.connections(workspace: nil), now: call.engine.clock.now)
        var files: [ConnectionID: String] = [:]
        for connection in connections where connection.isManaged {
            files[connection.id] = try await call.engine.store.managedObject(
                .connection, workspace: connection.workspace, name: connection.integration.description)?.source
        }
        return connections.map { connection in
            var members = present(connection, counts, call).object ?? [:]
            if connection.isManaged { members["managed_by"] = JSONValue(files[connection.id]) }
            members["credential"] = JSONValue(connection.credential)
            members["oauth"] =
                byID[connection.id].map { $0.json(now: call.engine.clock.now, isStale: ages.isStale($0)) } ?? .null
            return .object(members)
        }
    }
}

extension MilepostServer {
    /// What somebody should know of tokens before a connection needs him.
    static func tokenProblems(_ connections: [Connection], _ chains: [TokenChain], now: Timestamp) -> [JSONValue] {
        let byID = Dictionary(connections.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        return chains.flatMap { chain -> [JSONValue] in
            guard let connection = byID[chain.connection], connection.state == .active || connection.state == .disabled
            else { return [] }
            let name = "\(connection.workspace)/\(connection.integration)"
            var found: [JSONValue] = []
            if chain.state == .operatorError, let reason = chain.reason {
                found.append([
                    "code": .string(reason.code), "message": .string("\(name): \(reason.message)"),
                    "cure": .string("milepost app set \(connection.integration.plugin)"),
                ])
            }
            if chain.state == .uncertain, let reason = chain.reason {
                found.append([
                    "code": "refresh_uncertain", "message": .string("\(name): \(reason.message)"),
                    "cure": "Nothing yet: the token is tried once more.",
                ])
            }
            if chain.isDormant(now: now) {
                found.append([
                    "code": "credentials_dormant",
                    "message": .string(
                        "\(name): its tokens were last renewed \(RefreshAges.text(now - chain.renewedAt)); vendors forget "
                            + "tokens that lie unused for six months."),
                    "cure": "Enable its plugin again, or install it anew.",
                ])
            }
            return found
        }
    }
}

extension MilepostServer {
    /// Rules that act through a connection that was installed without the scopes for it (Z-05).
    static func scopeProblems(_ found: [(connection: Connection, reason: Reason)]) -> [JSONValue] {
        found.map { connection, reason in
            [
                "code": .string(reason.code),
                "message": .string("\(connection.workspace)/\(connection.integration): \(reason.message)"),
                "cure": .string("milepost connect \(connection.integration) --oauth -w \(connection.workspace)"),
            ]
        }
    }
}

extension TokenChain {
    /// Past this without a refresh a vendor may have forgotten the token (OAU-10).
    static let dormantAfter: Duration = .seconds(150 * 86_400)

    /// The last time that the vendor gave tokens.
    var renewedAt: Timestamp { lastRefreshAt ?? issuedAt }

    func isDormant(now: Timestamp) -> Bool { now - renewedAt > Self.dormantAfter }

    func json(now: Timestamp, isStale: Bool) -> JSONValue {
        [
            "state": .string(state.rawValue), "reason": reason?.json ?? .null,
            "scopes": .array(scopes.map(JSONValue.string)),
            "token_version": .integer(version), "expires_at": expiresAt.json, "last_refresh_at": lastRefreshAt.json,
            "last_refresh_age": JSONValue(lastRefreshAt.map { RefreshAges.text(now - $0) }),
            "refreshes": .integer(refreshes), "failures": .integer(Int64(failures)),
            "resent": .integer(Int64(resent)), "next_attempt_at": nextAttemptAt.json, "stale": .bool(isStale),
            "dormant": .bool(isDormant(now: now)),
        ]
    }
}

/// Compares a chain's last refresh with those of its peers: other installations of the same plugin (OBS-04). Pure.
struct RefreshAges {
    private let plugins: [ConnectionID: PluginName]
    private let byPlugin: [PluginName?: [Int64]]
    private let now: Timestamp

    /// A refresh is late among its peers when it is this many times older than the one in their middle, and older than an
    /// hour: minutes against minutes are no news.
    private static let factor: Int64 = 10
    private static let floor: Int64 = 3_600_000

    init(_ chains: [TokenChain], of connections: [Connection], now: Timestamp) {
        let plugins = Dictionary(
            connections.map { ($0.id, $0.integration.plugin) }, uniquingKeysWith: { first, _ in first })
        self.plugins = plugins
        byPlugin = Dictionary(grouping: chains) { plugins[$0.connection] }.mapValues { peers in
            peers.map { (now - $0.renewedAt).wholeMilliseconds }.sorted()
        }
        self.now = now
    }

    func isStale(_ chain: TokenChain) -> Bool {
        guard let plugin = plugins[chain.connection], let ages = byPlugin[plugin], ages.count >= 3 else { return false }
        let own = (now - chain.renewedAt).wholeMilliseconds
        return own > Self.floor && own > ages[ages.count / 2] * Self.factor
    }

    /// "6 days ago": the largest unit of which there is at least one.
    static func text(_ age: Duration) -> String {
        let seconds = max(0, age.components.seconds)
        for (length, name) in [(86_400, "day"), (3600, "hour"), (60, "minute")] as [(Int64, String)]
        where seconds >= length {
            let count = seconds / length
            return "\(count) \(name)\(count == 1 ? "" : "s") ago"
        }
        return "just now"
    }
}
