// SPDX-License-Identifier: Apache-2.0

import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// Named places at which a test kills the daemon, as a power cut would (decisions 3 and 4, DUP-05).
///
/// Armed by `--crash-at NAME[:N]`, which the daemon takes only together with `--allow-crash-points`; unarmed it is one
/// atomic load.
public enum CrashPoint {
    private struct Armed: Sendable {
        var name: String
        var remaining: Int
    }
    private static let isArmed = Atomic<Bool>(false)
    private static let armed = Mutex<Armed?>(nil)

    /// The places, in the order in which a delivery meets them.
    public static let names = [
        "after_claim", "before_intent", "after_intent", "before_outcome", "after_outcome", "before_journal",
        "after_journal",
        "before_settle", "after_settle", "before_stream_commit", "after_stream_commit", "before_refresh_intent",
        "after_refresh_intent", "before_refresh_store", "after_refresh_store", "before_rule_commit",
        "after_rule_commit",
        "before_rule_settle", "after_rule_settle", "before_judgement", "after_judgement",
    ]

    /// Dies at the `count`-th time the place is reached.
    public static func arm(_ name: String, count: Int) {
        precondition(names.contains(name), "no crash point is called \(name)")
        armed.withLock { $0 = Armed(name: name, remaining: count) }
        isArmed.store(true, ordering: .releasing)
    }

    static func reach(_ name: String) {
        guard isArmed.load(ordering: .acquiring) else { return }
        let dies = armed.withLock { armed -> Bool in
            guard armed?.name == name else { return false }
            armed?.remaining -= 1
            return armed?.remaining == 0
        }
        if dies { kill(getpid(), SIGKILL) }
    }
}
