// SPDX-License-Identifier: Apache-2.0

/// The books of one vendor's authorisation server: codes, grants, access tokens, refresh tokens alive and dead.
///
/// It speaks no HTTP: `HubSpotOAuth.swift` and `PipedriveOAuth.swift` give it the manners of their vendor.
struct OAuthAuthority: Sendable {
    /// What the person at the consent page does.
    enum Consent: String, CaseIterable, Sendable {
        /// The page redirects at once with a code; nobody is needed.
        case allow
        /// The page redirects at once with the vendor's refusal.
        case deny
        /// A page with two links is shown.
        case ask
    }

    /// One installation of the app in one account.
    struct Grant: Sendable {
        let id: Int
        let accountID: Int
        let userID: Int
        let scopes: [String]
        /// The refresh token that is good now.
        var refreshToken: String
        /// The refresh was revoked; access tokens that are out live on until they expire.
        var isRevoked = false
        /// The account removed the app: everything of this grant is dead.
        var isUninstalled = false
        var refreshes = 0
    }

    struct Pair: Sendable {
        let accessToken: String
        let refreshToken: String
        let expiresIn: Int
        let grant: Grant
    }

    enum AccessState: Sendable {
        case good(Grant, expires: Instant)
        case expired(at: Instant)
        case unknown
    }

    /// Why a request at the token endpoint is refused.
    enum Refusal: Error, Sendable {
        case clientID, clientSecret, code, redirectURI, verifier, refreshToken, accountGone, grantType, scopes
    }

    private struct Code: Sendable {
        let accountID: Int
        let userID: Int
        let scopes: [String]
        let redirectURI: String
        let challenge: String?
        let expires: Instant
    }

    private struct Access: Sendable {
        let grantID: Int
        var expires: Instant
        var isRevoked = false
    }

    /// A refresh token that was replaced by rotation.
    private struct Dead: Sendable {
        let grantID: Int
        /// The refresh token that took its place: when it, or an access token that came with it, has been used, the client
        /// had the answer.
        let successor: String
        let successorAccess: String
        var uses = 0
    }

    let clientID: String
    var clientSecret: String
    /// Addresses a code may be sent to; empty takes any.
    var redirectURIs: [String] = []
    var consent = Consent.allow
    /// Life of the next access tokens.
    var lifeSeconds: Int
    var codeLifeSeconds = 300
    /// Whether a refresh replaces the refresh token and kills the old one.
    var rotates: Bool
    /// The scopes that a person ticks at most; nil grants all that are asked for.
    var grantableScopes: [String]?
    /// The account that the next person belongs to.
    var accountID: Int

    private(set) var grants: [Int: Grant] = [:]
    private(set) var events: [OAuthEvent] = []
    private var codes: [String: Code] = [:]
    private var accessTokens: [String: Access] = [:]
    private var usedAccessTokens: Set<String> = []
    private var refreshTokens: [String: Int] = [:]
    private var deadTokens: [String: Dead] = [:]
    /// Breaches of the contract that the server has not collected yet.
    var violations: [String] = []
    private var keys: SeededKeys
    private let accessPrefix: String
    private let accessLength: Int
    private let refreshPrefix: String

    init(
        clientID: String, clientSecret: String, accountID: Int, lifeSeconds: Int, rotates: Bool,
        accessPrefix: String, accessLength: Int, refreshPrefix: String, seed: UInt64
    ) {
        self.clientID = clientID
        self.clientSecret = clientSecret
        self.accountID = accountID
        self.lifeSeconds = lifeSeconds
        self.rotates = rotates
        self.accessPrefix = accessPrefix
        self.accessLength = accessLength
        self.refreshPrefix = refreshPrefix
        keys = SeededKeys(seed: seed)
    }

    func allows(redirectURI: String) -> Bool {
        let isAddress = redirectURI.hasPrefix("http://") || redirectURI.hasPrefix("https://")
        return isAddress && (redirectURIs.isEmpty || redirectURIs.contains(redirectURI))
    }

    // MARK: Codes

    /// Hands out a code for what the person agreed to.
    mutating func authorize(
        accountID: Int, userID: Int, scopes asked: [String], redirectURI: String, challenge: String?, now: Instant
    ) -> String {
        let scopes = grantableScopes.map { granted in asked.filter(granted.contains) } ?? asked
        let code = keys.hexadecimal(32)
        codes[code] = Code(
            accountID: accountID, userID: userID, scopes: scopes, redirectURI: redirectURI, challenge: challenge,
            expires: now.adding(milliseconds: Int64(codeLifeSeconds) * 1000))
        events.append(OAuthEvent(at: now, kind: .authorized, accountID: accountID, scopes: scopes))
        return code
    }

    mutating func deny(accountID: Int, now: Instant) {
        events.append(OAuthEvent(at: now, kind: .denied, accountID: accountID))
    }

    func check(clientID: String?, secret: String?) throws(Refusal) {
        guard clientID == self.clientID else { throw .clientID }
        guard secret == clientSecret else { throw .clientSecret }
    }

    /// Turns a code into a pair of tokens. A code works once, for the address and the verifier it was asked with.
    mutating func exchange(
        code text: String?, redirectURI: String?, verifier: String?, now: Instant
    ) throws(Refusal) -> Pair {
        guard let text, let code = codes[text], code.expires > now else { throw refuse(.code, now: now) }
        guard redirectURI == code.redirectURI else { throw refuse(.redirectURI, now: now) }
        if let challenge = code.challenge {
            guard let verifier, ProofKey.challenge(of: verifier) == challenge else { throw refuse(.verifier, now: now) }
        }
        codes[text] = nil
        let id = (grants.keys.max() ?? 0) + 1
        let refresh = refreshPrefix + keys.hexadecimal(48)
        let grant = Grant(
            id: id, accountID: code.accountID, userID: code.userID, scopes: code.scopes, refreshToken: refresh)
        grants[id] = grant
        refreshTokens[refresh] = id
        events.append(
            OAuthEvent(at: now, kind: .granted, accountID: grant.accountID, grantID: id, scopes: grant.scopes))
        return pair(of: grant, now: now)
    }

    private mutating func pair(of grant: Grant, now: Instant) -> Pair {
        let access = accessPrefix + keys.hexadecimal(accessLength - accessPrefix.utf8.count)
        accessTokens[access] = Access(
            grantID: grant.id, expires: now.adding(milliseconds: Int64(lifeSeconds) * 1000))
        return Pair(accessToken: access, refreshToken: grant.refreshToken, expiresIn: lifeSeconds, grant: grant)
    }

    private mutating func refuse(_ refusal: Refusal, grant: Grant? = nil, now: Instant) -> Refusal {
        events.append(
            OAuthEvent(
                at: now, kind: .refused, accountID: grant?.accountID, grantID: grant?.id, detail: "\(refusal)"))
        return refusal
    }

    // MARK: Refresh

    mutating func refresh(_ token: String?, now: Instant) throws(Refusal) -> Pair {
        guard let token else { throw refuse(.refreshToken, now: now) }
        if deadTokens[token] != nil { throw reuse(token, now: now) }
        guard let id = refreshTokens[token], var grant = grants[id] else { throw refuse(.refreshToken, now: now) }
        if grant.isUninstalled { throw refuse(.accountGone, grant: grant, now: now) }
        if grant.isRevoked { throw refuse(.refreshToken, grant: grant, now: now) }
        grant.refreshes += 1
        if rotates {
            refreshTokens[token] = nil
            grant.refreshToken = refreshPrefix + keys.hexadecimal(48)
            refreshTokens[grant.refreshToken] = id
        }
        grants[id] = grant
        let made = pair(of: grant, now: now)
        if rotates {
            deadTokens[token] = Dead(grantID: id, successor: made.refreshToken, successorAccess: made.accessToken)
        }
        events.append(
            OAuthEvent(
                at: now, kind: .refreshed, accountID: grant.accountID, grantID: id,
                detail: rotates ? "rotated" : "kept", refreshes: grant.refreshes))
        return made
    }

    /// A replaced refresh token came back. Once is what a client does that never got the answer; after the answer was
    /// used, or a second time, it is a breach.
    private mutating func reuse(_ token: String, now: Instant) -> Refusal {
        guard var dead = deadTokens[token] else { return .refreshToken }
        dead.uses += 1
        deadTokens[token] = dead
        let hadAnswer = usedAccessTokens.contains(dead.successorAccess) || refreshTokens[dead.successor] == nil
        let isBreach = hadAnswer || dead.uses > 1
        let grant = grants[dead.grantID]
        events.append(
            OAuthEvent(
                at: now, kind: isBreach ? .deadTokenReused : .deadTokenRetried, accountID: grant?.accountID,
                grantID: dead.grantID, refreshes: grant?.refreshes))
        if isBreach {
            violations.append("a refresh token of grant \(dead.grantID) was used again after it was replaced")
        }
        return .refreshToken
    }

    // MARK: Access tokens

    func access(_ token: String, now: Instant) -> AccessState {
        guard let access = accessTokens[token], let grant = grants[access.grantID], !access.isRevoked,
            !grant.isUninstalled
        else { return .unknown }
        return access.expires > now ? .good(grant, expires: access.expires) : .expired(at: access.expires)
    }

    /// Remembers that a client holds this access token.
    mutating func markUsed(_ token: String) { usedAccessTokens.insert(token) }

    /// The grant of a refresh token that is good now.
    func grant(ofRefresh token: String) -> Grant? {
        refreshTokens[token].flatMap { grants[$0] }.flatMap { $0.isRevoked || $0.isUninstalled ? nil : $0 }
    }

    // MARK: Endings

    /// Revokes a token, of either kind.
    /// - Returns: false when it is unknown.
    @discardableResult
    mutating func revoke(_ token: String, now: Instant) -> Bool {
        if let id = refreshTokens[token] {
            grants[id]?.isRevoked = true
            events.append(
                OAuthEvent(
                    at: now, kind: .revoked, accountID: grants[id]?.accountID, grantID: id, detail: "refresh token"))
            return true
        }
        guard let access = accessTokens[token] else { return false }
        accessTokens[token]?.isRevoked = true
        events.append(
            OAuthEvent(
                at: now, kind: .revoked, accountID: grants[access.grantID]?.accountID, grantID: access.grantID,
                detail: "access token"))
        return true
    }

    /// What an administrator of the sandbox can end, for one account or for all.
    enum Ending: String, CaseIterable, Sendable {
        /// Access tokens are past their time now.
        case expireAccess = "expire_access"
        /// Access tokens are unknown now.
        case revokeAccess = "revoke_access"
        /// Refresh tokens are unknown now; access tokens live on.
        case revokeRefresh = "revoke_refresh"
        /// The account has removed the app.
        case uninstall
    }

    mutating func end(_ ending: Ending, accountID: Int?, now: Instant) {
        for (id, grant) in grants where accountID == nil || grant.accountID == accountID {
            switch ending {
            case .revokeRefresh: grants[id]?.isRevoked = true
            case .uninstall: grants[id]?.isUninstalled = true
            case .expireAccess, .revokeAccess:
                for (token, access) in accessTokens where access.grantID == id {
                    if ending == .revokeAccess { accessTokens[token]?.isRevoked = true }
                    if ending == .expireAccess { accessTokens[token]?.expires = min(access.expires, now) }
                }
            }
            events.append(
                OAuthEvent(at: now, kind: .ended, accountID: grant.accountID, grantID: id, detail: ending.rawValue))
        }
    }
}
