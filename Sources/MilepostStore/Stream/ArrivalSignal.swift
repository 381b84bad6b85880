// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import Synchronization

/// Says that something was stored, so that whoever reads on from a cursor need not ask again and again.
///
/// Passed into the store, which raises it after the commit and before its caller hears of success. Nothing is lost
/// between two waits: what arrives is kept in each subscription until it is taken. It lives in memory, so a reader that
/// starts subscribes first and then looks at what is stored.
public final class ArrivalSignal: Sendable {
    private struct Registry {
        var mailboxes: [UInt64: (interest: Interest, mailbox: Mailbox)] = [:]
        var next: UInt64 = 0
    }
    private let registry = Mutex(Registry())

    public init() {}

    /// What a subscription hears of. Every request of the intake raises the signal: what nobody asked for must cost it
    /// next to nothing, and wake nobody.
    public enum Interest: Sendable, Equatable {
        case everything
        /// Everything of one workspace.
        case workspace(WorkspaceID)
        /// Connections, and clicks and forms of these workspaces only; `listen` adds more.
        case clicksOf(Set<WorkspaceID>)
        /// Forms only.
        case forms
        /// Connections only.
        case connections

        fileprivate func covers(_ sample: Arrivals, of workspace: WorkspaceID) -> Bool {
            switch self {
            case .everything: true
            case .workspace(let own): own == workspace
            case .clicksOf(let chosen): chosen.contains(workspace) || !sample.connections.isEmpty
            case .forms: !sample.forms.isEmpty
            case .connections: !sample.connections.isEmpty
            }
        }
    }

    public func subscribe(to interest: Interest = .everything) -> Subscription {
        let mailbox = Mailbox()
        let number = registry.withLock { registry -> UInt64 in
            registry.next += 1
            registry.mailboxes[registry.next] = (interest, mailbox)
            return registry.next
        }
        return Subscription(
            mailbox: mailbox, listen: { [weak self] in self?.extend(number, to: $0) },
            end: { [weak self] in self?.registry.withLock { _ = $0.mailboxes.removeValue(forKey: number) } })
    }

    private func extend(_ number: UInt64, to workspace: WorkspaceID) {
        registry.withLock { registry in
            guard case .clicksOf(var chosen) = registry.mailboxes[number]?.interest,
                chosen.insert(workspace).inserted
            else { return }
            registry.mailboxes[number]?.interest = .clicksOf(chosen)
        }
    }

    /// Tells that something a workspace's connections wait for is there now, though no row of theirs changed.
    public func raiseConnections(of workspace: WorkspaceID) { raise(workspace) { $0.connections.insert(workspace) } }

    func raise(_ workspace: WorkspaceID, _ change: (inout Arrivals) -> Void) {
        var sample = Arrivals()
        change(&sample)
        let mailboxes = registry.withLock { registry in
            registry.mailboxes.values.filter { $0.interest.covers(sample, of: workspace) }.map(\.mailbox)
        }
        for mailbox in mailboxes { mailbox.put(change) }
    }
}

/// What arrived since the last look.
public struct Arrivals: Sendable, Equatable {
    /// Workspaces with new clicks.
    public var clicks: Set<WorkspaceID> = []
    /// Advertisement click ids that forms came in with.
    public var forms: [WorkspaceID: AdvertisementClicks] = [:]
    /// Workspaces of which a connection was made, changed or moved to another state, or deliveries were put back.
    public var connections: Set<WorkspaceID> = []

    public init() {}

    public var isEmpty: Bool { clicks.isEmpty && forms.isEmpty && connections.isEmpty }
}

/// Ids that advertisement networks put on links.
public struct AdvertisementClicks: Sendable, Equatable {
    public var google: Set<String> = []
    public var facebook: Set<String> = []
    /// More than are worth naming, or some were erased: everything may have changed.
    public var isEverything = false

    public init() {}

    /// So many are named one by one.
    static let maximumCount = 10_000

    mutating func add(google: String?, facebook: String?) {
        guard !isEverything else { return }
        if let google { self.google.insert(google) }
        if let facebook { self.facebook.insert(facebook) }
        if self.google.count + self.facebook.count > Self.maximumCount { addEverything() }
    }

    public mutating func add(_ other: AdvertisementClicks) {
        guard !other.isEverything else { return addEverything() }
        guard !isEverything else { return }
        google.formUnion(other.google)
        facebook.formUnion(other.facebook)
        if google.count + facebook.count > Self.maximumCount { addEverything() }
    }

    public mutating func addEverything() {
        self = AdvertisementClicks()
        isEverything = true
    }
}

extension ArrivalSignal {
    /// One reader's view of the signal; one task waits at a time. Ends when it is let go of.
    public final class Subscription: Sendable {
        private let mailbox: Mailbox
        private let extend: @Sendable (WorkspaceID) -> Void
        private let end: @Sendable () -> Void

        fileprivate init(
            mailbox: Mailbox, listen: @escaping @Sendable (WorkspaceID) -> Void, end: @escaping @Sendable () -> Void
        ) {
            self.mailbox = mailbox
            extend = listen
            self.end = end
        }

        deinit { end() }

        /// Hears of this workspace's clicks too from now on, when it was made to hear of some workspaces' only. What was
        /// stored before is not told: listen first, then look.
        public func listen(to workspace: WorkspaceID) { extend(workspace) }

        /// What has arrived since the last call of this or of `next`, perhaps nothing.
        public func take() -> Arrivals { mailbox.take() }

        /// Ends a wait although nothing arrived, or the next one at once.
        public func nudge() { mailbox.nudge() }

        /// Waits until something has arrived or `nudge` was called, and takes it.
        ///
        /// - Throws: `CancellationError`; after that the subscription serves no more waits.
        public func next() async throws -> Arrivals { try await mailbox.next() }
    }
}

private final class Mailbox: Sendable {
    private struct State {
        var arrivals = Arrivals()
        var isNudged = false
        var isCancelled = false
        var waiter: CheckedContinuation<Arrivals, any Error>?

        mutating func drain() -> Arrivals {
            isNudged = false
            defer { arrivals = Arrivals() }
            return arrivals
        }
    }
    private let state = Mutex(State())

    func put(_ change: (inout Arrivals) -> Void) {
        let (waiter, arrivals) = state.withLock { state -> (CheckedContinuation<Arrivals, any Error>?, Arrivals) in
            change(&state.arrivals)
            guard let waiter = state.waiter, !state.arrivals.isEmpty else { return (nil, Arrivals()) }
            state.waiter = nil
            return (waiter, state.drain())
        }
        waiter?.resume(returning: arrivals)
    }

    func nudge() {
        let (waiter, arrivals) = state.withLock { state -> (CheckedContinuation<Arrivals, any Error>?, Arrivals) in
            guard let waiter = state.waiter else {
                state.isNudged = true
                return (nil, Arrivals())
            }
            state.waiter = nil
            return (waiter, state.drain())
        }
        waiter?.resume(returning: arrivals)
    }

    func take() -> Arrivals { state.withLock { $0.drain() } }

    func next() async throws -> Arrivals {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let answer = state.withLock { state -> Result<Arrivals, any Error>? in
                    if state.isCancelled { return .failure(CancellationError()) }
                    if state.isNudged || !state.arrivals.isEmpty { return .success(state.drain()) }
                    precondition(state.waiter == nil, "two tasks wait on one subscription")
                    state.waiter = continuation
                    return nil
                }
                if let answer { continuation.resume(with: answer) }
            }
        } onCancel: {
            let waiter = state.withLock { state in
                state.isCancelled = true
                defer { state.waiter = nil }
                return state.waiter
            }
            waiter?.resume(throwing: CancellationError())
        }
    }
}
