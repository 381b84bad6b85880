// SPDX-License-Identifier: Apache-2.0

// Which of the two modules owns `sockaddr` depends on the build's configuration, so both are named.
internal import CMilepostCurl

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// An IPv4 (4 bytes) or IPv6 (16 bytes) address, in network order.
public struct IPAddress: Hashable, Sendable, CustomStringConvertible {
    public let bytes: [UInt8]

    /// - Returns: nil unless there are 4 or 16 bytes.
    public init?(bytes: [UInt8]) {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        self.bytes = bytes
    }

    /// Reads the text form of `inet_pton`: dotted quads with all four parts, RFC 4291; no brackets, no zone.
    public init?(_ text: String) {
        var quad = in_addr()
        if unsafe inet_pton(AF_INET, text, &quad) == 1 {
            bytes = unsafe withUnsafeBytes(of: &quad) { unsafe Array($0) }
            return
        }
        var long = in6_addr()
        guard unsafe inet_pton(AF_INET6, text, &long) == 1 else { return nil }
        bytes = unsafe withUnsafeBytes(of: &long) { unsafe Array($0) }
    }

    /// Reads a socket address; nil for families other than the two.
    init?(_ address: UnsafePointer<sockaddr>) {
        switch Int32(unsafe address.pointee.sa_family) {
        case AF_INET:
            bytes = unsafe address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                unsafe withUnsafeBytes(of: $0.pointee.sin_addr) { unsafe Array($0) }
            }
        case AF_INET6:
            bytes = unsafe address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
                unsafe withUnsafeBytes(of: $0.pointee.sin6_addr) { unsafe Array($0) }
            }
        default: return nil
        }
    }

    public var isIPv4: Bool { bytes.count == 4 }

    public var description: String {
        if isIPv4 { return bytes.map(String.init).joined(separator: ".") }
        return stride(from: 0, to: 16, by: 2)
            .map { String(UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]), radix: 16) }
            .joined(separator: ":")
    }

    /// How libcurl's `CURLOPT_RESOLVE` wants it.
    var pinned: String { isIPv4 ? description : "[\(description)]" }

    fileprivate func isInside(_ prefix: [UInt8], bits: Int) -> Bool {
        let whole = bits / 8
        guard prefix.count == bytes.count, prefix[..<whole] == bytes[..<whole] else { return false }
        guard bits % 8 != 0 else { return true }
        let mask = UInt8(truncatingIfNeeded: 0xFF00 >> (bits % 8))
        return prefix[whole] & mask == bytes[whole] & mask
    }
}

extension IPAddress {
    /// Why nothing is sent to this address, or nil when it is a public unicast address (EXT-05).
    ///
    /// From IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890 and updates; last changed on 2025-10-09, and the
    /// files of 2026-09-19 hold the same rows), taking every block, also those that are globally reachable (AS112, AMT, the
    /// anycast addresses of PCP and TURN: no receiver lives there), plus multicast, and the cloud metadata addresses that lie
    /// outside of them. Addresses that carry an IPv4 address and lead to it (mapped, the well-known prefix of NAT64) are judged
    /// by it: behind DNS64 every IPv4 receiver looks so.
    public var forbiddance: String? {
        if isIPv4 {
            return Self.special4.first { isInside($0.prefix, bits: $0.bits) }?.reason
        }
        if isInside(Self.mapped, bits: 96) || isInside(Self.nat64, bits: 96) {
            return IPAddress(bytes: Array(bytes[12...]))?.forbiddance
        }
        if let block = Self.special6.first(where: { isInside($0.prefix, bits: $0.bits) }) { return block.reason }
        // What IANA has not given out as global unicast is nobody's public server.
        return bytes[0] & 0xE0 == 0x20 ? nil : "not global unicast"
    }

    private typealias Block = (prefix: [UInt8], bits: Int, reason: String)

    private static func block(_ text: String, _ bits: Int, _ reason: String) -> Block {
        guard let address = IPAddress(text) else { preconditionFailure("address table: \(text) is no address") }
        return (address.bytes, bits, reason)
    }

    private static let mapped = block("::ffff:0:0", 96, "").prefix
    private static let nat64 = block("64:ff9b::", 96, "").prefix

    private static let special4: [Block] = [
        block("0.0.0.0", 8, "this network"),
        block("10.0.0.0", 8, "private"),
        block("100.64.0.0", 10, "carrier-grade NAT"),
        block("127.0.0.0", 8, "loopback"),
        block("168.63.129.16", 32, "cloud metadata"),
        block("169.254.0.0", 16, "link-local, cloud metadata"),
        block("172.16.0.0", 12, "private"),
        block("192.0.0.0", 24, "protocol assignments, cloud metadata"),
        block("192.0.2.0", 24, "documentation"),
        block("192.31.196.0", 24, "AS112"),
        block("192.52.193.0", 24, "multicast tunnelling"),
        block("192.88.99.0", 24, "6to4 relay"),
        block("192.168.0.0", 16, "private"),
        block("192.175.48.0", 24, "AS112"),
        block("198.18.0.0", 15, "benchmarking"),
        block("198.51.100.0", 24, "documentation"),
        block("203.0.113.0", 24, "documentation"),
        block("224.0.0.0", 4, "multicast"),
        block("240.0.0.0", 4, "reserved, broadcast"),
    ]

    private static let special6: [Block] = [
        block("::", 128, "unspecified"),
        block("::1", 128, "loopback"),
        block("::", 96, "IPv4-compatible"),
        block("64:ff9b:1::", 48, "local NAT64"),
        block("100::", 64, "discard"),
        block("100:0:0:1::", 64, "dummy prefix"),
        block("2001::", 23, "protocol assignments, Teredo"),
        block("2001:db8::", 32, "documentation"),
        block("2002::", 16, "6to4"),
        block("2620:4f:8000::", 48, "AS112"),
        block("3fff::", 20, "documentation"),
        block("5f00::", 16, "segment routing"),
        block("fc00::", 7, "unique local"),
        block("fe80::", 10, "link-local"),
        block("fec0::", 10, "site-local"),
        block("ff00::", 8, "multicast"),
    ]
}
