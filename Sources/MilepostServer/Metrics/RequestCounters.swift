// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import Synchronization

/// Requests by route and status and events by result, without building a label for each.
final class RequestCounters: Sendable {
    private let metrics: MetricsRegistry
    private let known = Mutex<[Int: MetricsRegistry.Counter]>([:])

    let accepted: MetricsRegistry.Counter
    let duplicate: MetricsRegistry.Counter
    let rejected: MetricsRegistry.Counter

    init(metrics: MetricsRegistry) {
        self.metrics = metrics
        func events(_ result: String) -> MetricsRegistry.Counter {
            metrics.counter("milepost_events_total", ["result": result])
        }
        accepted = events("accepted")
        duplicate = events("duplicate")
        rejected = events("rejected")
    }

    /// - Parameter route: any number that stands for `path` alone.
    func count(route: Int, path: String, status: Int) {
        let key = route &* 1000 &+ status
        if let counter = known.withLock({ $0[key] }) { return counter.add(1) }
        let counter = metrics.counter("milepost_http_requests_total", ["route": path, "status": String(status)])
        counter.add(1)
        known.withLock { $0[key] = counter }
    }
}

/// Workspaces that were seen to exist. None is ever deleted, so that a stream of posts need not ask the store for each.
final class KnownWorkspaces: Sendable {
    private let names = Mutex<Set<WorkspaceID>>([])
    private static let maximum = 10_000

    func contains(_ workspace: WorkspaceID) -> Bool { names.withLock { $0.contains(workspace) } }

    func insert(_ workspace: WorkspaceID) {
        names.withLock { names in
            if names.count >= Self.maximum { names.removeAll() }
            names.insert(workspace)
        }
    }
}
