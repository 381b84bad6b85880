// SPDX-License-Identifier: Apache-2.0

/// What the receiver at `/hooks/...` knows of who may send: keys by path, and which message ids have come already.
struct HookGuard: Hashable, Sendable {
    /// What is asked of one part of the receiver.
    struct Rule: Hashable, Sendable {
        /// May end with `*`.
        var path: String
        var keys: [HookKey]
        /// How old or how far ahead a message's time may be.
        var toleranceSeconds: Int
        /// Whether what is not valid is answered with 401.
        var refuses: Bool

        func fits(_ request: VendorRequest) -> Bool { request.goes(to: path) }
    }

    /// What one message's signature is worth.
    struct Finding: Hashable, Sendable {
        enum Signature: String, Sendable { case valid, invalid, missing, expired }
        var signature: Signature
        var why: String
        /// How often a message of this id came to this path before: a retry, or somebody who sends it again.
        var repeats: Int
        /// Whether it is to be answered with 401.
        var isRefused: Bool
    }

    static let maximumRules = 100
    static let maximumKeys = 10
    static let tolerance = 300
    /// Ids remembered; beyond it all are forgotten.
    static let maximumIDs = 50_000

    private(set) var rules: [Rule] = []
    private var seen: [String: Int] = [:]

    /// Checks nothing.
    init() {}

    /// Everything under `/hooks/`, as the command line says; no keys: nothing is checked.
    init(keys: [String], refuses: Bool) throws(ControlError) {
        guard !keys.isEmpty else { return }
        var read: [HookKey] = []
        for key in keys { read.append(try HookKey(key)) }
        rules = [Rule(path: "/hooks/*", keys: read, toleranceSeconds: Self.tolerance, refuses: refuses)]
    }

    /// - Returns: nil where no key is known, so that nothing can be said.
    mutating func judge(_ request: VendorRequest, now: Instant) -> Finding? {
        guard let rule = rules.first(where: { $0.fits(request) }) else { return nil }
        let (signature, why) = Self.check(request, rule, nowSeconds: now.milliseconds / 1000)
        return Finding(
            signature: signature, why: why, repeats: count(request), isRefused: rule.refuses && signature != .valid)
    }

    private mutating func count(_ request: VendorRequest) -> Int {
        guard let id = request.header("webhook-id"), !id.isEmpty else { return 0 }
        if seen.count >= Self.maximumIDs { seen.removeAll() }
        let before = seen["\(request.path)\n\(id)"] ?? 0
        seen["\(request.path)\n\(id)"] = before + 1
        return before
    }

    /// The order tells apart what a sender did wrong: whoever has the key and sends late is expired, not invalid.
    private static func check(
        _ request: VendorRequest, _ rule: Rule, nowSeconds: Int64
    ) -> (Finding.Signature, String) {
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] where (request.header(name) ?? "").isEmpty
        {
            return (.missing, "there is no \(name)")
        }
        let id = request.header("webhook-id") ?? ""
        let time = request.header("webhook-timestamp") ?? ""
        guard time.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let seconds = Int64(time) else {
            return (.invalid, "webhook-timestamp is no whole number of seconds")
        }
        let message = Array("\(id).\(time).".utf8) + request.body
        let signatures = (request.header("webhook-signature") ?? "").split(separator: " ")
        var versions: Set<String> = []
        var isValid = false
        for signature in signatures {
            let parts = signature.split(separator: ",", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2, let bytes = ProofKey.decodeBase64(parts[1]) else { continue }
            versions.insert(parts[0])
            if rule.keys.contains(where: { $0.version == parts[0] && $0.signed(message, with: bytes) }) {
                isValid = true
            }
        }
        guard isValid else {
            let known = Set(rule.keys.map(\.version))
            if versions.isDisjoint(with: known) {
                return (
                    .invalid,
                    "no signature is of version \(known.sorted().joined(separator: " or ")), which the keys can check"
                )
            }
            return (.invalid, "none of \(signatures.count) signatures is one of the keys' over id, timestamp and body")
        }
        let age = nowSeconds - seconds
        guard abs(age) <= Int64(rule.toleranceSeconds) else {
            return (
                .expired,
                "it is signed, and \(abs(age)) s \(age > 0 ? "old" : "ahead"); \(rule.toleranceSeconds) s are allowed"
            )
        }
        return (.valid, "signed by a known key, \(abs(age)) s \(age < 0 ? "ahead" : "old")")
    }

    // MARK: Control

    /// - Parameter body: one rule, or a list of them, of which the first that fits a request counts.
    mutating func replace(_ body: JSONValue) throws(ControlError) {
        var read: [Rule] = []
        for item in body.array ?? [body] { read.append(try Self.rule(item)) }
        guard read.count <= Self.maximumRules else { throw ControlError("at most \(Self.maximumRules) are taken") }
        rules = read
        seen.removeAll()
    }

    private static func rule(_ json: JSONValue) throws(ControlError) -> Rule {
        let known = ["path", "keys", "tolerance_s", "refuse"]
        if let unknown = json.object?.keys.first(where: { !known.contains($0) }) {
            throw ControlError("there is no \(unknown); known: \(known.joined(separator: ", "))")
        }
        let path = json["path"]?.string ?? "/hooks/*"
        guard path.hasPrefix("/hooks/") else { throw ControlError("path must begin with /hooks/") }
        let texts = (json["keys"]?.array ?? []).compactMap(\.string)
        guard (1...maximumKeys).contains(texts.count), texts.count == json["keys"]?.array?.count else {
            throw ControlError("keys must list 1 to \(maximumKeys) keys: whsec_…, whpk_… or whsk_…")
        }
        let seconds = json["tolerance_s"]?.integer ?? tolerance
        guard (0...86_400).contains(seconds) else { throw ControlError("tolerance_s must be 0 to 86400") }
        let refuses = json["refuse"] ?? .bool(false)
        guard let refuses = refuses.bool else { throw ControlError("refuse must be true or false") }
        var keys: [HookKey] = []
        for text in texts { keys.append(try HookKey(text)) }
        return Rule(path: path, keys: keys, toleranceSeconds: seconds, refuses: refuses)
    }

    /// Without the keys, which nobody needs to see again.
    var json: JSONValue {
        .array(
            rules.map { rule in
                .object([
                    ("path", .string(rule.path)), ("keys", .array(rule.keys.map { .string($0.version) })),
                    ("tolerance_s", .integer(rule.toleranceSeconds)), ("refuse", .bool(rule.refuses)),
                ])
            })
    }
}

extension HookGuard.Finding {
    /// The answer to what is refused; nil where the plan decides.
    var refusal: VendorResponse? {
        guard isRefused else { return nil }
        return VendorResponse(
            status: 401,
            json: .object([("error", .string("signature \(signature.rawValue)")), ("detail", .string(why))]))
    }
}
