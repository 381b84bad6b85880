// SPDX-License-Identifier: Apache-2.0

public import MilepostConfiguration
public import MilepostModel

/// Whether the other sides can be reached: name, network, certificate, and what their clocks say of ours; and whether the
/// internet reaches this daemon (TRB-05).
///
/// Vendors are asked for a head, without credentials; addresses out of connections' settings are only connected to.
/// Blocks the calling thread for some seconds for each that does not answer.
public struct ReachExamination {
    /// Hooks' signatures are good for five minutes, and tokens end by the second.
    static let largestSkew: Duration = .seconds(60)
    /// Origins looked at; more take too long.
    package static let maximumOrigins = 50

    private let probe: (String, Probe.Kind) throws(ClientError) -> Probe
    private let now: () -> Timestamp

    /// - Parameter now: the wall clock.
    public init(now: @escaping () -> Timestamp) throws(ClientError) {
        let curl = try CurlHandle()
        self.now = now
        probe = { (url, kind) throws(ClientError) in curl.probe(url, kind) }
    }

    /// For tests: answers without a network.
    package init(now: @escaping () -> Timestamp, probe: @escaping (String, Probe.Kind) -> Probe) {
        self.now = now
        self.probe = { (url, kind) throws(ClientError) in probe(url, kind) }
    }

    // MARK: Outward

    /// - Parameters:
    ///   - endpoints: where the plugins' requests go.
    ///   - consented: the plugins that fetch tokens.
    ///   - targets: addresses that connections name, with their owners.
    public func outward(
        endpoints: [VendorEndpoint], consented: Set<String>, targets: [(owner: String, url: String)]
    ) throws(ClientError) -> [Finding] {
        var findings: [Finding] = []
        var seen: Set<String> = []
        let vendors = endpoints.filter { !$0.isForTokens || consented.contains($0.plugin) }.map {
            (owner: "plugins.\($0.plugin).endpoints.\($0.name)", url: $0.url, kind: Probe.Kind.head)
        }
        for (owner, url, kind) in vendors + targets.map({ (owner: $0.owner, url: $0.url, kind: Probe.Kind.connection) })
        {
            guard let origin = Self.origin(of: url), seen.insert(origin).inserted else { continue }
            guard seen.count <= Self.maximumOrigins else {
                findings.append(
                    Finding(
                        .connections, code: "not_reached", severity: .warning,
                        what: "only the first \(Self.maximumOrigins) addresses were tried",
                        cause: "each that does not answer costs seconds", cure: "see 'milepost status' for the others"))
                break
            }
            let before = now()
            let answer = try probe(origin + "/", kind)
            findings += Self.judge(answer, origin: origin, owner: owner, before: before, after: now())
        }
        return findings
    }

    private static func judge(
        _ answer: Probe, origin: String, owner: String, before: Timestamp, after: Timestamp
    ) -> [Finding] {
        let host = Self.host(of: origin)
        switch answer.outcome {
        case .unresolved:
            return [
                Finding(
                    .dns, code: "dns_unresolved", severity: .problem, what: "\(host) cannot be resolved (\(owner))",
                    cause: answer.detail,
                    cure: "mend the name if it is misspelt, else look at this machine's name servers: "
                        + "getent hosts \(host); cat /etc/resolv.conf")
            ]
        case .certificate:
            let isExpired = answer.detail.contains("expired") || answer.detail.contains("not yet valid")
            return [
                Finding(
                    .tls, code: isExpired ? "certificate_expired" : "certificate_untrusted", severity: .problem,
                    what: "the certificate of \(origin) is not accepted (\(owner))", cause: answer.detail,
                    cure: isExpired
                        ? "have its owner renew it; if it is this machine's clock that is wrong, mend that"
                        : "have its owner use a certificate of a public authority for exactly this name, or install the "
                            + "authority's own with update-ca-certificates and restart milepostd")
            ]
        case .silent:
            return [
                Finding(
                    .connections, code: "vendor_unreachable", severity: .problem,
                    what: "\(origin) does not answer (\(owner))", cause: answer.detail,
                    cure: "look at this machine's network and firewall: curl -I \(origin)/")
            ]
        case .reached: break
        }
        var findings = [
            Finding(.dns, code: "dns", severity: .ok, what: "\(host) is found and answers (\(owner))")
        ]
        if origin.hasPrefix("https:") {
            findings.append(Finding(.tls, code: "tls", severity: .ok, what: "the certificate of \(origin) is trusted"))
        }
        if let date = answer.date { findings.append(skew(date, host, before: before, after: after)) }
        return findings
    }

    /// Their date was made between our two looks at the clock, and is cut to whole seconds.
    private static func skew(_ date: Timestamp, _ host: String, before: Timestamp, after: Timestamp) -> Finding {
        let ahead = before - (date + .seconds(1))
        let behind = date - after
        guard max(ahead, behind) > largestSkew else {
            return Finding(.clock, code: "clock_agrees", severity: .ok, what: "the clock agrees with that of \(host)")
        }
        let side = ahead > behind ? "ahead of" : "behind"
        let length = max(ahead, behind).components.seconds
        return Finding(
            .clock, code: "clock_askew", severity: .problem,
            what: "the clock of this machine is \(length) s \(side) that of \(host)",
            cause:
                "it is not synchronised (or theirs is wrong): receivers refuse signatures of another time, and tokens "
                + "seem alive that have ended",
            cure: "switch on time synchronisation: timedatectl set-ntp true, then timedatectl status")
    }

    // MARK: Inward

    /// Whether webhooks and people's browsers find the way in: the public address must be https, public, and ours.
    public func inward(publicURL: String?) throws(ClientError) -> [Finding] {
        // With a slash at its end the daemon takes it too.
        guard let url = publicURL.map({ $0.hasSuffix("/") ? String($0.dropLast()) : $0 }) else {
            return [
                Finding(
                    .webhooks, code: "public_url", severity: .ok,
                    what: "no public_url is set, so nothing from outside is expected")
            ]
        }
        func unreachable(_ cause: String) -> [Finding] {
            [
                Finding(
                    .webhooks, code: "webhook_unreachable", severity: .problem,
                    what: "webhooks and consent do not find the way to public_url \(url)", cause: cause,
                    cure: "public_url must be https, public, and not behind a firewall: look at its DNS record, at the "
                        + "proxy in front of 'listen', and at the firewall's rule for port 443; another public_url takes a "
                        + "restart of milepostd",
                    reference: "TRB-05")
            ]
        }
        guard url.hasPrefix("https://") else { return unreachable("it is not https, and vendors send to nothing else") }
        let host = Self.host(of: Self.origin(of: url) ?? url)
        guard !Self.isInternal(host) else {
            return unreachable("\(host) is an address of this network, which is not public")
        }
        let answer = try probe(url + "/healthz", .body)
        switch answer.outcome {
        case .unresolved: return unreachable("\(host) cannot be resolved: \(answer.detail)")
        case .certificate: return unreachable("its certificate is not accepted: \(answer.detail)")
        case .silent: return unreachable("nobody answers there: \(answer.detail)")
        case .reached: break
        }
        guard Self.isOurs(answer) else {
            return unreachable("\(url)/healthz answers \(answer.status) and is no milepostd")
        }
        return [
            Finding(.webhooks, code: "public_url", severity: .ok, what: "\(url) leads to a milepostd, over trusted TLS")
        ]
    }

    private static func isOurs(_ answer: Probe) -> Bool {
        answer.outcome == .reached && answer.status == 200
            && (try? JSONValue(parsing: answer.body))?["status"]?.string == "ok"
    }

    /// Addresses of `listen` that somebody listens on: the daemon, or somebody who keeps it from starting.
    ///
    /// - Parameter isAnswered: whether the daemon has answered, wherever it was asked.
    public func taken(_ addresses: [ListenAddress], isAnswered: Bool) throws(ClientError) -> [Finding] {
        var findings: [Finding] = []
        for address in addresses {
            if isAnswered {
                findings.append(
                    Finding(.configuration, code: "port", severity: .ok, what: "\(address) is in use, by the daemon"))
            } else if Self.isOurs(try probe("http://\(address)/healthz", .body)) {
                findings.append(
                    Finding(.configuration, code: "port", severity: .ok, what: "\(address) is in use, by a milepostd"))
            } else {
                findings.append(
                    Finding(
                        .configuration, code: "port_taken", severity: .problem,
                        what: "\(address) is in use, and no milepostd answers there",
                        cause: "another program has the port, so that the daemon cannot start (or a daemon hangs)",
                        cure: "see who it is: ss -ltnp 'sport = :\(address.port)'; then stop that, or change 'listen'"))
            }
        }
        return findings
    }

    /// By name only; what a public name resolves to from outside is not ours to see.
    package static func isInternal(_ host: String) -> Bool {
        let name = host.lowercased()
        if name == "localhost" || name.hasSuffix(".localhost") || name.hasSuffix(".local")
            || name.hasSuffix(".internal")
        {
            return true
        }
        let parts = name.split(separator: ".", omittingEmptySubsequences: false).map { Int($0) }
        if parts.count == 4, let first = parts[0], let second = parts[1], parts.allSatisfy({ $0 != nil }) {
            return first == 127 || first == 10 || first == 0 || (first == 192 && second == 168)
                || (first == 172 && (16...31).contains(second)) || (first == 169 && second == 254)
        }
        return name == "::1" || name == "[::1]" || name.hasPrefix("[fe80:") || name.hasPrefix("[fc")
            || name.hasPrefix("[fd")
            || !name.contains(".") && !name.hasPrefix("[")
    }

    // MARK: Addresses

    /// Scheme, host and port; nil for what is no http address.
    static func origin(of url: String) -> String? {
        guard let scheme = ["https://", "http://"].first(where: { url.lowercased().hasPrefix($0) }) else { return nil }
        let rest = url.dropFirst(scheme.count).prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        // What stands before an @ is a secret, and no part of where to go.
        let place = rest.split(separator: "@", omittingEmptySubsequences: false).last ?? ""
        return place.isEmpty ? nil : scheme + place
    }

    static func host(of origin: String) -> String {
        let place = origin.split(separator: "/").last.map(String.init) ?? origin
        if place.hasPrefix("["), let end = place.firstIndex(of: "]") { return String(place[...end]) }
        return String(place.split(separator: ":").first ?? "")
    }
}
