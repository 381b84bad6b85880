// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// A vendor's app: whom the daemon says it is when it asks for tokens. Its secrets are sealed under the pseudo connection
/// `app_<plugin>` of the workspace `_apps`.
public struct AppRegistration: Sendable, Equatable {
    public var plugin: PluginName
    public var clientID: String
    /// What else the vendor calls the app by, such as `app_id`; public.
    public var facts: [String: String]
    /// The names of the secrets that are sealed, never their values.
    public var secrets: [String]
    public var updatedAt: Timestamp

    public init(
        plugin: PluginName, clientID: String, facts: [String: String] = [:], secrets: [String], updatedAt: Timestamp
    ) {
        self.plugin = plugin
        self.clientID = clientID
        self.facts = facts
        self.secrets = secrets
        self.updatedAt = updatedAt
    }

    /// Under which connection the app's secrets are sealed.
    public static func connection(of plugin: PluginName) -> ConnectionID { ConnectionID("app_\(plugin)") }
    /// Under which workspace's data key they and every authorisation's verifier are sealed.
    public static let workspace: WorkspaceID = "_apps"
}

/// An authorisation that a person was sent away for. Its state is stored hashed, its verifier sealed under the connection
/// named `id`.
public struct PendingAuthorization: Sendable, Equatable {
    public enum State: String, Sendable { case pending, used, done, failed }

    public var id: String
    /// SHA-256 of the state parameter.
    public var hash: [UInt8]
    public var workspace: WorkspaceID
    public var integration: IntegrationName
    public var credential: String
    /// The body of connect without credentials.
    public var request: JSONValue
    /// What was asked for.
    public var scopes: [String]
    public var redirectURI: String
    public var state: State
    public var reason: Reason?
    public var createdAt: Timestamp
    public var expiresAt: Timestamp

    public init(
        id: String, hash: [UInt8], workspace: WorkspaceID, integration: IntegrationName, credential: String,
        request: JSONValue, scopes: [String], redirectURI: String, state: State = .pending, reason: Reason? = nil,
        createdAt: Timestamp, expiresAt: Timestamp
    ) {
        self.id = id
        self.hash = hash
        self.workspace = workspace
        self.integration = integration
        self.credential = credential
        self.request = request
        self.scopes = scopes
        self.redirectURI = redirectURI
        self.state = state
        self.reason = reason
        self.createdAt = createdAt
        self.expiresAt = expiresAt
    }
}

/// One installation's tokens over time, as far as they are no secret.
public struct TokenChain: Sendable, Equatable {
    public enum State: String, Sendable, CaseIterable {
        /// The last refresh, or the installation, went well.
        case ok
        /// The vendor could not be asked; it is tried again.
        case failing
        /// A refresh may have been applied and its answer is lost.
        case uncertain
        /// The vendor refuses the app, not the account.
        case operatorError = "operator_error"
        /// Nothing is sent: the database is not the one that the newest tokens were stored in.
        case held
        /// The stored tokens are not what the daemon stored.
        case edited
        /// The vendor refused the refresh token for good, or nobody can tell any more.
        case revoked
    }

    public var connection: ConnectionID
    public var workspace: WorkspaceID
    /// The credential's name in the manifest: the access token's name in the vault.
    public var credential: String
    /// Drawn at each installation.
    public var lineage: String
    /// Grows by one with each new pair.
    public var version: Int64
    /// Of the refresh token; hexadecimal.
    public var fingerprint: String
    public var scopes: [String]
    public var account: String?
    public var issuedAt: Timestamp
    public var expiresAt: Timestamp
    public var lastRefreshAt: Timestamp?
    /// Since the installation.
    public var refreshes: Int64
    public var state: State
    public var reason: Reason?
    /// In a row.
    public var failures: Int
    /// How often the present refresh token was sent again after a lost answer.
    public var resent: Int
    public var nextAttemptAt: Timestamp?
    public var intent: Intent?

    /// A refresh that may have left and whose answer is not stored.
    public struct Intent: Sendable, Equatable {
        public var at: Timestamp
        public var owner: String

        public init(at: Timestamp, owner: String) {
            self.at = at
            self.owner = owner
        }
    }

    public init(
        connection: ConnectionID, workspace: WorkspaceID, credential: String, lineage: String, version: Int64,
        fingerprint: String, scopes: [String], account: String? = nil, issuedAt: Timestamp, expiresAt: Timestamp,
        lastRefreshAt: Timestamp? = nil, refreshes: Int64 = 0, state: State = .ok, reason: Reason? = nil,
        failures: Int = 0, resent: Int = 0, nextAttemptAt: Timestamp? = nil, intent: Intent? = nil
    ) {
        self.connection = connection
        self.workspace = workspace
        self.credential = credential
        self.lineage = lineage
        self.version = version
        self.fingerprint = fingerprint
        self.scopes = scopes
        self.account = account
        self.issuedAt = issuedAt
        self.expiresAt = expiresAt
        self.lastRefreshAt = lastRefreshAt
        self.refreshes = refreshes
        self.state = state
        self.reason = reason
        self.failures = failures
        self.resent = resent
        self.nextAttemptAt = nextAttemptAt
        self.intent = intent
    }
}

/// Apps, authorisations and chains of tokens (section R). Each method is one durable transaction.
public protocol TokenBook: Sendable {
    func app(_ plugin: PluginName) async throws -> AppRegistration?
    func apps() async throws -> [AppRegistration]
    /// Replaces the app and the secrets given; secrets that it no longer names are removed.
    func saveApp(_ app: AppRegistration, secrets: [SealedCredential]) async throws
    /// False when there was none.
    func deleteApp(_ plugin: PluginName) async throws -> Bool

    /// Stores an authorisation and its verifier; those that expired before `at` go, with theirs.
    func beginAuthorization(_ authorization: PendingAuthorization, verifier: SealedCredential, at: Timestamp)
        async throws
    /// Takes a pending one that has not expired, once: whoever comes second gets nil.
    func takeAuthorization(hash: [UInt8], at: Timestamp) async throws -> PendingAuthorization?
    func takeAuthorization(id: String, at: Timestamp) async throws -> PendingAuthorization?
    /// Notes what became of one that was taken, and removes its verifier.
    func settleAuthorization(id: String, state: PendingAuthorization.State, reason: Reason?) async throws
    func authorization(id: String) async throws -> PendingAuthorization?

    /// `ConnectionBook.saveConnection`, and in the same transaction what it holds: with a chain that chain, without none
    /// any more; other credentials of the connection are removed.
    func saveConnection(
        _ connection: Connection, credentials: [SealedCredential], baseline: Reason?, chain: TokenChain?, at: Timestamp
    ) async throws -> Connection
    func chain(_ connection: ConnectionID) async throws -> TokenChain?
    func chains() async throws -> [TokenChain]
    /// Writes that a refresh is about to leave. Durable on return.
    ///
    /// - Parameter resent: the new value of `resent`.
    /// - Throws: `conflict` when the version moved on or another refresh is open (OAU-05).
    func beginRefresh(_ connection: ConnectionID, version: Int64, owner: String, resent: Int, at: Timestamp)
        async throws
    /// Stores a new pair with its chain and closes the intent, in one transaction (OAU-03, OAU-04).
    ///
    /// - Throws: `conflict` unless the stored version is `chain.version - 1` and the lineage the same (OAU-05).
    func storeRefresh(_ chain: TokenChain, credentials: [SealedCredential]) async throws
    /// Closes the intent of a refresh that brought no tokens: state, reason, counts and next attempt are those of `chain`.
    /// False when another pair was stored meanwhile.
    func settleRefresh(_ chain: TokenChain) async throws -> Bool
    /// Intents that a process other than `owner` left behind: their chains become uncertain and due at `nextAttemptAt`.
    func recoverRefreshes(exceptOwner owner: String, reason: Reason, nextAttemptAt: Timestamp) async throws
        -> [ConnectionID]

    /// What this data directory last knew of its chains: beside the database and never part of a backup. Nil when there is
    /// none, or none that can be read.
    func lineage() async throws -> LineageRecord?
    func storeLineage(_ record: LineageRecord) async throws
}
