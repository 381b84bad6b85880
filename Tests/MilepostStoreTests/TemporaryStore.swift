// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostModel
import MilepostStore

/// A directory that goes with the object.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("milepost-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    // A directory that stays behind harms no later test.
    deinit { try? FileManager.default.removeItem(atPath: path) }

    var database: String { path + "/milepost.db" }

    func open(_ configuration: SQLiteConfiguration = SQLiteConfiguration()) throws -> SQLiteStore {
        try SQLiteStore.open(directory: path, clock: FixedClock(), configuration: configuration)
    }
}

struct FixedClock: DaemonClock {
    var now: Timestamp { .start }
    func sleep(for duration: Duration) async throws { await Task.yield() }
}

extension Timestamp {
    static let start = Timestamp(rfc3339: "2026-11-01T10:00:00Z")!
}

/// SplitMix64: the same stream for the same seed.
struct Seeded: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}

extension WorkspaceID { static let acme = WorkspaceID("acme") }

func click(
    _ id: String, on link: String, isBot: Bool = false, contact: String? = nil, utm: UTM = UTM(),
    at: Timestamp = .start
) -> IdentifiedClick {
    var identity = [UInt8](repeating: 0, count: 16)
    for (index, byte) in id.utf8.enumerated() { identity[index % 16] = identity[index % 16] &* 31 &+ byte }
    return IdentifiedClick(
        click: Click(id: EventID(id), link: LinkID(link), time: at, isBot: isBot, contactID: contact, utm: utm),
        identity: identity)
}

extension SQLiteStore {
    /// `count` clicks of people on `link`, with ids nobody else uses.
    func click(_ link: String, times count: Int, tag: String, workspace: WorkspaceID = .acme) async throws {
        let clicks = (0..<count).map { number in
            var identified = MilepostStoreTests.click("\(link)-\(tag)-\(number)", on: link)
            identified.identity = identity("\(link)-\(tag)-\(number)")
            return identified
        }
        _ = try await append(clicks, workspace: workspace, receivedAt: .start)
    }
}

/// 16 bytes from two rounds of FNV-1a: good enough never to meet in a test.
func identity(_ text: String) -> [UInt8] {
    func hash(_ seed: UInt64) -> UInt64 {
        text.utf8.reduce(seed) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
    }
    let parts = [hash(0xCBF2_9CE4_8422_2325), hash(0x8422_2325_CBF2_9CE4)]
    return parts.flatMap { part in (0..<8).map { UInt8(truncatingIfNeeded: part >> UInt64($0 * 8)) } }
}

func connection(
    _ id: String = "con_1", thresholds: [Int64] = [100, 1000], aggregation: ThresholdPolicy.Aggregation = .link,
    integration: String = "pipedrive", state: Connection.State = .active
) -> Connection {
    Connection(
        id: ConnectionID(id), workspace: .acme, integration: IntegrationName(integration)!, state: state,
        stateSince: .start, policy: ThresholdPolicy(thresholds: thresholds, aggregation: aggregation),
        connectedAt: .start)
}

let baseline = Reason(code: "baseline", message: "Reached before the connection was made.")

func crossing(
    _ delivery: String?, of connection: String = "con_1", scope: Scope = Scope(kind: .link, id: "a"),
    threshold: Int64 = 100
) -> (Crossing, Delivery?) {
    let key = CrossingKey(connection: ConnectionID(connection), scope: scope, threshold: threshold)
    let made = delivery.map {
        Delivery(
            id: DeliveryID($0), workspace: .acme, connection: ConnectionID(connection),
            integration: IntegrationName("pipedrive")!, action: "deal", scope: scope, threshold: threshold,
            payload: ["contact": "ada@example.org", "link": .string(scope.id)], createdAt: .start, updatedAt: .start)
    }
    return (
        Crossing(
            key: key, workspace: .acme, at: .start, totals: ClickTotals(all: threshold, people: threshold),
            delivery: made?.id),
        made
    )
}

extension SQLiteStore {
    /// A connection with `count` pending deliveries `dlv_0…`.
    func prepareDeliveries(_ count: Int) async throws {
        _ = try await ensureWorkspace(.acme, at: .start)
        _ = try await saveConnection(
            MilepostStoreTests.connection(), credentials: [], baseline: baseline, at: .start)
        let pairs = (0..<count).map { crossing("dlv_\($0)", scope: Scope(kind: .link, id: "l\($0)")) }
        _ = try await commitEvaluation(
            connection: "con_1", crossings: pairs.map(\.0), deliveries: pairs.compactMap(\.1), cursor: 1)
    }
}
