// SPDX-License-Identifier: Apache-2.0

/// A label between two records.
struct HubSpotLinkKind: Hashable, Sendable {
    var category = "HUBSPOT_DEFINED"
    let typeID: Int
    var label: String?

    var json: JSONValue {
        var members: [(String, JSONValue)] = [("category", .string(category)), ("typeId", .integer(typeID))]
        if let label { members.append(("label", .string(label))) }
        return .object(members)
    }

    /// `contact_to_deal`, the word of the v3 generation.
    func name(from: String, to: String) -> String {
        func singular(_ type: String) -> String { type == "companies" ? "company" : String(type.dropLast()) }
        return "\(singular(from))_to_\(singular(to))\(category == "HUBSPOT_DEFINED" ? "" : "_unlabeled")"
    }

    /// The default kind between two types. Numbers: `crm-apis.md` 3.6 and the vendor's table of association types.
    static func standard(_ from: String, _ to: String) -> HubSpotLinkKind? {
        let numbers = [
            "deals contacts": 3, "contacts deals": 4, "deals companies": 341, "companies deals": 342,
            "contacts companies": 279, "companies contacts": 280, "contacts notes": 201, "notes contacts": 202,
            "deals notes": 213, "notes deals": 214, "companies notes": 189, "notes companies": 190,
        ]
        return numbers["\(from) \(to)"].map { HubSpotLinkKind(typeID: $0) }
    }

    /// The same link seen from the other end: default kinds come in pairs, a label of one's own keeps its number.
    func reversed(_ from: String, _ to: String) -> HubSpotLinkKind {
        category == "HUBSPOT_DEFINED" ? Self.standard(to, from) ?? self : self
    }
}

/// Which records belong together, from both ends.
struct HubSpotLinks: Sendable {
    struct End: Hashable, Sendable {
        let type: String
        let id: String
    }

    struct Link: Hashable, Sendable {
        let type: String
        let id: String
        var types: [HubSpotLinkKind]
    }

    private var links: [End: [Link]] = [:]

    /// The links of a record to records of one type, oldest first.
    func of(_ type: String, _ id: String, to other: String) -> [Link] {
        (links[End(type: type, id: id)] ?? []).filter { $0.type == other }
    }

    /// Every link once, for the ledger.
    var all: [(from: End, to: Link)] {
        links.sorted { ($0.key.type, $0.key.id) < ($1.key.type, $1.key.id) }.flatMap { from, ends in
            ends.filter { (from.type, from.id) < ($0.type, $0.id) }.map { (from, $0) }
        }
    }

    /// Connects two records with the default kind and `kinds`.
    mutating func connect(
        _ type: String, _ id: String, _ otherType: String, _ otherID: String, kinds: [HubSpotLinkKind] = []
    ) {
        let standard = HubSpotLinkKind.standard(type, otherType)
        var own = kinds
        if let standard, !own.contains(standard) { own.insert(standard, at: 0) }
        add(End(type: type, id: id), Link(type: otherType, id: otherID, types: own))
        add(
            End(type: otherType, id: otherID),
            Link(type: type, id: id, types: own.map { $0.reversed(type, otherType) }))
    }

    private mutating func add(_ end: End, _ link: Link) {
        var known = links[end] ?? []
        if let place = known.firstIndex(where: { $0.type == link.type && $0.id == link.id }) {
            known[place].types += link.types.filter { !known[place].types.contains($0) }
        } else {
            known.append(link)
        }
        links[end] = known
    }

    mutating func disconnect(_ type: String, _ id: String, _ otherType: String, _ otherID: String) {
        links[End(type: type, id: id)]?.removeAll { $0.type == otherType && $0.id == otherID }
        links[End(type: otherType, id: otherID)]?.removeAll { $0.type == type && $0.id == id }
    }

    mutating func remove(_ type: String, _ id: String) {
        for link in links[End(type: type, id: id)] ?? [] { disconnect(type, id, link.type, link.id) }
    }

    /// Hands the links of a merged record to its survivor.
    mutating func move(_ type: String, _ id: String, to survivor: String) {
        let old = links[End(type: type, id: id)] ?? []
        remove(type, id)
        for link in old { connect(type, survivor, link.type, link.id, kinds: link.types) }
    }
}
