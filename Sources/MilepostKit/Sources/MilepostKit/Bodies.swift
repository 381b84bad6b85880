// SPDX-License-Identifier: Apache-2.0
//
// The JSON bodies of the contract as types (include/milepost/schemas). Members that a body may lack are optional;
// unknown members are ignored, as the contract demands of both sides.

/// What `create` tells about the connection: settings, endpoints, public facts of the credentials.
public struct InstanceConfiguration: Sendable, Decodable {
    /// A credential that the host holds: never the secret itself.
    public struct Credential: Sendable, Decodable {
        public var ref: String
        public var scheme: String?
        public var account: String?
        public var expires_at: String?
        public var scopes: [String]?

        /// Whether the host renews it by OAuth 2.0, so that a refusal is cured by installing again and not by a new token.
        public var isOAuth: Bool { scheme == "oauth2" }
    }

    /// The one credential that the connection holds, of the alternatives in the manifest: name it in requests. Nil for a
    /// plugin that declares none.
    public var heldCredential: Credential? { credentials.first }

    /// Whose account the connection's credential opens, as `connect` told.
    public struct Account: Sendable, Decodable {
        public var id: String?
        public var label: String?
        public var domain: String?
    }

    /// The vendor's app that the plugin works as, where the host knows one.
    public struct App: Sendable, Decodable {
        /// The vendor's id of it.
        public var id: String?
        /// What `provision` with scope "app" brought into being: the vendor's id by the object's key.
        public var objects: [String: String]?
    }

    public var plugin: String?
    public var connection: String
    /// nil where no app is set up, and from hosts that do not tell.
    public var app: App?
    /// nil before the first connect, and from hosts that do not tell.
    public var account: Account?
    public var workspace: String?
    public var settings: JSONValue
    /// Base URLs without a trailing slash, overrides of the host's configuration already applied.
    public var endpoints: [String: String]
    public var credentials: [Credential]
    public var request_timeout_ms: Int64?

    enum CodingKeys: String, CodingKey {
        case plugin, connection, workspace, app, account, settings, endpoints, credentials, request_timeout_ms
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        plugin = try container.decodeIfPresent(String.self, forKey: .plugin)
        connection = try container.decodeIfPresent(String.self, forKey: .connection) ?? ""
        account = try container.decodeIfPresent(Account.self, forKey: .account)
        app = try container.decodeIfPresent(App.self, forKey: .app)
        workspace = try container.decodeIfPresent(String.self, forKey: .workspace)
        settings = try container.decodeIfPresent(JSONValue.self, forKey: .settings) ?? [:]
        endpoints = try container.decodeIfPresent([String: String].self, forKey: .endpoints) ?? [:]
        credentials = try container.decodeIfPresent([Credential].self, forKey: .credentials) ?? []
        request_timeout_ms = try container.decodeIfPresent(Int64.self, forKey: .request_timeout_ms)
    }
}

/// A sentence for the operator that stops nothing.
public struct Warning: Hashable, Sendable, Codable {
    public var code: String
    public var message: String
    /// Of a delivery's warnings: it is about the connection, which bears it until its settings are checked again.
    public var lasting: Bool?
    public init(code: String, message: String, lasting: Bool? = nil) {
        self.code = code
        self.message = message
        self.lasting = lasting
    }
}

/// A setting that cannot be taken as it is.
public struct SettingError: Hashable, Sendable, Codable {
    /// JSON pointer into the settings.
    public var pointer: String
    public var code: String
    public var message: String
    public init(pointer: String, code: String, message: String) {
        self.pointer = pointer
        self.code = code
        self.message = message
    }
}

/// Body of `configure` and of `connect`.
public struct SettingsRequest: Sendable, Decodable {
    public var settings: JSONValue?
}

public struct ConfigureResult: Sendable, Encodable {
    public var errors: [SettingError]
    public var warnings: [Warning]
    public var settings: JSONValue?
    public var reconnect: Bool
    public init(
        errors: [SettingError] = [], warnings: [Warning] = [], settings: JSONValue? = nil, reconnect: Bool = false
    ) {
        self.errors = errors
        self.warnings = warnings
        self.settings = settings
        self.reconnect = reconnect
    }
}

public struct ConnectResult: Sendable, Encodable {
    /// Whose account the credential opens.
    public struct Account: Sendable, Encodable {
        public var id: String
        public var label: String
        public var domain: String?
        public var user_id: String?
        public var user_label: String?
        public init(
            id: String, label: String, domain: String? = nil, user_id: String? = nil, user_label: String? = nil
        ) {
            self.id = id
            self.label = label
            self.domain = domain
            self.user_id = user_id
            self.user_label = user_label
        }
    }

    public var account: Account
    public var scopes: [String]
    public var missing_scopes: [String]
    public var warnings: [Warning]
    public var plan_limits: JSONValue?
    public init(
        account: Account, scopes: [String] = [], missing_scopes: [String] = [], warnings: [Warning] = [],
        plan_limits: JSONValue? = nil
    ) {
        self.account = account
        self.scopes = scopes
        self.missing_scopes = missing_scopes
        self.warnings = warnings
        self.plan_limits = plan_limits
    }
}

public struct OptionsRequest: Sendable, Decodable {
    public var picker: String
    public var values: JSONValue?
    public var search: String?
    public var page: String?
}

public struct OptionsResult: Sendable, Encodable {
    /// One choice. `value` is what the setting will hold.
    public struct Item: Hashable, Sendable, Encodable {
        public var value: JSONValue
        public var label: String
        public var group: String?
        public var disabled: Bool?
        public init(value: JSONValue, label: String, group: String? = nil, disabled: Bool? = nil) {
            self.value = value
            self.label = label
            self.group = group
            self.disabled = disabled
        }
    }

    public var items: [Item]
    public var next: String?
    public var suggested: JSONValue?
    public var cache_seconds: Int
    public init(items: [Item], next: String? = nil, suggested: JSONValue? = nil, cacheSeconds: Int = 0) {
        self.items = items
        self.next = next
        self.suggested = suggested
        self.cache_seconds = cacheSeconds
    }
}

public struct QueryRequest: Sendable, Decodable {
    public var query: String
    public var arguments: JSONValue?
}

public struct ProvisionRequest: Sendable, Decodable {
    public var scope: String?
    public var objects: [JSONValue]?
}

public struct ProvisionResult: Sendable, Encodable {
    public struct Object: Sendable, Encodable {
        public var key: String
        /// "created", "existing" or "absent"
        public var state: String
        public var remote_id: String?
        public init(key: String, state: String, remoteID: String? = nil) {
            self.key = key
            self.state = state
            self.remote_id = remoteID
        }
    }
    public var objects: [Object]
    public init(objects: [Object]) { self.objects = objects }
}

/// What is known of a step of a delivery.
public struct JournalEntry: Sendable, Decodable {
    public var step: String
    /// "intent" or "answered": what the host knows of a request; "done": the plugin stored the step's result.
    public var state: String
    public var attempt: Int?
    public var intent_at: String?
    /// "never_sent", "maybe_sent", "answered"
    public var wire: String?
    public var http_status: Int?
    /// The vendor's answer, capped and scrubbed.
    public var body: String?
    public var result: JSONValue?
}

/// One thing to make happen, with everything that is known of earlier attempts.
public struct DeliveryRecord: Sendable, Decodable {
    public var index: UInt32
    /// Stable over all attempts.
    public var delivery_id: String
    public var idempotency_key: String?
    public var attempt: Int?
    public var first_attempt_at: String?
    public var payload: JSONValue
    public var journal: [JournalEntry]?

    /// The stored result of a finished step; nil when it has not finished.
    public func result(of step: String) -> JSONValue? {
        journal?.last { $0.step == step && $0.state == "done" }.map { $0.result ?? [:] }
    }
}

public struct DeliverRequest: Sendable, Decodable {
    public var action: String
    public var records: [DeliveryRecord]

    /// By hand: the one body that comes in thousands a second.
    public init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer().decode(JSONValue.self)
        guard let action = value["action"]?.string, let records = value["records"]?.array else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "action or records are missing"))
        }
        self.action = action
        self.records = try records.map { try DeliveryRecord($0, decoder.codingPath) }
    }
}

extension DeliveryRecord {
    public init(from decoder: any Decoder) throws {
        try self.init(decoder.singleValueContainer().decode(JSONValue.self), decoder.codingPath)
    }

    fileprivate init(_ value: JSONValue, _ path: [any CodingKey]) throws {
        guard let index = value["index"]?.int.flatMap({ UInt32(exactly: $0) }), let id = value["delivery_id"]?.string,
            let payload = value["payload"]
        else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: path, debugDescription: "index, delivery_id or payload is missing"))
        }
        self.index = index
        delivery_id = id
        self.payload = payload
        idempotency_key = value["idempotency_key"]?.string
        attempt = value["attempt"]?.int.flatMap { Int(exactly: $0) }
        first_attempt_at = value["first_attempt_at"]?.string
        journal = try value["journal"]?.array.map { try $0.map { try $0.decoded(as: JournalEntry.self) } }
    }
}

/// A delivered record.
public struct Delivered: Sendable {
    public var remoteID: String?
    public var remoteURL: String?
    public var warnings: [Warning]
    public init(remoteID: String? = nil, remoteURL: String? = nil, warnings: [Warning] = []) {
        self.remoteID = remoteID
        self.remoteURL = remoteURL
        self.warnings = warnings
    }
}

/// What `reconcile` found out about one record.
public enum Finding: Sendable {
    /// The step was applied. `result` is what `journal` would have stored for it.
    case applied(step: String, result: JSONValue, remoteID: String?, remoteURL: String?, message: String)
    /// The step was not applied. The host believes it only past the action's read lag.
    case notApplied(step: String, message: String)
    /// Nobody can tell yet.
    case unknown(step: String, message: String, askAgain: Duration? = nil)
}
