// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostRules
public import MilepostStore

/// Turns changed totals of one connection into crossings and deliveries (sections E, H, K, L).
///
/// Works forward from the connection's cursor, so a missed tick is caught up (THR-17) and old totals cost nothing
/// (invariant 10). Each page with a crossing is one transaction with the cursor, so a crash repeats at most a page of
/// those, and the unique key leaves out what was stored (invariant 3).
public struct Evaluator: Sendable {
    let store: any Store
    let clock: any DaemonClock
    let random: any RandomSource
    let plans: PlanMatrix
    /// Where a person can look at what crossed; `{workspace}`, `{scope}`, `{link}` and `{folder}` are filled in. Nil: notes
    /// carry no link (DEAL-04).
    let analyticsURLTemplate: String?

    public init(
        store: any Store, clock: any DaemonClock, random: any RandomSource, plans: PlanMatrix,
        analyticsURLTemplate: String?
    ) {
        self.store = store
        self.clock = clock
        self.random = random
        self.plans = plans
        self.analyticsURLTemplate = analyticsURLTemplate
    }

    /// Links read at once: bounds memory while keeping a page's transaction short.
    static let pageSize = 2000

    public struct Result: Sendable, Equatable {
        public var linksExamined = 0
        public var crossings = 0
        public var deliveries = 0
        /// How far was looked without a crossing: to be stored, sooner or later (`recordRun`).
        public var looked: CursorMove?

        public init() {}
    }

    /// - Parameters:
    ///   - action: the plugin's action for threshold crossings.
    ///   - off: why the connection takes no crossings now; they are marked as reached and never fire.
    public func evaluate(
        _ connection: Connection, workspace: Workspace, action: String, off: Reason? = nil
    ) async throws -> Result {
        var result = Result()
        var cursor = connection.cursor
        var saved = cursor
        let optedOut = try await store.optedOutMembers(workspace: workspace.id)
        let gate = try await gate(connection, workspace: workspace) ?? off
        while true {
            try Task.checkCancellation()
            let changed = try await store.changedLinks(
                workspace: workspace.id, after: cursor, floor: Self.floor(of: connection.policy), limit: Self.pageSize)
            // Nothing of this workspace changed: moving its cursor would only cost a commit.
            if changed.examined == 0 { return result }
            result.linksExamined += changed.examined
            let candidates = try await candidates(among: changed.links, for: connection, optedOut: optedOut)
            let made = try await makeCrossings(
                candidates, connection: connection, gate: gate, action: action)
            // A commit for the cursor alone would be most of the cost of a tick in which nothing crossed. A cursor that never
            // moved is not told from one that was set back to fire for what is there, so it moves at once.
            if made.crossings.isEmpty, saved > 0 {
                result.looked = CursorMove(from: saved, through: changed.through)
            } else {
                let stored = try await store.commitEvaluation(
                    connection: connection.id, crossings: made.crossings, deliveries: made.deliveries,
                    cursor: changed.through)
                result.crossings += made.crossings.count
                result.deliveries += stored.count
                result.looked = nil
                saved = changed.through
            }
            cursor = changed.through
            if !changed.hasMore { return result }
        }
    }

    /// Why the workspace's plan does not let the connection fire now; nil when it does.
    func gate(_ connection: Connection, workspace: Workspace) async throws -> Reason? {
        try await store.planMatrix(configured: plans).obstacle(
            workspace: workspace, plugin: connection.integration.plugin, now: clock.now)
    }

    /// A link below the lowest threshold can have crossed nothing; below a folder's it still moves the folder.
    private static func floor(of policy: ThresholdPolicy) -> TotalFloor? {
        guard policy.aggregation == .link, let lowest = policy.thresholds.first else { return nil }
        return TotalFloor(audience: policy.audience, clicks: lowest)
    }

    // MARK: What may have crossed

    private struct Candidate {
        var scope: Scope
        var totals: ClickTotals
        var link: Link?
        var folder: FolderTotals?
        var exclusion: Reason?
    }

    private func candidates(
        among links: [Link], for connection: Connection, optedOut: Set<String>
    ) async throws -> [Candidate] {
        let lowest = connection.policy.thresholds.first ?? .max
        switch connection.policy.aggregation {
        case .link:
            return links.compactMap { link in
                guard link.totals.counted(connection.policy.audience) >= lowest else { return nil }
                return Candidate(
                    scope: Scope(kind: .link, id: link.id.rawValue), totals: link.totals, link: link,
                    exclusion: ExclusionRule.reason(for: link, optedOutMembers: optedOut))
            }
        case .folder:
            var found: [Candidate] = []
            for name in Set(links.compactMap(\.folder)).sorted() {
                let folder = try await store.folder(
                    name, workspace: connection.workspace, audience: connection.policy.audience)
                guard folder.totals.counted(connection.policy.audience) >= lowest else { continue }
                found.append(Candidate(scope: Scope(kind: .folder, id: name), totals: folder.totals, folder: folder))
            }
            return found
        }
    }

    // MARK: Crossings

    private func makeCrossings(
        _ candidates: [Candidate], connection: Connection, gate: Reason?, action: String
    ) async throws -> (crossings: [Crossing], deliveries: [Delivery]) {
        guard !candidates.isEmpty else { return ([], []) }
        let unreached = try await store.unreached(
            connection: connection.id, scopes: candidates.map(\.scope), thresholds: connection.policy.thresholds)
        var crossings: [Crossing] = []
        var deliveries: [Delivery] = []
        for candidate in candidates {
            let reached = ThresholdRule.reached(
                total: candidate.totals.counted(connection.policy.audience), unreached: unreached[candidate.scope] ?? []
            )
            guard !reached.isEmpty else { continue }
            let obstacle = candidate.exclusion ?? gate
            let campaign = obstacle == nil ? try await campaign(of: candidate, connection: connection) : UTM()
            for threshold in reached {
                let now = clock.now
                var crossing = Crossing(
                    key: CrossingKey(connection: connection.id, scope: candidate.scope, threshold: threshold),
                    workspace: connection.workspace, at: now, totals: candidate.totals, reason: obstacle)
                if obstacle == nil {
                    let delivery = Delivery(
                        id: DeliveryID(random.identifier(prefix: "dlv", at: now)), workspace: connection.workspace,
                        connection: connection.id, integration: connection.integration, action: action,
                        scope: candidate.scope, threshold: threshold,
                        payload: payload(
                            candidate, threshold: threshold, connection: connection, campaign: campaign, at: now),
                        createdAt: now, updatedAt: now)
                    crossing.delivery = delivery.id
                    deliveries.append(delivery)
                }
                crossings.append(crossing)
            }
        }
        return (crossings, deliveries)
    }

    private func campaign(of candidate: Candidate, connection: Connection) async throws -> UTM {
        let frequent = try await store.mostFrequentUTM(
            workspace: connection.workspace, scope: candidate.scope, audience: connection.policy.audience)
        return CampaignRule.campaign(destination: candidate.link?.destination, mostFrequent: frequent)
    }

    /// The body a plugin translates: `include/milepost/schemas/deal.payload.json`.
    private func payload(
        _ candidate: Candidate, threshold: Int64, connection: Connection, campaign: UTM, at: Timestamp
    ) -> JSONValue {
        var body: [String: JSONValue] = [
            "kind": "threshold_crossing",
            "workspace": .string(connection.workspace.rawValue),
            "scope": [
                "kind": .string(candidate.scope.kind.rawValue), "id": .string(candidate.scope.id),
                "name": .string(candidate.link?.displayName ?? candidate.scope.id),
            ],
            "threshold": .integer(threshold),
            "arming": 0,
            "total": ["all": .integer(candidate.totals.all), "people": .integer(candidate.totals.people)],
            "count": .string(connection.policy.audience.rawValue),
            "crossed_at": .string(at.description),
            "utm": [
                "source": JSONValue(campaign.source), "medium": JSONValue(campaign.medium),
                "campaign": JSONValue(campaign.campaign),
            ],
            "analytics_url": JSONValue(analyticsURL(for: candidate, workspace: connection.workspace)),
            "top_links": .array(
                (candidate.folder?.top ?? []).map { link in
                    [
                        "id": .string(link.id.rawValue), "slug": .string(link.displayName),
                        "clicks": .integer(link.totals.counted(connection.policy.audience)),
                    ]
                }),
            "fields": [:],
            "link": .null,
        ]
        if let link = candidate.link {
            body["link"] = [
                "id": .string(link.id.rawValue), "slug": .string(link.displayName),
                "short_url": JSONValue(link.shortURL),
                "destination": JSONValue(link.destination), "title": JSONValue(link.title),
                "folder": JSONValue(link.folder),
                "tags": .array(link.tags.map(JSONValue.string)), "owner": JSONValue(link.owner),
            ]
        }
        return .object(body)
    }

    /// Nil as well when the template names something that the crossing lacks: a link that leads nowhere is worse than none.
    private func analyticsURL(for candidate: Candidate, workspace: WorkspaceID) -> String? {
        guard let template = analyticsURLTemplate else { return nil }
        let folder = candidate.scope.kind == .folder ? candidate.scope.id : candidate.link?.folder
        let values = [
            "workspace": workspace.rawValue, "scope": candidate.scope.id, "link": candidate.link?.id.rawValue,
            "folder": folder,
        ]
        var text = ""
        var rest = template[...]
        while let open = rest.firstIndex(of: "{"), let close = rest[open...].firstIndex(of: "}") {
            guard let value = values[String(rest[rest.index(after: open)..<close])] ?? nil else { return nil }
            text += rest[..<open] + percentEncoded(value)
            rest = rest[rest.index(after: close)...]
        }
        return text + rest
    }

    private func percentEncoded(_ text: String) -> String {
        let hex = Array("0123456789ABCDEF")
        var encoded = ""
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f, 0x7e:
                encoded.unicodeScalars.append(Unicode.Scalar(byte))
            default: encoded += "%\(hex[Int(byte >> 4)])\(hex[Int(byte & 15)])"
            }
        }
        return encoded
    }
}
