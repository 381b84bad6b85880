// SPDX-License-Identifier: Apache-2.0

import MilepostRules
import MilepostStore

/// The windows that one page of clicks touches, each read and written once however often it is clicked.
///
/// Contacts and rules are numbers in here: a page of thousands of clicks would otherwise hash and compare the contact's
/// text several times for each of them.
struct PageWindows {
    private var contacts: [String] = []
    private var numbers: [String: Int] = [:]
    private var slots: [Pair: Int] = [:]
    private var pairs: [Pair] = []
    private var progress: [ContactProgress] = []

    struct Pair: Hashable {
        /// An index into the lane's rules.
        var rule: Int
        /// As `number(of:)` gave it.
        var contact: Int
    }

    /// Stands for a contact within this page.
    mutating func number(of contact: String) -> Int {
        if let known = numbers[contact] { return known }
        let number = contacts.count
        contacts.append(contact)
        numbers[contact] = number
        return number
    }

    /// Notes that a click touches this window.
    mutating func add(_ pair: Pair) {
        guard slots[pair] == nil else { return }
        slots[pair] = pairs.count
        pairs.append(pair)
    }

    var count: Int { pairs.count }

    /// Reads all that were added.
    ///
    /// - Throws: `LostWindow` when one of them is damaged.
    mutating func load(from store: any Store, _ lane: RuleCache.Lane) async throws {
        sort(lane)
        let names = pairs.map { RuleContact(rule: lane.stored[$0.rule].number, contact: contacts[$0.contact]) }
        let rows = try await store.ruleProgress(names)
        progress = try zip(names, rows).map { name, row in
            try row.map { try ContactProgress($0, of: name) } ?? ContactProgress()
        }
    }

    /// In the order of the table's key, in which neighbours share pages of the file.
    private mutating func sort(_ lane: RuleCache.Lane) {
        var ranks = [Int](repeating: 0, count: contacts.count)
        for (rank, contact) in contacts.indices.sorted(by: { contacts[$0] < contacts[$1] }).enumerated() {
            ranks[contact] = rank
        }
        pairs.sort {
            $0.rule == $1.rule
                ? ranks[$0.contact] < ranks[$1.contact] : lane.stored[$0.rule].number < lane.stored[$1.rule].number
        }
        for (slot, pair) in pairs.enumerated() { slots[pair] = slot }
    }

    /// Takes a click into a window that was loaded.
    ///
    /// - Returns: what it did; when it crossed, the progress after it.
    mutating func take(
        _ pair: Pair, time: Int64, isBot: Bool, now: Int64, under rule: RollingRule
    ) -> (effect: ContactProgress.Effect, crossed: ContactProgress?) {
        guard let slot = slots[pair] else { preconditionFailure("a window was not added to its page") }
        let effect = progress[slot].take(time: time, isBot: isBot, now: now, under: rule)
        return (effect, effect == .crossed ? progress[slot] : nil)
    }

    /// What there is to store, in the order of the table's key.
    func rows(_ lane: RuleCache.Lane) -> [(key: RuleContact, progress: RuleProgress)] {
        zip(pairs, progress).map { pair, progress in
            (
                RuleContact(rule: lane.stored[pair.rule].number, contact: contacts[pair.contact]),
                RuleProgress(
                    window: progress.window.encoded, arming: progress.arming, isArmed: progress.isArmed,
                    botClicks: progress.botClicks)
            )
        }
    }
}
