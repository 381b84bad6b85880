// SPDX-License-Identifier: Apache-2.0

/// A range to which nothing may be sent, and the public addresses that touch it.
struct SpecialRange: Sendable, CustomStringConvertible {
    let first: String
    let last: String
    /// Addresses that a connection may be made to, as near to the range as there are any.
    let neighbours: [String]

    var description: String { "\(first) to \(last)" }
}

/// The ranges of IANA's special-purpose registries (`SpecialPurposeRegistry`; RFC 6890 with its updates: RFC 7526, 7535, 7723,
/// 8155, 8190, 9374, 9602, 9637, 9665, 9780), row by row and nested rows too. Beside them what no registry calls special and is
/// no receiver either: multicast, site-local, what is not handed out, and addresses at which clouds serve their metadata.
/// Written by hand from the registries, not from the code it judges.
enum SpecialPurposeTable {
    static let ipv4: [SpecialRange] = [
        .init(first: "0.0.0.0", last: "0.255.255.255", neighbours: ["1.0.0.0"]),
        .init(first: "0.0.0.0", last: "0.0.0.0", neighbours: []),
        .init(first: "10.0.0.0", last: "10.255.255.255", neighbours: ["9.255.255.255", "11.0.0.0"]),
        .init(first: "100.64.0.0", last: "100.127.255.255", neighbours: ["100.63.255.255", "100.128.0.0"]),
        .init(first: "127.0.0.0", last: "127.255.255.255", neighbours: ["126.255.255.255", "128.0.0.0"]),
        .init(first: "169.254.0.0", last: "169.254.255.255", neighbours: ["169.253.255.255", "169.255.0.0"]),
        .init(first: "172.16.0.0", last: "172.31.255.255", neighbours: ["172.15.255.255", "172.32.0.0"]),
        .init(first: "192.0.0.0", last: "192.0.0.255", neighbours: ["191.255.255.255", "192.0.1.0"]),
        .init(first: "192.0.0.0", last: "192.0.0.7", neighbours: []),  // service continuity, RFC 7335
        .init(first: "192.0.0.8", last: "192.0.0.8", neighbours: []),  // dummy address, RFC 7600
        .init(first: "192.0.0.9", last: "192.0.0.9", neighbours: []),  // anycast of PCP, RFC 7723
        .init(first: "192.0.0.10", last: "192.0.0.10", neighbours: []),  // anycast of TURN, RFC 8155
        .init(first: "192.0.0.170", last: "192.0.0.170", neighbours: []),  // discovery of NAT64, RFC 8880
        .init(first: "192.0.0.171", last: "192.0.0.171", neighbours: []),
        .init(first: "192.0.2.0", last: "192.0.2.255", neighbours: ["192.0.1.255", "192.0.3.0"]),
        .init(first: "192.31.196.0", last: "192.31.196.255", neighbours: ["192.31.195.255", "192.31.197.0"]),
        .init(first: "192.52.193.0", last: "192.52.193.255", neighbours: ["192.52.192.255", "192.52.194.0"]),
        .init(first: "192.88.99.0", last: "192.88.99.255", neighbours: ["192.88.98.255", "192.88.100.0"]),
        .init(first: "192.88.99.2", last: "192.88.99.2", neighbours: []),  // 6a44 relays, RFC 6751
        .init(first: "192.168.0.0", last: "192.168.255.255", neighbours: ["192.167.255.255", "192.169.0.0"]),
        .init(first: "192.175.48.0", last: "192.175.48.255", neighbours: ["192.175.47.255", "192.175.49.0"]),
        .init(first: "198.18.0.0", last: "198.19.255.255", neighbours: ["198.17.255.255", "198.20.0.0"]),
        .init(first: "198.51.100.0", last: "198.51.100.255", neighbours: ["198.51.99.255", "198.51.101.0"]),
        .init(first: "203.0.113.0", last: "203.0.113.255", neighbours: ["203.0.112.255", "203.0.114.0"]),
        .init(first: "240.0.0.0", last: "255.255.255.254", neighbours: []),
        .init(first: "255.255.255.255", last: "255.255.255.255", neighbours: []),
        // Not in the registry.
        .init(first: "224.0.0.0", last: "239.255.255.255", neighbours: ["223.255.255.255"]),
        .init(first: "168.63.129.16", last: "168.63.129.16", neighbours: ["168.63.129.15", "168.63.129.17"]),
        .init(first: "169.254.169.254", last: "169.254.170.2", neighbours: []),
        .init(first: "100.100.100.200", last: "100.100.100.200", neighbours: []),
    ]

    static let ipv6: [SpecialRange] = [
        .init(first: "::1", last: "::1", neighbours: []),
        .init(first: "::", last: "::", neighbours: []),
        // IPv4-mapped and the well-known prefix of NAT64 follow what they carry: the spellings below.
        .init(first: "64:ff9b:1::", last: "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", neighbours: []),
        .init(first: "100::", last: "100::ffff:ffff:ffff:ffff", neighbours: []),
        .init(first: "100:0:0:1::", last: "100::1:ffff:ffff:ffff:ffff", neighbours: []),
        .init(
            first: "2001::", last: "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
            neighbours: ["2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"]),
        .init(first: "2001::", last: "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", neighbours: []),  // Teredo
        .init(first: "2001:1::1", last: "2001:1::1", neighbours: []),  // anycast of PCP, RFC 7723
        .init(first: "2001:1::2", last: "2001:1::2", neighbours: []),  // anycast of TURN, RFC 8155
        .init(first: "2001:1::3", last: "2001:1::3", neighbours: []),  // anycast of DNS-SD SRP, RFC 9665
        .init(first: "2001:2::", last: "2001:2:0:ffff:ffff:ffff:ffff:ffff", neighbours: []),
        .init(first: "2001:3::", last: "2001:3:ffff:ffff:ffff:ffff:ffff:ffff", neighbours: []),  // AMT
        .init(first: "2001:4:112::", last: "2001:4:112:ffff:ffff:ffff:ffff:ffff", neighbours: []),  // AS112
        .init(first: "2001:10::", last: "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", neighbours: []),  // ORCHID
        .init(first: "2001:20::", last: "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", neighbours: []),  // ORCHIDv2
        .init(first: "2001:30::", last: "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff", neighbours: []),  // drones' ids
        .init(
            first: "2001:db8::", last: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            neighbours: ["2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"]),
        .init(
            first: "2002::", last: "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            neighbours: ["2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"]),
        .init(
            first: "2620:4f:8000::", last: "2620:4f:8000:ffff:ffff:ffff:ffff:ffff",
            neighbours: ["2620:4f:7fff:ffff:ffff:ffff:ffff:ffff", "2620:4f:8001::"]),
        .init(
            first: "3fff::", last: "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
            neighbours: ["3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"]),
        .init(first: "5f00::", last: "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", neighbours: []),
        .init(first: "fc00::", last: "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", neighbours: []),
        .init(first: "fe80::", last: "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", neighbours: []),
        // Not in the registry: IPv4-compatible, IPv4-translated, not handed out, site-local, multicast, metadata.
        .init(first: "::2", last: "::ffff:ffff", neighbours: []),
        .init(first: "::ffff:0:0:0", last: "::ffff:0:ffff:ffff", neighbours: []),
        .init(first: "200::", last: "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", neighbours: ["2000::"]),
        .init(
            first: "4000::", last: "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            neighbours: ["3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]),
        .init(first: "6000::", last: "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", neighbours: []),
        .init(first: "fec0::", last: "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", neighbours: []),
        .init(first: "ff00::", last: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", neighbours: []),
        .init(first: "fd00:ec2::254", last: "fd00:ec2::254", neighbours: []),
        .init(first: "fd20:ce::254", last: "fd20:ce::254", neighbours: []),
    ]
}

/// The ways in which one address can be written in a URL's host.
enum Spelling {
    /// Forms that lead to the address itself, so a public one must stay reachable in them.
    static func plain(_ bytes: [UInt8]) -> [String] {
        if bytes.count == 16 { return plain6(bytes) }
        let parts = bytes.map(Int.init)
        let whole = parts.reduce(0) { $0 << 8 | $1 }
        let last3 = whole & 0xff_ffff
        let last2 = whole & 0xffff
        func hex(_ number: Int) -> String { "0x" + String(number, radix: 16) }
        func octal(_ number: Int) -> String { "0" + String(number, radix: 8) }
        let dotted = parts.map(String.init).joined(separator: ".")
        let words = "\(String(whole >> 16, radix: 16)):\(String(last2, radix: 16))"
        return [
            dotted, "\(whole)", hex(whole), hex(whole).uppercased(), octal(whole), "0000" + octal(whole),
            parts.map(hex).joined(separator: "."), parts.map(octal).joined(separator: "."),
            "\(parts[0]).\(last3)", "\(parts[0]).\(parts[1]).\(last2)", "\(hex(parts[0])).\(octal(last3))",
            "\(octal(parts[0])).\(hex(parts[1])).\(last2)",
            "\(parts[0]).\(hex(parts[1])).\(octal(parts[2])).\(parts[3])",
            dotted.utf8.map { "%" + format(Int($0)) }.joined(),
            "[::ffff:\(dotted)]", "[::FFFF:\(words)]", "[::ffff:\(words)]", "[0:0:0:0:0:ffff:\(words)]",
            "[0000:0000:0000:0000:0000:ffff:\(dotted)]",
            "[64:ff9b::\(dotted)]", "[64:FF9B::\(words)]", "[0064:ff9b:0:0:0:0:\(words)]",
        ]
    }

    private static func plain6(_ bytes: [UInt8]) -> [String] {
        let words = stride(from: 0, to: 16, by: 2).map { Int(bytes[$0]) << 8 | Int(bytes[$0 + 1]) }
        let short = words.map { String($0, radix: 16) }.joined(separator: ":")
        let long = words.map { word in
            let text = String(word, radix: 16)
            return String(repeating: "0", count: 4 - text.count) + text
        }.joined(separator: ":")
        let quad = bytes[12...].map(String.init).joined(separator: ".")
        let head = words[..<6].map { String($0, radix: 16) }.joined(separator: ":")
        return ["[\(short)]", "[\(short.uppercased())]", "[\(long)]", "[\(head):\(quad)]"]
    }

    /// Forms that no honest address is written in: refused whatever they lead to.
    static func crooked(_ bytes: [UInt8]) -> [String] {
        guard bytes.count == 4 else {
            let plain = plain6(bytes)[0].dropLast()
            let open = plain.dropFirst()
            return [
                "\(plain)%25eth0]", "\(plain)%25lo]", "\(plain)%251]", "\(plain)%eth0]", String(open), "[\(open)",
                "\(plain)].", "user@\(plain)]", "[\(plain)]]",
            ]
        }
        let parts = bytes.map(Int.init)
        let dotted = parts.map(String.init).joined(separator: ".")
        let words = "\(String(parts[0] << 8 | parts[1], radix: 16)):\(String(parts[2] << 8 | parts[3], radix: 16))"
        let turned = bytes.map { format(0xff ^ Int($0)) }
        func digits(_ zero: Int, one: Int? = nil) -> String {
            String(
                String.UnicodeScalarView(
                    dotted.unicodeScalars.map { scalar in
                        guard scalar != "." else { return scalar }
                        let digit = Int(scalar.value) - 0x30
                        let code = digit == 0 ? zero : one.map { $0 + digit - 1 } ?? zero + digit
                        return Unicode.Scalar(UInt32(code)) ?? scalar
                    }))
        }
        func escaped(_ text: String) -> String {
            text.utf8.map { "%" + format(Int($0)) }.joined()
        }
        let fullWidth = digits(0xff10)
        let circled = digits(0x24ea, one: 0x2460)
        let bold = digits(0x1d7ce)
        let ideographic = dotted.split(separator: ".").joined(separator: "\u{3002}")
        return [
            dotted + ".", "0x" + String(parts.reduce(0) { $0 << 8 | $1 }, radix: 16) + ".", "\(parts[0]).\(parts[1]).",
            "\(dotted)%2e", "\(dotted).0x1.", dotted + ".1", "1." + dotted, "[\(dotted)]", "[\(dotted)%25lo]",
            fullWidth, escaped(fullWidth), circled, escaped(circled), bold, escaped(bold), ideographic,
            escaped(ideographic),
            "user@\(dotted)", "user:password@\(dotted)", "hooks.example.com@\(dotted)",
            "hooks.example.com:443@\(dotted)", "hooks.example.com%40\(dotted)", "hooks.example.com\\@\(dotted)",
            "hooks.example.com;@\(dotted)", "\(dotted)%00.example.com", "\(dotted)%23.example.com",
            " \(dotted)", "\t\(dotted)", "\(dotted)\r\n",
            // They carry the address without leading to it on their own: compatible, 6to4, local NAT64, Teredo.
            "[::\(dotted)]", "[::\(words)]", "[2002:\(words)::]", "[2002:\(words.uppercased())::1]",
            "[64:ff9b:1::\(dotted)]", "[64:ff9b:1:\(words)::]", "[::ffff:0:\(dotted)]",
            "[2001:0:4136:e378:8000:63bf:\(turned[0])\(turned[1]):\(turned[2])\(turned[3])]",
        ]
    }

    private static func format(_ byte: Int) -> String { (byte < 16 ? "0" : "") + String(byte, radix: 16) }
}
