// SPDX-License-Identifier: Apache-2.0

/// Just enough gzip (RFC 1951, 1952) to write what a vendor, or an attacker, would send.
enum Gzip {
    private static let header: [UInt8] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255]

    /// The bytes in one stored block.
    static func stored(_ body: [UInt8]) -> [UInt8] {
        let count = UInt16(body.count)
        return header + [1] + littleEndian(count) + littleEndian(~count) + body + littleEndian(crc(body))
            + littleEndian(UInt32(body.count))
    }

    /// So many megabytes of zeros at about 1030 to 1; checksum and length at the end are left wrong, nobody gets there.
    static func zeros(megabytes: Int) -> [UInt8] {
        var bits = BitWriter()
        bits.write(0b1, 1)  // last block
        bits.write(0b01, 2)  // fixed Huffman codes
        bits.write(reversed(0x30, 8), 8)  // literal 0
        for _ in 0..<(megabytes << 20) / 258 {
            bits.write(reversed(0b1100_0101, 8), 8)  // length 258
            bits.write(0, 5)  // distance 1
        }
        bits.write(0, 7)  // end of block
        return header + bits.finish() + [UInt8](repeating: 0, count: 8)
    }

    private struct BitWriter {
        private var bytes: [UInt8] = []
        private var bits: UInt32 = 0
        private var count = 0

        mutating func write(_ value: UInt32, _ width: Int) {
            bits |= value << UInt32(count)
            count += width
            while count >= 8 {
                bytes.append(UInt8(truncatingIfNeeded: bits))
                bits >>= 8
                count -= 8
            }
        }

        consuming func finish() -> [UInt8] { count > 0 ? bytes + [UInt8(truncatingIfNeeded: bits)] : bytes }
    }

    private static func reversed(_ value: UInt32, _ width: Int) -> UInt32 {
        var result: UInt32 = 0
        for bit in 0..<width { result = result << 1 | (value >> UInt32(bit)) & 1 }
        return result
    }

    private static func crc(_ bytes: [UInt8]) -> UInt32 {
        var crc = ~UInt32(0)
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
        }
        return ~crc
    }

    private static func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] {
        (0..<value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
    }
}
