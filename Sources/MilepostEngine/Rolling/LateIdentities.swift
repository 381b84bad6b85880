// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore

/// Clicks that nobody could be named for when they came, until a form says who clicked (RES-02 to RES-05).
struct LateIdentities<Payload> {
    struct Waiting {
        var position: ClickPosition
        var time: Timestamp
        /// A form that is received later comes too late.
        var until: Timestamp
        var googleClickID: String?
        var facebookClickID: String?
        var payload: Payload
    }

    private var waiting: [Waiting?] = []
    private var google: [String: [Int]] = [:]
    private var facebook: [String: [Int]] = [:]
    /// How far apart form and click may be.
    private let resolver: ContactResolver

    init(resolver: ContactResolver) { self.resolver = resolver }

    /// - Returns: false when the click carries nothing that a form could name.
    @discardableResult
    mutating func add(_ item: Waiting) -> Bool {
        let ids = [item.googleClickID, item.facebookClickID].map { $0?.isEmpty == true ? nil : $0 }
        guard ids != [nil, nil] else { return false }
        if let id = ids[0] { google[id, default: []].append(waiting.count) }
        if let id = ids[1] { facebook[id, default: []].append(waiting.count) }
        waiting.append(item)
        return true
    }

    /// Takes out the clicks that a form names, in order of their receipt.
    mutating func take(_ form: LoggedForm) -> [Waiting] {
        var found: Set<Int> = []
        if let id = form.form.googleClickID { found.formUnion(google[id] ?? []) }
        if let id = form.form.facebookClickID { found.formUnion(facebook[id] ?? []) }
        guard !found.isEmpty, !form.form.match.key.isEmpty else { return [] }
        found = found.filter { index in
            guard let item = waiting[index] else { return false }
            return form.receivedAt <= item.until && resolver.isWithin(form.form.time, of: item.time)
        }
        // What is taken is not looked at again by the next form with the same id.
        if let id = form.form.googleClickID { google[id]?.removeAll(where: found.contains) }
        if let id = form.form.facebookClickID { facebook[id]?.removeAll(where: found.contains) }
        var taken = found.compactMap { waiting[$0] }
        for index in found { waiting[index] = nil }
        taken.sort { $0.position < $1.position }
        return taken
    }

    /// What still waits, in the order in which it was added.
    var rest: [Waiting] { waiting.compactMap(\.self) }
}
