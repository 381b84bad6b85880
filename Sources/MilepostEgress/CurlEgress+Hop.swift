// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel

/// One request to one server: the first, or one that follows a redirect.
struct Hop {
    let number: Int
    let request: EgressRequest
    let method: String
    let target: Target
    let headers: [(name: String, value: String)]
    let body: [UInt8]
    let credentials: [CredentialUse]
    let mayBePrivate: Bool
    let timeLeft: Duration
    let responseCap: Int

    static let methods: Set = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
    /// `MP_HTTP` allows 64; the size keeps any server from refusing what a plugin built by mistake.
    static let maximumHeaders = 64
    static let maximumHeaderBytes = 32_768
    /// They steer the connection, or the framing of the message: libcurl's alone.
    static let reserved: Set = [
        "host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-authorization",
        "proxy-connection", "expect", "upgrade", "te", "trailer", "accept-encoding", "http2-settings",
    ]

    init(
        _ request: EgressRequest, defaults: CurlEgress.Configuration, targets: KnownTargets
    ) throws(EgressFailure) {
        let target: Target
        do throws(Target.Malformed) { target = try targets.target(of: request.url) } catch {
            throw EgressFailure(code: .requestInvalid, message: "the request's URL is refused: \(error.reason)")
        }
        try Self.check(request)
        try self.init(
            number: 0, request: request, method: request.method, target: target, headers: request.headers,
            body: request.body, credentials: request.credentials,
            timeLeft: request.timeout > .zero ? request.timeout : defaults.timeout)
    }

    private init(
        number: Int, request: EgressRequest, method: String, target: Target,
        headers: [(name: String, value: String)], body: [UInt8], credentials: [CredentialUse], timeLeft: Duration
    ) throws(EgressFailure) {
        switch request.policy.judge(target, method: method) {
        case .refused(let reason):
            let hop = number > 0 ? "a redirect was not followed" : "the request was not sent"
            throw EgressFailure(code: .refusedByPolicy, message: "\(hop): \(reason)")
        case .allowed(let mayBePrivate): self.mayBePrivate = mayBePrivate
        }
        self.number = number
        self.request = request
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.credentials = credentials
        self.timeLeft = timeLeft
        responseCap = min(request.responseCap > 0 ? request.responseCap : 1 << 20, CurlEgress.maximumResponseCap)
    }

    private static func check(_ request: EgressRequest) throws(EgressFailure) {
        func invalid(_ reason: String) -> EgressFailure { .init(code: .requestInvalid, message: reason) }
        guard methods.contains(request.method) else {
            throw invalid("the method \(request.method.prefix(16)) is unknown")
        }
        guard request.body.count <= CurlEgress.maximumBody else {
            throw invalid("the body has \(request.body.count) bytes, more than \(CurlEgress.maximumBody)")
        }
        guard request.headers.count <= maximumHeaders else {
            throw invalid("\(request.headers.count) headers are more than \(maximumHeaders)")
        }
        var size = 0
        for (name, value) in request.headers {
            size += name.utf8.count + value.utf8.count
            let isToken =
                !name.isEmpty
                && name.utf8.allSatisfy {
                    (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
                        || "!#$%&'*+-.^_`|~".utf8.contains($0)
                }
            guard isToken else { throw invalid("a header's name is not a token of RFC 9110") }
            guard !reserved.contains(name.lowercased()) else {
                throw invalid("the header \(name) is not a plugin's to set")
            }
            guard value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }) else {
                throw invalid("the header \(name) has control characters in its value")
            }
        }
        guard size <= maximumHeaderBytes else {
            throw invalid("\(size) bytes of headers are more than \(maximumHeaderBytes)")
        }
        for use in request.credentials where [.header, .standardWebhooks].contains(use.placement.kind) {
            guard !use.placement.target.isEmpty, !use.placement.headerNames.contains(where: reserved.contains) else {
                throw invalid("the placement \(use.placement.name) names a header that it must not")
            }
        }
    }

    /// The hop that an answer asks for, or nil when the answer is final.
    func following(_ answer: Answer, spent: Duration) throws(EgressFailure) -> Hop? {
        guard request.followsRedirects, request.isIdempotent, let location = answer.location else { return nil }
        let isRead = method == "GET" || method == "HEAD"
        switch answer.status {
        case 301, 302: if !isRead { return nil }  // clients disagree on the method here, so the caller decides
        case 303, 307, 308: break
        default: return nil
        }
        let next: Target
        do throws(Target.Malformed) { next = try target.following(location) } catch { return nil }
        func refused(_ reason: String) -> EgressFailure {
            .init(code: .refusedByPolicy, message: "a redirect was not followed: \(reason)")
        }
        guard number < CurlEgress.maximumRedirects else { throw refused("it would be number \(number + 1)") }
        guard target.origin.scheme == "http" || next.origin.scheme == "https" else {
            throw refused("it leads from https to \(next.origin)")
        }
        let isSameOrigin = next.origin == target.origin
        // Names inside one allow-list may still belong to different owners: a secret stays where it was meant to go.
        guard isSameOrigin || !answer.locationHoldsSecret else {
            throw refused("it carries a secret to \(next.origin)")
        }
        let harmless: Set = ["accept", "accept-language", "content-type", "user-agent"]
        let becomesRead = answer.status == 303 && !isRead
        guard timeLeft > spent else { throw EgressFailure(code: .timeout, message: "no time is left for a redirect") }
        return try Hop(
            number: number + 1, request: request, method: becomesRead ? "GET" : method, target: next,
            headers: headers.filter {
                (isSameOrigin || harmless.contains($0.name.lowercased()))
                    && !(becomesRead && $0.name.lowercased() == "content-type")
            },
            body: becomesRead ? [] : body, credentials: isSameOrigin ? credentials : [], timeLeft: timeLeft - spent)
    }
}

extension CurlEgress {
    /// Takes a hop through budgets and the wire, and corrects the budgets by its answer.
    func send(
        _ hop: Hop, timings: inout EgressTimings, beforeSend: @Sendable () async throws -> Void
    ) async -> SentHop {
        let permit: LimiterPermit
        do {
            permit = try await limiter.acquire(hop.request.charges, patience: hop.request.limiterPatience)
        } catch let error as RateLimitError {
            let code: EgressFailure.Code = error.code == .unknownBucket ? .requestInvalid : .rateLimited
            return .init(
                wire: .neverSent, end: .failed(.init(code: code, message: error.detail, opensAt: error.opensAt)))
        } catch {
            return .init(
                wire: .neverSent,
                end: .failed(
                    .init(
                        code: .cancelled, message: "given up by the caller while waiting for a budget")))
        }
        timings.limiter += permit.waited
        let started = clock.now
        var sent = await sendPermitted(hop, started: started, timings: &timings, beforeSend: beforeSend)
        sent.spent = clock.now - started
        limiter.finish(permit, wasSent: sent.wire != .neverSent)
        if case .answered(let answer) = sent.end {
            limiter.observe(hop.request.charges, status: answer.status, headers: answer.headers)
        }
        return sent
    }

    private func sendPermitted(
        _ hop: Hop, started: Timestamp, timings: inout EgressTimings, beforeSend: @Sendable () async throws -> Void
    ) async -> SentHop {
        var opened: [(use: CredentialUse, credential: OpenedCredential)] = []
        let pin: String?
        do throws(EgressFailure) {
            pin = try await pinned(hop)
            for use in hop.credentials { opened.append((use, try await open(use.reference))) }
        } catch {
            return .init(wire: .neverSent, end: .failed(error))
        }
        do { try await beforeSend() } catch {
            // The engine knows its own error; here only that nothing was sent because of it.
            return .init(
                wire: .neverSent,
                end: .failed(
                    .init(
                        code: .beforeSendFailed, message: "the intent could not be stored, so nothing was sent")))
        }
        let left = hop.timeLeft - (clock.now - started)
        guard left > .zero else {
            return .init(
                wire: .neverSent,
                end: .failed(
                    .init(
                        code: .timeout, message: "the time was up before \(hop.target.origin) could be asked")))
        }
        let signatures: [String]
        do throws(EgressFailure) { signatures = try sign(hop, opened: opened, at: clock.now) } catch {
            return .init(wire: .neverSent, end: .failed(error))
        }
        let result = await thread.perform(
            transferRequest(hop, pin: pin, opened: opened, signatures: signatures, timeout: left))
        timings.queued += result.queued
        timings.connect += result.connect
        // One credential is the rule, and its scrubber is made once for all requests that share it.
        let scrubber =
            opened.count == 1
            ? opened[0].credential.scrubber()
            : Scrubber(opened.flatMap { [$0.credential.secret] + ((try? $0.credential.signature())?.traces ?? []) })
        if let failure = result.failure {
            let detail = scrubber.scrub(failure.detail)
            return .init(
                wire: result.wire,
                end: .failed(
                    .init(
                        code: failure.code, message: "\(hop.method) \(hop.target.origin): \(detail)")))
        }
        return .init(
            wire: result.wire,
            end: .answered(Answer(result, scrubber: scrubber, keepsBody: hop.request.isForSecrets)))
    }

    /// Header lines that signing adds.
    private func sign(
        _ hop: Hop, opened: [(use: CredentialUse, credential: OpenedCredential)], at moment: Timestamp
    ) throws(EgressFailure) -> [String] {
        var lines: [String] = []
        for (use, credential) in opened where use.placement.kind == .standardWebhooks {
            let prefix = use.placement.target
            guard let id = hop.headers.first(where: { $0.name.lowercased() == "\(prefix.lowercased())-id" })?.value,
                !id.isEmpty, !id.contains(".")
            else {
                throw EgressFailure(
                    code: .requestInvalid,
                    message: "a request that is to be signed needs the header \(prefix)-id, without a dot in it")
            }
            let seconds = moment.milliseconds / 1000
            do throws(WebhookSignature.Unusable) {
                let value = try credential.signature().value(id: id, timestamp: seconds, body: hop.body)
                lines += ["\(prefix)-timestamp: \(seconds)", "\(prefix)-signature: \(value)"]
            } catch {
                throw EgressFailure(
                    code: .secretUnavailable,
                    message: "the credential \(use.reference.name) of \(use.reference.connection) \(error.reason); "
                        + "nothing was sent")
            }
        }
        return lines
    }

    private func transferRequest(
        _ hop: Hop, pin: String?, opened: [(use: CredentialUse, credential: OpenedCredential)], signatures: [String],
        timeout: Duration
    ) -> TransferRequest {
        func placed(_ isWanted: (Placement.Kind) -> Bool) -> [SecretBytes] {
            opened.filter { isWanted($0.use.placement.kind) }.map { use, credential in
                var placed = PlacedSecret(use.placement, secret: credential.secret)
                defer { wipe(&placed.bytes) }
                return unsafe placed.bytes.withUnsafeBytes { unsafe SecretBytes(copying: $0) }
            }
        }
        let taken = Set(hop.credentials.flatMap(\.placement.headerNames))
        var lines = hop.headers.filter { !taken.contains($0.name.lowercased()) }
            .map { $0.value.isEmpty ? "\($0.name);" : "\($0.name): \($0.value)" }  // libcurl's way to send an empty one
        lines += signatures
        let forms = placed { $0 == .form }
        if forms.isEmpty, !hop.headers.contains(where: { $0.name.lowercased() == "content-type" }) {
            lines.append("Content-Type:")  // else libcurl calls every body a form
        }
        return TransferRequest(
            method: hop.method, url: hop.target.url, origin: hop.target.origin, pin: pin, headers: lines,
            secrets: placed { $0 == .header || $0 == .bearer || $0 == .basic }, body: hop.body, formSecrets: forms,
            querySecrets: placed { $0 == .query }, isIdempotent: hop.request.isIdempotent, timeout: timeout,
            responseCap: hop.responseCap, mayBePrivate: hop.mayBePrivate,
            proxy: hop.mayBePrivate ? nil : configuration.proxy)
    }

    /// Opens a secret, or shares what another request that is under way has opened.
    private func open(_ reference: CredentialReference) async throws(EgressFailure) -> OpenedCredential {
        let now = clock.now
        guard let epoch = secrets.epoch else { return OpenedCredential(try await openNow(reference), since: now) }
        return try await opened.credential(reference, epoch: epoch, now: now) { () async throws(EgressFailure) in
            try await openNow(reference)
        }
    }

    private func openNow(_ reference: CredentialReference) async throws(EgressFailure) -> SecretBytes {
        let name = "the credential \(reference.name) of \(reference.connection)"
        let secret: SecretBytes
        do {
            secret = try await unsafe secrets.withSecret(reference) { unsafe SecretBytes(copying: $0) }
        } catch {
            // The vault's own error may name what it tried; the operator finds it in the vault's log.
            throw EgressFailure(code: .secretUnavailable, message: "\(name) cannot be opened; nothing was sent")
        }
        var clear = secret.copy()
        defer { wipe(&clear) }
        guard !clear.isEmpty, clear.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else {
            throw EgressFailure(
                code: .secretUnavailable,
                message: "\(name) is empty or has control characters (a line break at its end?); enter it again")
        }
        return secret
    }

    /// Looks the host up, judges what comes out and says where libcurl must connect to (EXT-05, decisions 26).
    private func pinned(_ hop: Hop) async throws(EgressFailure) -> String? {
        let host = hop.target.origin.host
        guard hop.target.literal == nil, hop.mayBePrivate || configuration.proxy == nil else { return nil }
        if let known = resolver.knownAddresses(of: host) { return try pin(hop, to: known) }
        let (resolver, clock) = (resolver, clock)
        let found: [IPAddress]?
        do {
            found = try await withThrowingTaskGroup(of: [IPAddress]?.self) { group in
                group.addTask { try await resolver.addresses(of: host) }
                group.addTask {
                    try await clock.sleep(for: hop.timeLeft)
                    return nil
                }
                defer { group.cancelAll() }
                return try await group.next() ?? nil
            }
        } catch let error as ResolveError {
            throw EgressFailure(code: .dnsFailed, message: "\(host) has no address: \(error.detail)")
        } catch {
            throw EgressFailure(code: .cancelled, message: "given up by the caller while looking up \(host)")
        }
        guard let found else {
            throw EgressFailure(code: .timeout, message: "looking up \(host) took all of the request's time")
        }
        return try pin(hop, to: found)
    }

    private func pin(_ hop: Hop, to found: [IPAddress]) throws(EgressFailure) -> String {
        let host = hop.target.origin.host
        let allowed = hop.mayBePrivate ? found : found.filter { $0.forbiddance == nil }
        guard !allowed.isEmpty else {
            let seen = found.first.map { "\($0) (\($0.forbiddance ?? ""))" } ?? "nothing"
            throw EgressFailure(
                code: .refusedByPolicy,
                message: "\(host) resolves to \(seen), which is no public address; if that is meant, set the endpoint "
                    + "in the plugin's configuration")
        }
        return "+\(host):\(hop.target.origin.port):" + allowed.prefix(8).map(\.pinned).joined(separator: ",")
    }
}
