// SPDX-License-Identifier: Apache-2.0

/// How HubSpot, the generic vendor and the grants of both others come back from a ledger file: the requests that changed something are kept
/// and done again, each at its own moment. The emulators are values without clock or chance, so they end up as they were,
/// the tokens among it.
extension SandboxWorld {
    /// The line with which a file begins: the moment decides the tokens.
    static func startLine(at now: Instant) -> JSONValue {
        .object([("vendor", "replay"), ("start_ms", .integer(Int(now.milliseconds)))])
    }

    /// Whether a request has to be done again after a restart. Refused ones changed nothing; a page that was agreed to did.
    static func isKept(_ request: VendorRequest, status: Int) -> Bool {
        status < 400 && (request.method != "GET" || request.path.hasSuffix("/authorize"))
    }

    static func replayLine(of request: VendorRequest, at now: Instant) -> JSONValue {
        let path = request.path.split(separator: "/").map { PercentCoding.encode(String($0)) }
        let query = request.query.map { "\(PercentCoding.encode($0.name))=\(PercentCoding.encode($0.value))" }
        return .object([
            ("vendor", "replay"), ("at_ms", .integer(Int(now.milliseconds))), ("method", .string(request.method)),
            (
                "target",
                .string("/" + path.joined(separator: "/") + (query.isEmpty ? "" : "?" + query.joined(separator: "&")))
            ),
            ("authorization", .optional(request.header("authorization"))),
            ("content_type", .optional(request.header("content-type"))),
            ("idempotency_key", .optional(request.header("idempotency-key"))),
            ("body", .string(String(decoding: request.body, as: UTF8.self))),
        ])
    }

    /// Does one line again.
    /// - Returns: false when it is none of these lines.
    mutating func replay(_ line: JSONValue) -> Bool {
        if let start = line["start_ms"]?.integer {
            restart(at: Instant(milliseconds: Int64(start)))
            return true
        }
        guard let at = line["at_ms"]?.integer, let method = line["method"]?.string, let target = line["target"]?.string,
            let body = line["body"]?.string
        else { return false }
        let now = Instant(milliseconds: Int64(at))
        let headers = [
            ("authorization", line["authorization"]?.string), ("content-type", line["content_type"]?.string),
            ("idempotency-key", line["idempotency_key"]?.string),
        ]
        let request = VendorRequest(
            method: method, target: target,
            headers: headers.compactMap { name, value in value.map { Header(name, $0) } }, body: Array(body.utf8))
        if request.path.hasPrefix("/_sandbox/") {
            _ = control(request, now: now)
        } else {
            // What was let in then is let in now, whatever else was asked in the same second.
            let (limits, limit) = (hubspot.limits, generic.manners.limit)
            hubspot.limits = .off
            generic.manners.limit = nil
            _ = answer(request, entry: 0, now: now)
            hubspot.limits = limits
            generic.manners.limit = limit
        }
        forgetReplayed()
        return true
    }
}
