// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// Reads members of a foreign object by their path. Foreign fields that only describe are taken when they are text and
/// left out otherwise: a vendor's change of a field we barely need must not cost the click.
struct ImportedObject {
    let tape: JSONTape

    func has(_ path: String..., in bytes: Span<UInt8>) -> Bool { find(path, bytes) != nil }

    /// Text, cut to `limit` bytes; nil when absent, empty, not text, or one of the vendor's words for "none".
    func text(_ path: String..., atMost limit: Int, unless absent: [String] = [], in bytes: Span<UInt8>) -> String? {
        guard let index = find(path, bytes), tape.nodes[index].kind == .string else { return nil }
        let text = tape.text(tape.nodes[index], bytes)
        return text.isEmpty || absent.contains(text) ? nil : text.cut(toBytes: limit)
    }

    func texts(_ path: String..., atMost count: Int, in bytes: Span<UInt8>) -> [String] {
        guard let index = find(path, bytes), tape.nodes[index].kind == .array else { return [] }
        var found: [String] = []
        var item = index + 1
        while item < tape.nodes[index].next, found.count < count {
            // Dub's tags are objects with a name, Shlink's are names.
            let named = tape.nodes[item].kind == .object ? tape.member("name", of: item, bytes) : item
            if let named, tape.nodes[named].kind == .string { found.append(tape.text(tape.nodes[named], bytes)) }
            item = Int(tape.nodes[item].next)
        }
        return found
    }

    /// The verdict at `path`; nil when there is none.
    func bool(_ path: String..., in bytes: Span<UInt8>) -> Bool? {
        guard let index = find(path, bytes) else { return nil }
        switch tape.nodes[index].kind {
        case .yes: return true
        case .no: return false
        case .object, .array, .key, .string, .number, .null: return nil
        }
    }

    /// A key that must be right if it is there.
    func identifier(_ path: String..., named name: StaticString, in bytes: Span<UInt8>) throws(LineFault) -> String? {
        try FieldValues(tape: tape).identifier(find(path, bytes).map { tape.nodes[$0] }, name, bytes)
    }

    func time(_ path: String..., named name: StaticString, in bytes: Span<UInt8>) throws(LineFault) -> Timestamp {
        guard let index = find(path, bytes) else {
            throw LineFault(code: "ts_missing", message: "\(name): missing; it says when the click was")
        }
        return try FieldValues(tape: tape).time(tape.nodes[index], name, bytes)
    }

    func country(_ path: String..., unless absent: [String] = [], in bytes: Span<UInt8>) -> String? {
        guard let index = find(path, bytes), tape.nodes[index].kind == .string else { return nil }
        let text = tape.text(tape.nodes[index], bytes)
        guard !text.isEmpty, !absent.contains(text) else { return nil }
        return text.utf8.count == 2 ? text.uppercased() : text.cut(toBytes: FieldLimits.country)
    }

    private func find(_ path: [String], _ bytes: Span<UInt8>) -> Int? {
        var index = 0
        for name in path {
            guard let next = tape.member(name, of: index, bytes) else { return nil }
            index = next
        }
        return tape.nodes[index].kind == .null ? nil : index
    }
}

extension EventFields {
    /// Fills in the campaign and the ad click ids that a URL's query carries, where the event has none of its own.
    mutating func fillCampaign(from url: String?) {
        guard let url else { return }
        let query = QueryString(of: url)
        let campaign = query.campaign
        utm.source = utm.source ?? campaign.source
        utm.medium = utm.medium ?? campaign.medium
        utm.campaign = utm.campaign ?? campaign.campaign
        utm.term = utm.term ?? campaign.term
        utm.content = utm.content ?? campaign.content
        googleClickID = googleClickID ?? query.value("gclid", atMost: FieldLimits.adClickID)
        facebookClickID = facebookClickID ?? query.value("fbclid", atMost: FieldLimits.adClickID)
    }
}
