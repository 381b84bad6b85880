// SPDX-License-Identifier: Apache-2.0

import MilepostEgress
import MilepostModel
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// The registries' rows beside the table of ranges, and our verdict at each of their edges for a second pair of eyes.
@Suite("The registries, row by row (EXT-05)", .timeLimit(.minutes(10)))
struct SpecialPurposeRecordTests {
    private static let rows = SpecialPurposeRegistry.ipv4 + SpecialPurposeRegistry.ipv6
    /// Blocks whose addresses are judged by the IPv4 address in them: spellings of the table, not ranges of it.
    private static let carriers = ["::ffff:0:0", "64:ff9b::"]

    private static func bytes(_ text: String) throws -> [UInt8] { try #require(IPAddress(text)).bytes }

    private static func last(_ row: SpecialPurposeRegistry.Row) throws -> [UInt8] {
        var bytes = try bytes(row.block)
        for bit in row.bits..<bytes.count * 8 { bytes[bit / 8] |= UInt8(0x80 >> (bit % 8)) }
        return bytes
    }

    /// The address before or behind it; nil at the end of all addresses.
    private static func neighbour(_ bytes: [UInt8], by step: Int) -> [UInt8]? {
        var bytes = bytes
        for index in bytes.indices.reversed() {
            let sum = Int(bytes[index]) + step
            bytes[index] = UInt8(truncatingIfNeeded: sum)
            if (0...255).contains(sum) { return bytes }
        }
        return nil
    }

    @Test("the table of ranges holds each row of the registries as a range of its own", arguments: rows)
    func isComplete(_ row: SpecialPurposeRegistry.Row) throws {
        guard !Self.carriers.contains(row.block) else { return }
        let first = try Self.bytes(row.block)
        let last = try Self.last(row)
        // One row of the registry ends where another begins: what the table writes apart covers it together.
        let rest = row.description == "240.0.0.0/4" ? try Self.bytes("255.255.255.254") : last
        let ranges = first.count == 4 ? SpecialPurposeTable.ipv4 : SpecialPurposeTable.ipv6
        #expect(try ranges.contains { try Self.bytes($0.first) == first && Self.bytes($0.last) == rest })
    }

    @Test("at the edges of every row, in each spelling that carries an address, the guard's verdict is written down")
    func record() async throws {
        let egress = makeEgress(resolver: ScriptedResolver([["8.8.8.8"]]))
        var verdicts: [String: JSONValue] = [:]
        for row in Self.rows {
            let first = try Self.bytes(row.block)
            let last = try Self.last(row)
            let edges = [first, last, Self.neighbour(first, by: -1), Self.neighbour(last, by: 1)]
            for bytes in edges.compactMap({ $0 }) {
                for text in try #require(IPAddress(bytes: bytes)).spelled {
                    let host = text.contains(":") ? "[\(text)]" : text
                    let code = await SpecialPurposeTests.refusal("https://\(host)/hook", egress)
                    #expect(code == nil || code == .refusedByPolicy, "\(text)")
                    verdicts[text] = .bool(code != nil)
                }
            }
        }
        await egress.shutdown()
        #expect(verdicts.count > 350)
        guard let folder = unsafe getenv("MILEPOST_CONTRACT_DIR") else { return }
        let record: JSONValue = [
            "rows": .array(
                Self.rows.map {
                    [
                        "block": .string($0.description), "allocated": .string($0.allocated),
                        "reachable": $0.isReachable.map(JSONValue.bool) ?? .null,
                    ]
                }), "refused": .object(verdicts),
        ]
        let path = unsafe String(cString: folder) + "/special-addresses.json"
        guard let file = unsafe fopen(path, "w") else {
            Issue.record("\(path) cannot be written")
            return
        }
        unsafe fputs(record.description, file)
        unsafe fclose(file)
    }
}

extension IPAddress {
    /// The address, and of an IPv4 address the IPv6 addresses that carry it: mapped, of NAT64, of 6to4.
    fileprivate var spelled: [String] {
        guard isIPv4 else { return [description] }
        let high = String(Int(bytes[0]) << 8 | Int(bytes[1]), radix: 16)
        let low = String(Int(bytes[2]) << 8 | Int(bytes[3]), radix: 16)
        return [description, "::ffff:\(description)", "64:ff9b::\(description)", "2002:\(high):\(low)::"]
    }
}
