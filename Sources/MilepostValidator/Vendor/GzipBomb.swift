// SPDX-License-Identifier: Apache-2.0

/// A small gzip file that unpacks to very much (RFC 1951 and 1952), written bit by bit: one literal, then matches of 258
/// bytes at distance 1 in a block of fixed codes. The checksum at its end is wrong, as nobody should get that far.
enum GzipBomb {
    /// Packed it is less than a mebibyte, so that the host's usual cap lets all of it in.
    static let unpackedBytes = 128 << 20
    /// Memory beyond this, for any one answer, means that somebody unpacked the bomb or copies without bound. The largest
    /// answer is held by mock, host and plugin at once; the rest is room for what reading JSON takes.
    static func mostBytes(answer cap: UInt64) -> UInt64 { 96 << 20 + 4 * max(1 << 20, cap) }

    static let bytes: [UInt8] = {
        var bits: [UInt8] = []
        func put(_ pattern: String) { bits += pattern.utf8.map { $0 & 1 } }
        put("1")  // the last block
        put("10")  // fixed codes, least significant bit first
        put("01100000")  // literal 0x30
        // A match is 13 bits (length code 285, distance code 0), so eight of them fill whole bytes.
        for _ in 0..<16 { put("1100010100000") }
        let whole = bits.count / 8 * 8
        var packed: [UInt8] = []
        for start in stride(from: 0, to: whole, by: 8) {
            packed.append((0..<8).reduce(UInt8(0)) { $0 | bits[start + $1] << UInt8($1) })
        }
        let period = packed[2..<15]
        var body = Array(packed[..<2])
        for _ in 0..<(unpackedBytes / (258 * 8)) { body += period }
        // Not ended: whoever unpacks has all of it by now.
        return [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3] + body + [0, 0, 0, 0] + [0, 0, 0, 0]
    }()
}
