// SPDX-License-Identifier: Apache-2.0

/// Where one plugin's requests may go: what its manifest asks for, and what the configuration overrides.
public struct EgressPolicy: Sendable, Equatable {
    /// An entry of `egress` in a manifest.
    public struct Rule: Sendable, Equatable, Codable {
        /// Exact names (`api.pipedrive.com`), names under one (`*.pipedrive.com`, any depth, not the name itself), or `*`
        /// for any public host (outgoing webhooks to an address that the customer names).
        public let hosts: [String]
        /// 0 stands for every port.
        public let ports: [Int]
        public let methods: [String]

        public init(hosts: [String], ports: [Int] = [443], methods: [String]) {
            self.hosts = hosts
            self.ports = ports
            self.methods = methods
        }

        func admits(port: Int) -> Bool { ports.contains(port) || ports.contains(0) }

        func admits(_ host: String) -> Bool {
            hosts.contains { pattern in
                let pattern = pattern.lowercased()
                if pattern == "*" { return true }
                guard pattern.hasPrefix("*.") else { return pattern == host }
                let suffix = pattern.dropFirst()  // keeps the dot, so that evilpipedrive.com is not under pipedrive.com
                return host.hasSuffix(suffix) && host.utf8.count > suffix.utf8.count
            }
        }
    }

    /// Scheme, host and port of an endpoint that the administrator has put in the configuration.
    public struct Origin: Sendable, Hashable {
        public let scheme: String
        public let host: String
        public let port: Int

        public init(scheme: String, host: String, port: Int) {
            self.scheme = scheme.lowercased()
            self.host = host.lowercased()
            self.port = port
        }

        /// The origin of a base URL; nil when it is no absolute http or https URL.
        public init?(url: String) {
            guard let target = try? Target(url) else { return nil }  // the reason is the configuration's to explain
            self = target.origin
        }
    }

    public let rules: [Rule]
    /// Plain http and private addresses are allowed for exactly these, and nothing else is.
    public let overridden: Set<Origin>

    public init(rules: [Rule], overridden: Set<Origin> = []) {
        self.rules = rules
        self.overridden = overridden
    }

    /// What the policy says about one hop.
    enum Judgement: Equatable {
        case allowed(mayBePrivate: Bool)
        case refused(String)
    }

    func judge(_ target: Target, method: String) -> Judgement {
        if overridden.contains(target.origin) {
            let isKnown = rules.isEmpty || rules.contains { $0.methods.contains(method) }
            return isKnown
                ? .allowed(mayBePrivate: true)
                : .refused("the manifest does not list the method \(method)")
        }
        guard target.origin.scheme == "https" else {
            return .refused("\(target.origin) is plain http, which only an endpoint from the configuration may be")
        }
        let named = rules.filter { $0.admits(target.origin.host) }
        guard !named.isEmpty else { return .refused("the manifest does not list the host \(target.origin.host)") }
        guard named.contains(where: { $0.admits(port: target.origin.port) && $0.methods.contains(method) }) else {
            return .refused(
                "the manifest does not list \(method) on port \(target.origin.port) of \(target.origin.host)")
        }
        if let literal = target.literal, let reason = literal.forbiddance {
            return .refused("\(literal) is not a public address (\(reason))")
        }
        return .allowed(mayBePrivate: false)
    }
}

extension EgressPolicy.Origin: CustomStringConvertible {
    public var description: String { "\(scheme)://\(host):\(port)" }
}
