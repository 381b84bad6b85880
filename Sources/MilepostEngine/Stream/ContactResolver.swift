// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostStore
import Synchronization

/// Who clicked, as far as can be known.
public struct ContactMatch: Sendable, Hashable {
    public enum Source: String, Sendable {
        /// The click carried the vendor's contact id.
        case click
        /// A form came in with the advertisement's click id that the click carried.
        case form
        /// Nobody can be named, and the connection takes such clicks all the same.
        case nobody = "none"
    }
    static let nobody = ContactMatch(id: nil, email: nil, via: .nobody)

    /// The vendor's id, when it is known.
    public var id: String?
    /// The form's e-mail address, when it gave one.
    public var email: String?
    public var via: Source

    public init(id: String?, email: String?, via: Source) {
        self.id = id
        self.email = email
        self.via = via
    }

    /// What tells contacts apart within a connection: the id where there is one, else the address in lower case.
    public var key: String { id ?? email.map { $0.lowercased() } ?? "" }
}

/// Finds the contact behind a click (section N): the id on the click, else the latest form submission that carried the
/// same advertisement click id.
///
/// Look-ups are cached; a form that is stored later throws out what it could change before its sender hears of success,
/// so the next click sees it (RES-09).
public final class ContactResolver: Sendable {
    private struct Key: Hashable {
        enum Network { case google, facebook }
        var workspace: WorkspaceID
        var network: Network
        var id: String
    }
    private struct Candidate: Sendable {
        var time: Timestamp
        var match: ContactMatch
        var number: Int64
        var position: ClickPosition
        var receivedAt: Timestamp
    }
    private struct Cache {
        var entries: [Key: [Candidate]] = [:]
        /// Grows with every invalidation: a look-up that was under way meanwhile is not kept.
        var generation: UInt64 = 0
    }

    private let store: any Store
    private let arrivals: ArrivalSignal.Subscription
    private let cache = Mutex(Cache())
    /// How far apart form and click may be (RES-06: 14 days unless set).
    public let window: Duration

    /// - Parameter arrivals: the signal that `store` raises.
    public init(store: any Store, arrivals: ArrivalSignal, window: Duration = .seconds(14 * 86_400)) {
        self.store = store
        self.arrivals = arrivals.subscribe(to: .forms)
        self.window = window
    }

    /// Keys remembered, found or not; past it all are forgotten, which costs look-ups only.
    static let maximumEntries = 20_000
    /// Forms read for one id: a visitor who sends more forms in a row is no visitor.
    static let maximumForms = 100

    /// - Parameter position: the click's, when only forms that came before it are to be looked at.
    /// - Returns: nil when nobody can be named now.
    public func resolve(
        _ click: Click, workspace: WorkspaceID, before position: ClickPosition? = nil
    ) async throws -> ContactMatch? {
        if let id = click.contactID, !id.isEmpty { return ContactMatch(id: id, email: nil, via: .click) }
        var best: Candidate?
        for key in Self.keys(of: click, workspace) {
            // Latest first; one that is too late for this click may hide an earlier one that is not.
            let found = try await candidates(for: key).first { form in
                isWithin(form.time, of: click.time) && (position.map { form.position < $0 } ?? true)
            }
            if let found, best.map({ $0.time < found.time }) ?? true { best = found }
        }
        return best?.match
    }

    /// As rolling rules see it: by what was known when the click came, else by the first form that named somebody within
    /// `hold` of the click's receipt.
    ///
    /// - Returns: with the number of the form that came later; nil: the contact was known from the start.
    func resolve(_ stored: StoredClick, hold: Duration) async throws -> (contact: ContactMatch, form: Int64?)? {
        let known = try await resolve(stored.click, workspace: stored.workspace, before: stored.position)
        if let known { return (known, nil) }
        var first: Candidate?
        for key in Self.keys(of: stored.click, stored.workspace) {
            for form in try await candidates(for: key) {
                guard isWithin(form.time, of: stored.click.time), form.receivedAt <= stored.receivedAt + hold,
                    first.map({ form.number < $0.number }) ?? true
                else { continue }
                first = form
            }
        }
        return first.map { ($0.match, $0.number) }
    }

    func isWithin(_ form: Timestamp, of click: Timestamp) -> Bool {
        form >= click - window && form <= click + window
    }

    private static func keys(of click: Click, _ workspace: WorkspaceID) -> [Key] {
        [(Key.Network.google, click.googleClickID), (.facebook, click.facebookClickID)].compactMap { network, id in
            guard let id, !id.isEmpty else { return nil }
            return Key(workspace: workspace, network: network, id: id)
        }
    }

    /// Throws out what these forms could change: somebody who reads the log may see a form before the signal tells of it.
    func note(_ forms: [LoggedForm], of workspace: WorkspaceID) {
        guard !forms.isEmpty else { return }
        var ids = AdvertisementClicks()
        ids.google.formUnion(forms.compactMap(\.form.googleClickID))
        ids.facebook.formUnion(forms.compactMap(\.form.facebookClickID))
        var arrivals = Arrivals()
        arrivals.forms[workspace] = ids
        forget(arrivals)
    }

    private func candidates(for key: Key) async throws -> [Candidate] {
        forget(arrivals.take())
        let (known, generation) = cache.withLock { ($0.entries[key], $0.generation) }
        if let known { return known }
        let forms = try await store.identifyingForms(
            workspace: key.workspace, googleClickID: key.network == .google ? key.id : nil,
            facebookClickID: key.network == .facebook ? key.id : nil, limit: Self.maximumForms)
        let candidates = forms.map {
            Candidate(
                time: $0.form.time, match: $0.form.match, number: $0.number, position: $0.position,
                receivedAt: $0.receivedAt)
        }
        forget(arrivals.take())
        cache.withLock { cache in
            guard cache.generation == generation else { return }
            if cache.entries.count >= Self.maximumEntries { cache.entries.removeAll(keepingCapacity: true) }
            cache.entries[key] = candidates
        }
        return candidates
    }

    private func forget(_ arrivals: Arrivals) {
        guard !arrivals.forms.isEmpty else { return }
        cache.withLock { cache in
            cache.generation += 1
            for (workspace, clicks) in arrivals.forms {
                guard !clicks.isEverything else {
                    cache.entries = cache.entries.filter { $0.key.workspace != workspace }
                    continue
                }
                for id in clicks.google {
                    cache.entries[Key(workspace: workspace, network: .google, id: id)] = nil
                }
                for id in clicks.facebook {
                    cache.entries[Key(workspace: workspace, network: .facebook, id: id)] = nil
                }
            }
        }
    }
}

extension FormSubmission {
    var match: ContactMatch { ContactMatch(id: contactID, email: email, via: .form) }
}
