// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Proxies whose word about the client's address is believed (decisions 36). Anybody else's `X-Forwarded-For` is ignored,
/// because a client can write there what it likes.
public struct TrustedProxies: Sendable, Equatable {
    /// An address or a block of them, as 16 bytes; IPv4 is mapped into IPv6.
    private struct Block: Sendable, Equatable {
        var bytes: [UInt8]
        var bits: Int

        func contains(_ address: [UInt8]) -> Bool {
            let whole = bits / 8
            guard address.prefix(whole) == bytes.prefix(whole) else { return false }
            guard bits % 8 > 0 else { return true }
            let mask = UInt8(truncatingIfNeeded: 0xff00 >> (bits % 8))
            return address[whole] & mask == bytes[whole] & mask
        }
    }

    private let blocks: [Block]

    /// Longest header that is read: nobody's chain of proxies is longer.
    static let maximumHops = 32

    /// - Parameter texts: addresses (`::1`) and CIDR blocks (`10.0.0.0/8`); what is neither is left out, since the
    ///   configuration has been checked before.
    public init(_ texts: [String] = []) {
        blocks = texts.compactMap { text in
            let parts = text.split(separator: "/", maxSplits: 1)
            guard let first = parts.first, let bytes = Self.bytes(of: first) else { return nil }
            let width = first.contains(":") ? 128 : 32
            guard parts.count == 2 else { return Block(bytes: bytes, bits: 128) }
            guard let prefix = Int(parts[1]), (0...width).contains(prefix) else { return nil }
            return Block(bytes: bytes, bits: 128 - width + prefix)
        }
    }

    /// The client's address: the peer's, or, where the peer is trusted, the last one of `X-Forwarded-For` that is not.
    package func client(peer: String?, forwarded: [String]) -> String? {
        guard let peer, !blocks.isEmpty, isTrusted(peer) else { return peer }
        var client = peer
        let hops = forwarded.joined(separator: ",").split(separator: ",").suffix(Self.maximumHops)
        for hop in hops.reversed() {
            let text = hop.trimmingPrefix { $0 == " " }.prefix { $0 != " " }
            guard Self.bytes(of: text) != nil else { break }
            client = String(text)
            if !isTrusted(client) { break }
        }
        return client
    }

    private func isTrusted(_ address: String) -> Bool {
        guard let bytes = Self.bytes(of: address) else { return false }
        return blocks.contains { $0.contains(bytes) }
    }

    private static func bytes(of text: some StringProtocol) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 16)
        if unsafe inet_pton(AF_INET6, String(text), &bytes) == 1 { return bytes }
        var four = [UInt8](repeating: 0, count: 4)
        guard unsafe inet_pton(AF_INET, String(text), &four) == 1 else { return nil }
        return [UInt8](repeating: 0, count: 10) + [0xff, 0xff] + four
    }
}
