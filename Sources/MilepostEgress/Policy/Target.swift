// SPDX-License-Identifier: Apache-2.0

internal import CMilepostCurl
internal import Synchronization

/// One URL as libcurl reads it, so that what is judged is what is connected to.
struct Target: Equatable {
    struct Malformed: Error { let reason: String }

    let origin: EgressPolicy.Origin
    /// The URL in libcurl's normal form, without fragment. May carry personal data in its query: not for logs.
    let url: String
    let path: String
    let literal: IPAddress?

    static let longestURL = 16_384

    init(_ text: String) throws(Malformed) {
        var handle = try CurlURL()
        try handle.set(text)
        try self.init(handle)
    }

    /// The target of a `Location` header, which may be relative.
    func following(_ location: String) throws(Malformed) -> Target {
        var handle = try CurlURL()
        try handle.set(url)
        try handle.set(location)
        return try Target(handle)
    }

    private init(_ handle: borrowing CurlURL) throws(Malformed) {
        guard let scheme = handle.part(CURLUPART_SCHEME)?.lowercased(), scheme == "https" || scheme == "http" else {
            throw Malformed(reason: "only http and https are spoken here")
        }
        guard handle.part(CURLUPART_ZONEID) == nil else { throw Malformed(reason: "the host has an IPv6 zone") }
        guard var host = handle.part(CURLUPART_HOST)?.lowercased(), !host.isEmpty else {
            throw Malformed(reason: "the URL names no host")
        }
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        literal = IPAddress(host)
        let isName = host.utf8.allSatisfy {
            (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F
        }
        guard literal != nil || isName else { throw Malformed(reason: "the host is not an ASCII name or address") }
        guard literal != nil || !Self.endsInNumber(host) else {
            throw Malformed(reason: "the host ends in a number and is no address in the usual form")
        }
        guard let port = handle.part(CURLUPART_PORT, flags: CURLU_DEFAULT_PORT).flatMap({ Int($0) }) else {
            throw Malformed(reason: "the port is no number")
        }
        origin = EgressPolicy.Origin(scheme: scheme, host: host, port: port)
        path = handle.part(CURLUPART_PATH) ?? "/"
        guard let url = handle.part(CURLUPART_URL) else { throw Malformed(reason: "the URL cannot be put together") }
        self.url = url
    }
}

extension Target {
    /// What resolvers may read as an address although libcurl leaves it as a name (`127.0.0.1.`, `0x7f.1.`): no top-level
    /// domain is a number. The rule is that of the URL standard of WHATWG (section 3.5, "ends in a number").
    private static func endsInNumber(_ host: String) -> Bool {
        var labels = host.split(separator: ".", omittingEmptySubsequences: false)
        if labels.last?.isEmpty == true { labels.removeLast() }
        guard let last = labels.last, !last.isEmpty else { return true }
        if last.utf8.allSatisfy({ (0x30...0x39).contains($0) }) { return true }
        return last.hasPrefix("0x") && last.dropFirst(2).allSatisfy(\.isHexDigit)
    }
}

/// What URLs were read as, so that the same address a thousand times over is read once. Any task may ask.
final class KnownTargets: Sendable {
    private static let maximum = 256
    private let targets = Mutex<[String: Target]>([:])

    func target(of url: String) throws(Target.Malformed) -> Target {
        if let known = targets.withLock({ $0[url] }) { return known }
        let target = try Target(url)
        // Those with a query hardly come twice, and may carry what need not be remembered.
        guard !url.utf8.contains(0x3F), url.utf8.count <= 512 else { return target }
        targets.withLock { targets in
            if targets.count >= Self.maximum { targets.removeAll(keepingCapacity: true) }
            targets[url] = target
        }
        return target
    }
}

/// Owns one `CURLU`.
@safe private struct CurlURL: ~Copyable {
    private let raw: OpaquePointer

    init() throws(Target.Malformed) {
        guard let raw = unsafe curl_url() else { throw Target.Malformed(reason: "out of memory") }
        unsafe self.raw = raw
    }

    deinit { unsafe curl_url_cleanup(raw) }

    mutating func set(_ text: String) throws(Target.Malformed) {
        guard text.utf8.count <= Target.longestURL else { throw Target.Malformed(reason: "the URL is too long") }
        guard text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw Target.Malformed(reason: "the URL has bytes outside printable ASCII; percent-encode them")
        }
        let status = unsafe curl_url_set(raw, CURLUPART_URL, text, UInt32(CURLU_DISALLOW_USER))
        guard status == CURLUE_OK else {
            throw Target.Malformed(reason: unsafe String(cString: curl_url_strerror(status)))
        }
        _ = unsafe curl_url_set(raw, CURLUPART_FRAGMENT, nil, 0)
    }

    borrowing func part(_ part: CURLUPart, flags: Int32 = 0) -> String? {
        var text: UnsafeMutablePointer<CChar>?
        guard unsafe curl_url_get(raw, part, &text, UInt32(flags)) == CURLUE_OK, let text = unsafe text else {
            return nil
        }
        defer { unsafe curl_free(text) }
        return unsafe String(cString: text)
    }
}
