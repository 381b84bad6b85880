// SPDX-License-Identifier: Apache-2.0

// As in IPAddress: the owner of the socket declarations depends on the build's configuration.
internal import CMilepostCurl
internal import CMilepostLinux
public import MilepostModel
internal import Synchronization

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// Turns names into addresses. Egress judges and pins what comes out (decisions 26), so it must not be skipped over.
public protocol HostResolver: Sendable {
    /// - Throws: `ResolveError`, or `CancellationError`.
    func addresses(of host: String) async throws -> [IPAddress]
    /// What `addresses` would answer without asking anybody; nil when it would have to.
    func knownAddresses(of host: String) -> [IPAddress]?
}

extension HostResolver {
    public func knownAddresses(of host: String) -> [IPAddress]? { nil }
}

/// A name without addresses, with `getaddrinfo`'s reason.
public struct ResolveError: Error, Sendable {
    public let detail: String
    public init(detail: String) { self.detail = detail }
}

/// `getaddrinfo` on threads of its own, one per look-up up to a bound, equal names looked up once, answers kept briefly.
public final class SystemResolver: HostResolver {
    /// Look-ups at once; each may hang for as long as the resolver's time-outs.
    static let maximumThreads = 16
    /// Waiting names beyond that; a full queue fails the request before anything is sent.
    static let maximumQueue = 1024
    /// The age at which an answer is looked up again, when the TTL is unknown (getaddrinfo does not tell it).
    static let answerAge = Duration.seconds(30)
    static let maximumAnswers = 1024

    private typealias Waiter = CheckedContinuation<[IPAddress], any Error>

    private struct State {
        var waiters: [String: [UInt64: Waiter]] = [:]
        var queue: [String] = []
        var threads = 0
        var lastID: UInt64 = 0
        var cancelledEarly: Set<UInt64> = []
        var answers: [String: (addresses: [IPAddress], at: Timestamp)] = [:]
    }

    private let clock: any DaemonClock
    private let state = Mutex(State())

    public init(clock: any DaemonClock) { self.clock = clock }

    public func knownAddresses(of host: String) -> [IPAddress]? {
        let now = clock.now
        let known = state.withLock { $0.answers[host] }
        return known.flatMap { now - $0.at < Self.answerAge && now >= $0.at ? $0.addresses : nil }
    }

    public func addresses(of host: String) async throws -> [IPAddress] {
        if let known = knownAddresses(of: host) { return known }
        let id = state.withLock { state in
            state.lastID += 1
            return state.lastID
        }
        defer { state.withLock { _ = $0.cancelledEarly.remove(id) } }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { enqueue(host, id: id, $0) }
        } onCancel: {
            let waiter = state.withLock { state in
                let waiter = state.waiters[host]?.removeValue(forKey: id)
                if waiter == nil { state.cancelledEarly.insert(id) }
                return waiter
            }
            waiter?.resume(throwing: CancellationError())
        }
    }

    private func enqueue(_ host: String, id: UInt64, _ waiter: Waiter) {
        enum Step { case cancelled, full, joined, startThread }
        let step = state.withLock { state -> Step in
            if state.cancelledEarly.contains(id) { return .cancelled }
            if state.waiters[host] != nil {
                state.waiters[host]?[id] = waiter
                return .joined
            }
            guard state.queue.count < Self.maximumQueue else { return .full }
            state.waiters[host] = [id: waiter]
            state.queue.append(host)
            guard state.threads < Self.maximumThreads else { return .joined }
            state.threads += 1
            return .startThread
        }
        switch step {
        case .joined: break
        case .cancelled: waiter.resume(throwing: CancellationError())
        case .full: waiter.resume(throwing: ResolveError(detail: "\(Self.maximumQueue) names wait for the resolver"))
        case .startThread: startThread(named: "mp-dns") { [self] in work() }
        }
    }

    private func work() {
        while let host = state.withLock({ state -> String? in
            if !state.queue.isEmpty { return state.queue.removeFirst() }
            state.threads -= 1
            return nil
        }) {
            let result = Self.lookUp(host)
            let now = clock.now
            let waiters = state.withLock { state in
                if case .success(let addresses) = result {
                    if state.answers.count >= Self.maximumAnswers { state.answers.removeAll() }
                    state.answers[host] = (addresses, now)
                }
                return state.waiters.removeValue(forKey: host) ?? [:]
            }
            for waiter in waiters.values { waiter.resume(with: result.mapError { $0 as any Error }) }
        }
    }

    private static func lookUp(_ host: String) -> Result<[IPAddress], ResolveError> {
        var hints = unsafe addrinfo()
        unsafe hints.ai_family = AF_UNSPEC
        #if canImport(Glibc)
            unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        #else
            unsafe hints.ai_socktype = SOCK_STREAM
        #endif
        unsafe hints.ai_flags = AI_ADDRCONFIG
        var list: UnsafeMutablePointer<addrinfo>?
        let status = unsafe getaddrinfo(host, nil, &hints, &list)
        guard status == 0 else {
            return .failure(ResolveError(detail: unsafe String(cString: gai_strerror(status))))
        }
        defer { unsafe freeaddrinfo(list) }
        var addresses: [IPAddress] = []
        var entry = unsafe list
        while let current = unsafe entry, addresses.count < 16 {
            if let address = unsafe current.pointee.ai_addr.flatMap({ unsafe IPAddress($0) }),
                !addresses.contains(address)
            {
                addresses.append(address)
            }
            unsafe entry = unsafe current.pointee.ai_next
        }
        return addresses.isEmpty ? .failure(ResolveError(detail: "no addresses")) : .success(addresses)
    }
}

/// Starts a detached thread, which `top -H` shows by its name (the kernel keeps 15 characters).
func startThread(named name: String, _ body: @escaping @Sendable () -> Void) {
    final class Box: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    let context = unsafe Unmanaged.passRetained(Box(body)).toOpaque()
    let status = unsafe milepost_thread_start(
        name,
        { context in
            let box = unsafe Unmanaged<Box>.fromOpaque(context!).takeRetainedValue()  // released here, by the thread
            box.body()
        }, context)
    precondition(status == 0, "cannot start the thread \(name): error \(-status)")
}
