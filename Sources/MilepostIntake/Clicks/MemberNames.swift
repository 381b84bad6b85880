// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// Finds a key among a fixed list of names, by the hash that the tape holds already.
struct MemberNames: Sendable {
    private static let slotCount = 128
    private let names: [[UInt8]]
    private let hashes: [UInt32]
    /// Index into `names`, or `UInt8.max`; open addressing, never more than a quarter full.
    private let slots: [UInt8]

    init(_ texts: [String]) {
        precondition(texts.count <= Self.slotCount / 4, "\(texts.count) names for \(Self.slotCount) slots")
        names = texts.map { Array($0.utf8) }
        hashes = names.map { FNV.hash($0.span) }
        var slots = [UInt8](repeating: .max, count: Self.slotCount)
        for (index, hash) in hashes.enumerated() {
            var slot = Int(hash) % Self.slotCount
            while slots[slot] != .max { slot = (slot + 1) % Self.slotCount }
            slots[slot] = UInt8(index)
        }
        self.slots = slots
    }

    func index(of key: JSONTape.Node, in tape: JSONTape, _ bytes: Span<UInt8>) -> Int? {
        var slot = Int(key.hash) % Self.slotCount
        while slots[slot] != .max {
            let index = Int(slots[slot])
            if hashes[index] == key.hash, matches(index, key, tape, bytes) { return index }
            slot = (slot + 1) % Self.slotCount
        }
        return nil
    }

    private func matches(_ index: Int, _ key: JSONTape.Node, _ tape: JSONTape, _ bytes: Span<UInt8>) -> Bool {
        if key.hasEscapes { return tape.decoded(key, bytes) == names[index] }
        let range = key.range
        guard range.count == names[index].count else { return false }
        for offset in 0..<range.count where bytes[range.lowerBound + offset] != names[index][offset] { return false }
        return true
    }
}

extension JSONTape {
    /// The value of a member of the object at `index`, for readers that are not in a hurry.
    func member(_ name: String, of index: Int, _ bytes: Span<UInt8>) -> Int? {
        guard nodes[index].kind == .object else { return nil }
        var key = index + 1
        while key < nodes[index].next {
            if text(nodes[key], bytes) == name { return key + 1 }
            key = Int(nodes[key].next)
        }
        return nil
    }

    /// Follows `path` through objects; nil when a part is absent or null.
    func value(at path: String..., from index: Int = 0, _ bytes: Span<UInt8>) -> Int? {
        var index = index
        for name in path {
            guard let next = member(name, of: index, bytes) else { return nil }
            index = next
        }
        return nodes[index].kind == .null ? nil : index
    }
}
