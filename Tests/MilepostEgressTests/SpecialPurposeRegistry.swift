// SPDX-License-Identifier: Apache-2.0

/// IANA's "IPv4 Special-Purpose Address Registry" and "IPv6 Special-Purpose Address Registry", row by row: what they say and
/// not what we make of it. Both were last changed on 2025-10-09; the files that IANA served on 2026-09-19 hold these rows.
///
/// Held beside what this table says: our verdict (`SpecialPurposeTests`), and Python's module `ipaddress`, which somebody else
/// wrote from the same registries (`Tests/Contract/special_addresses_test.py`).
enum SpecialPurposeRegistry {
    struct Row: Sendable, CustomStringConvertible {
        let block: String
        let bits: Int
        /// Year and month in which IANA entered it.
        let allocated: String
        /// "Globally Reachable"; nil where the registry says N/A, or nothing because the row was terminated.
        let isReachable: Bool?

        init(_ block: String, _ bits: Int, _ allocated: String, _ isReachable: Bool?) {
            self.block = block
            self.bits = bits
            self.allocated = allocated
            self.isReachable = isReachable
        }

        var description: String { "\(block)/\(bits)" }
    }

    static let ipv4: [Row] = [
        Row("0.0.0.0", 8, "1981-09", false),  // this network, RFC 791
        Row("0.0.0.0", 32, "1981-09", false),  // this host on this network, RFC 1122
        Row("10.0.0.0", 8, "1996-02", false),  // private use, RFC 1918
        Row("100.64.0.0", 10, "2012-04", false),  // shared address space, RFC 6598
        Row("127.0.0.0", 8, "1981-09", false),  // loopback, RFC 1122
        Row("169.254.0.0", 16, "2005-05", false),  // link-local, RFC 3927
        Row("172.16.0.0", 12, "1996-02", false),  // private use, RFC 1918
        Row("192.0.0.0", 24, "2010-01", false),  // IETF protocol assignments, RFC 6890
        Row("192.0.0.0", 29, "2011-06", false),  // service continuity, RFC 7335
        Row("192.0.0.8", 32, "2015-03", false),  // dummy address, RFC 7600
        Row("192.0.0.9", 32, "2015-10", true),  // anycast of PCP, RFC 7723
        Row("192.0.0.10", 32, "2017-02", true),  // anycast of TURN, RFC 8155
        Row("192.0.0.170", 32, "2013-02", false),  // discovery of NAT64, RFC 8880
        Row("192.0.0.171", 32, "2013-02", false),  // discovery of NAT64, RFC 8880
        Row("192.0.2.0", 24, "2010-01", false),  // documentation, RFC 5737
        Row("192.31.196.0", 24, "2014-12", true),  // AS112, RFC 7535
        Row("192.52.193.0", 24, "2014-12", true),  // AMT, RFC 7450
        Row("192.88.99.0", 24, "2001-06", nil),  // 6to4 relays, terminated in 2015-03 by RFC 7526
        Row("192.88.99.2", 32, "2012-10", false),  // 6a44 relays, RFC 6751
        Row("192.168.0.0", 16, "1996-02", false),  // private use, RFC 1918
        Row("192.175.48.0", 24, "1996-01", true),  // AS112, RFC 7534
        Row("198.18.0.0", 15, "1999-03", false),  // benchmarking, RFC 2544
        Row("198.51.100.0", 24, "2010-01", false),  // documentation, RFC 5737
        Row("203.0.113.0", 24, "2010-01", false),  // documentation, RFC 5737
        Row("240.0.0.0", 4, "1989-08", false),  // reserved, RFC 1112
        Row("255.255.255.255", 32, "1984-10", false),  // limited broadcast, RFC 919 and 8190
    ]

    static let ipv6: [Row] = [
        Row("::1", 128, "2006-02", false),  // loopback, RFC 4291
        Row("::", 128, "2006-02", false),  // unspecified, RFC 4291
        Row("::ffff:0:0", 96, "2006-02", false),  // IPv4-mapped, RFC 4291
        Row("64:ff9b::", 96, "2010-10", true),  // translation to IPv4, RFC 6052
        Row("64:ff9b:1::", 48, "2017-06", false),  // translation for local use, RFC 8215
        Row("100::", 64, "2012-06", false),  // discard, RFC 6666
        Row("100:0:0:1::", 64, "2025-04", false),  // dummy prefix, RFC 9780
        Row("2001::", 23, "2000-09", false),  // IETF protocol assignments, RFC 2928
        Row("2001::", 32, "2006-01", nil),  // Teredo, RFC 4380 and 8190
        Row("2001:1::1", 128, "2015-10", true),  // anycast of PCP, RFC 7723
        Row("2001:1::2", 128, "2017-02", true),  // anycast of TURN, RFC 8155
        Row("2001:1::3", 128, "2024-04", true),  // anycast of DNS-SD SRP, RFC 9665
        Row("2001:2::", 48, "2008-04", false),  // benchmarking, RFC 5180
        Row("2001:3::", 32, "2014-12", true),  // AMT, RFC 7450
        Row("2001:4:112::", 48, "2014-12", true),  // AS112, RFC 7535
        Row("2001:10::", 28, "2007-03", nil),  // ORCHID, terminated in 2014-03, RFC 4843
        Row("2001:20::", 28, "2014-07", true),  // ORCHIDv2, RFC 7343
        Row("2001:30::", 28, "2022-12", true),  // drones' ids, RFC 9374
        Row("2001:db8::", 32, "2004-07", false),  // documentation, RFC 3849
        Row("2002::", 16, "2001-02", nil),  // 6to4, RFC 3056
        Row("2620:4f:8000::", 48, "2011-05", true),  // AS112, RFC 7534
        Row("3fff::", 20, "2024-07", false),  // documentation, RFC 9637
        Row("5f00::", 16, "2024-04", false),  // segment routing, RFC 9602
        Row("fc00::", 7, "2005-10", false),  // unique local, RFC 4193 and 8190
        Row("fe80::", 10, "2006-02", false),  // link-local, RFC 4291
    ]
}
