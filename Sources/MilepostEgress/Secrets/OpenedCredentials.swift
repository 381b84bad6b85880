// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel
internal import Synchronization

/// A secret in clear while requests with it are under way, with what is made of it: signing keys, what to scrub answers of.
final class OpenedCredential: Sendable {
    let secret: SecretBytes
    /// When it was opened.
    let since: Timestamp
    private let derived = Mutex<(signature: WebhookSignature?, scrubber: Scrubber?)>((nil, nil))

    init(_ secret: SecretBytes, since: Timestamp) {
        self.secret = secret
        self.since = since
    }

    func signature() throws(WebhookSignature.Unusable) -> WebhookSignature {
        if let made = derived.withLock({ $0.signature }) { return made }
        let made = try WebhookSignature(secret)
        derived.withLock { $0.signature = made }
        return made
    }

    /// Of the secret, and of its keys when it has signed.
    func scrubber() -> Scrubber {
        let (made, signature) = derived.withLock { ($0.scrubber, $0.signature) }
        if let made { return made }
        let scrubber = Scrubber([secret] + (signature?.traces ?? []))
        derived.withLock { $0.scrubber = scrubber }
        return scrubber
    }
}

/// Lets requests that overlap share one opening of a secret: it is in clear as long as one of them is under way, as it
/// would be if each had its own copy, and no longer than that. Nothing is kept between calls.
final class OpenedCredentials: Sendable {
    /// A stream of requests without a gap opens anew after this long.
    static let longest = Duration.seconds(1)
    private static let maximum = 256

    private struct Key: Hashable {
        var reference: CredentialReference
        var epoch: UInt64
    }
    private struct Weak {
        weak var credential: OpenedCredential?
    }
    private struct State {
        var opened: [Key: Weak] = [:]
        /// Who waits for somebody else's opening.
        var opening: [Key: [CheckedContinuation<OpenedCredential?, Never>]] = [:]
    }
    private let state = Mutex(State())

    /// - Parameters:
    ///   - epoch: read before this; what is opened under another is not shared.
    ///   - open: opens the secret. One caller's failure is its own: the others that waited for it open themselves.
    func credential(
        _ reference: CredentialReference, epoch: UInt64, now: Timestamp,
        open: () async throws(EgressFailure) -> SecretBytes
    ) async throws(EgressFailure) -> OpenedCredential {
        enum Step { case share(OpenedCredential), wait, open }
        let key = Key(reference: reference, epoch: epoch)
        let step = state.withLock { state -> Step in
            if let found = state.opened[key]?.credential, found.since <= now, now - found.since < Self.longest {
                return .share(found)
            }
            if state.opening[key] != nil { return .wait }
            state.opening[key] = []
            return .open
        }
        switch step {
        case .share(let found): return found
        case .wait:
            if let shared = await awaitOpening(key) { return shared }
            return OpenedCredential(try await open(), since: now)
        case .open:
            do throws(EgressFailure) {
                let made = OpenedCredential(try await open(), since: now)
                hand(made, to: key)
                return made
            } catch {
                hand(nil, to: key)
                throw error
            }
        }
    }

    /// Nil when there is none any more, or when it came to nothing.
    private func awaitOpening(_ key: Key) async -> OpenedCredential? {
        await withCheckedContinuation { continuation in
            let ended = state.withLock { state -> OpenedCredential?? in
                guard state.opening[key] != nil else { return .some(state.opened[key]?.credential) }
                state.opening[key]?.append(continuation)
                return .none
            }
            if let ended { continuation.resume(returning: ended) }
        }
    }

    private func hand(_ made: OpenedCredential?, to key: Key) {
        let waiting = state.withLock { state in
            if state.opened.count >= Self.maximum { state.opened = state.opened.filter { $0.value.credential != nil } }
            if let made, state.opened.count < Self.maximum { state.opened[key] = Weak(credential: made) }
            return state.opening.removeValue(forKey: key) ?? []
        }
        for continuation in waiting { continuation.resume(returning: made) }
    }
}
