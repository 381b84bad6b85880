// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Egress over the system's libcurl.
///
/// Order of a hop: policy, budgets, name look-up and judgement of the addresses, secrets, `beforeSend`, transfer. What
/// comes back is scrubbed of the request's secrets before anyone sees it. Methods may be called from any task.
public final class CurlEgress: Egress {
    public struct Configuration: Sendable {
        public var userAgent = "Milepost"
        /// For requests whose own time-out is zero.
        public var timeout = Duration.seconds(30)
        public var connectTimeout = Duration.seconds(10)
        /// HTTP/1.1 vendors get so many at once; HTTP/2 vendors need one.
        public var connectionsPerHost = 8
        public var connectionsInAll = 256
        /// A PEM file in place of the system's authorities.
        public var certificateAuthorities: String?
        /// An http proxy of the administrator's. Through it names are resolved there, so the guard against private
        /// addresses is the proxy's too; overridden endpoints are reached directly.
        public var proxy: String?

        public init() {}
    }

    /// No vendor call needs more; a plugin with more to say is wrong about something.
    static let maximumBody = 16 << 20
    static let maximumResponseCap = 64 << 20
    static let maximumRedirects = 5

    let secrets: any SecretSource
    let limiter: RateLimiter
    let clock: any DaemonClock
    let resolver: any HostResolver
    let configuration: Configuration
    let opened = OpenedCredentials()
    private let targets = KnownTargets()
    private let log: (@Sendable (EgressLogEntry) -> Void)?
    let thread: CurlThread

    /// - Parameters:
    ///   - secrets: lends each secret for the moment of sending.
    ///   - limiter: holds the budgets that requests name in `charges`; shared by all who send.
    ///   - resolver: nil for the system's.
    ///   - log: called once per hop, on any thread; must not block.
    public init(
        secrets: any SecretSource, limiter: RateLimiter, clock: any DaemonClock = SystemClock(),
        resolver: (any HostResolver)? = nil, configuration: Configuration = Configuration(),
        log: (@Sendable (EgressLogEntry) -> Void)? = nil
    ) {
        self.secrets = secrets
        self.limiter = limiter
        self.clock = clock
        self.resolver = resolver ?? SystemResolver(clock: clock)
        self.configuration = configuration
        self.log = log
        var settings = CurlThread.Settings()
        settings.userAgent = configuration.userAgent
        settings.connectTimeout = configuration.connectTimeout
        settings.certificateAuthorities = configuration.certificateAuthorities
        settings.connectionsPerHost = configuration.connectionsPerHost
        settings.connectionsInAll = configuration.connectionsInAll
        thread = CurlThread(settings: settings)
    }

    deinit { thread.stopSoon() }

    /// Ends every transfer, each reporting how far it got, and the thread. Later requests fail as `cancelled`.
    public func shutdown() async { await thread.stop() }

    public func send(
        _ request: EgressRequest, beforeSend: @Sendable () async throws -> Void
    ) async -> EgressOutcome {
        let start = clock.now
        var hop: Hop
        do throws(EgressFailure) { hop = try Hop(request, defaults: configuration, targets: targets) } catch {
            return EgressOutcome(wire: .neverSent, failure: error)
        }
        var timings = EgressTimings()
        while true {
            let isFirst = hop.number == 0
            let sent = await send(hop, timings: &timings) { if isFirst { try await beforeSend() } }
            timings.total = clock.now - start
            report(hop, sent, timings)
            switch sent.end {
            case .failed(let failure):
                let wire: WireState = hop.number > 0 && sent.wire == .neverSent ? .maybeSent : sent.wire
                return EgressOutcome(wire: wire, failure: failure)
            case .answered(let answer):
                do throws(EgressFailure) {
                    if let next = try hop.following(answer, spent: sent.spent) {
                        hop = next
                        continue
                    }
                } catch {
                    return EgressOutcome(wire: .answered, failure: error)
                }
                return EgressOutcome(wire: .answered, response: answer.response(timings))
            }
        }
    }

    private func report(_ hop: Hop, _ sent: SentHop, _ timings: EgressTimings) {
        guard let log else { return }
        var status: Int?
        var failure: EgressFailure.Code?
        switch sent.end {
        case .answered(let answer): status = answer.status
        case .failed(let error): failure = error.code
        }
        log(
            EgressLogEntry(
                method: hop.method, origin: hop.target.origin.description, path: hop.target.path, status: status,
                wire: sent.wire, failure: failure, timings: timings))
    }
}

/// How one hop ended.
struct SentHop {
    enum End {
        case answered(Answer)
        case failed(EgressFailure)
    }

    let wire: WireState
    let end: End
    /// Taken from the request's time-out.
    var spent = Duration.zero
}

/// A complete answer, scrubbed, with the raw `Location` kept apart for following it.
struct Answer {
    let status: Int
    let headers: [(name: String, value: String)]
    let body: [UInt8]
    let isTruncated: Bool
    let location: String?
    let locationHoldsSecret: Bool

    /// - Parameter keepsBody: a vendor that does not rotate answers with the very token that was sent; the core must read
    ///   it, and nobody else sees this answer.
    init(_ result: TransferResult, scrubber: Scrubber, keepsBody: Bool) {
        status = result.status
        isTruncated = result.isTruncated
        body = keepsBody ? result.body : scrubber.scrub(result.body, isCut: result.isTruncated)
        func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
        let named = result.headers.map { (name: text($0.name), raw: $0.value) }
        let isDecoded = named.contains {
            $0.name.lowercased() == "content-encoding" && text($0.raw).lowercased() != "identity"
        }
        headers = named.compactMap { name, raw in
            // They describe the bytes on the wire, which nobody sees any more.
            if isDecoded, ["content-encoding", "content-length"].contains(name.lowercased()) { return nil }
            return (name: scrubber.scrub(name), value: text(scrubber.scrub(raw)))
        }
        let raw = named.first { $0.name.lowercased() == "location" }?.raw
        location = raw.map(text)
        locationHoldsSecret = raw.map { scrubber.scrub($0) != $0 } ?? false
    }

    func response(_ timings: EgressTimings) -> EgressResponse {
        EgressResponse(status: status, headers: headers, body: body, truncated: isTruncated, timings: timings)
    }
}
