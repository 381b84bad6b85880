// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin

/// Why a service of the host did not do what was asked.
public struct HostCallError: Error, Hashable, Sendable {
    /// A struct, so that a later minor adds one without breaking anybody's switch.
    public struct Code: Hashable, Sendable {
        /// For logs; stable.
        public let name: String
        /// A queue is full; try again after the next event.
        public static let busy = Code(name: "busy")
        /// The operation or the instance is over.
        public static let stale = Code(name: "stale")
        /// An argument breaks a rule; for storage also: the stored version is another one.
        public static let invalid = Code(name: "invalid")
        /// This host does not offer the service.
        public static let unsupported = Code(name: "unsupported")
        /// Past a limit of the host.
        public static let tooLarge = Code(name: "too_large")
        /// Not in the manifest.
        public static let denied = Code(name: "denied")
        public static let notFound = Code(name: "not_found")
        /// The task was cancelled while it waited. The host may still have done what was asked.
        public static let cancelled = Code(name: "cancelled")
        /// The host's answer cannot be read.
        public static let unreadable = Code(name: "unreadable")
    }

    public var code: Code
    /// The host's function: "kv_get", "timer_set", "sign" …
    public var call: String

    public init(code: Code, call: String) {
        self.code = code
        self.call = call
    }

    /// - Parameter status: an MP_CALL_… other than OK, or nil when the wait was given up.
    init(status: Int32?, call: String) {
        let code: Code =
            switch status {
            case nil: .cancelled
            case MP_CALL_BUSY: .busy
            case MP_CALL_STALE: .stale
            case MP_CALL_INVALID: .invalid
            case MP_CALL_UNSUPPORTED: .unsupported
            case MP_CALL_TOO_LARGE: .tooLarge
            case MP_CALL_DENIED: .denied
            case MP_CALL_NOT_FOUND: .notFound
            default: .unreadable
            }
        self.init(code: code, call: call)
    }
}

/// The connection's small storage, kept by the host: 64 KiB a value, 1 MiB in all by default.
public struct KeyValueStorage: Sendable {
    let calls: HostCalls

    public struct Entry: Hashable, Sendable {
        public var value: [UInt8]
        /// Grows with every write; hand it to `put` or `delete` to notice a writer in between.
        public var version: UInt64
    }

    /// - Returns: nil when nothing is stored under the key, or its time is over.
    public func get(_ key: String) async throws(HostCallError) -> Entry? {
        let answer = await calls.answer { calls.host.storageGet($0, key: key) }
        if answer.status == MP_CALL_NOT_FOUND { return nil }
        let version = try Self.checked(answer, "kv_get", as: Version.self).version ?? 0
        return Entry(value: answer.data, version: version)
    }

    /// Stores a value and returns its version (0 when the host does not tell it).
    /// - Parameters:
    ///   - version: the version that must be stored now; nil writes whatever is there.
    ///   - lifetime: how long the value is kept, at least a millisecond; nil is for good.
    /// - Throws: `.invalid` when another version is stored, `.tooLarge` past the host's limits.
    @discardableResult
    public func put(
        _ key: String, _ value: [UInt8], ifVersion version: UInt64? = nil, lifetime: Duration? = nil
    ) async throws(HostCallError) -> UInt64 {
        // 0 means "for good" on the wire, so a lifetime that rounds down to it is one millisecond.
        let milliseconds = lifetime.map { UInt64(max(1, $0.milliseconds)) } ?? 0
        let answer = await calls.answer {
            calls.host.storagePut($0, key: key, value: value, version: version ?? 0, lifetime: milliseconds)
        }
        return try Self.checked(answer, "kv_put", as: Version.self).version ?? 0
    }

    /// Removes a value.
    /// - Returns: false when there was none.
    /// - Throws: `.invalid` when a version is given and another one is stored.
    @discardableResult
    public func delete(_ key: String, ifVersion version: UInt64? = nil) async throws(HostCallError) -> Bool {
        let answer = await calls.answer { calls.host.storageDelete($0, key: key, version: version ?? 0) }
        if answer.status == MP_CALL_NOT_FOUND { return false }
        _ = try Self.checked(answer, "kv_delete", as: JSONValue.self)
        return true
    }

    /// The keys that begin with a prefix.
    public func keys(prefix: String = "") async throws(HostCallError) -> [String] {
        let answer = await calls.answer { calls.host.storageList($0, prefix: prefix) }
        return try Self.checked(answer, "kv_list", as: Keys.self).keys
    }

    private struct Version: Decodable { var version: UInt64? }
    private struct Keys: Decodable { var keys: [String] }

    private static func checked<Body: Decodable>(
        _ answer: HostCalls.HostAnswer, _ call: String, as type: Body.Type
    ) throws(HostCallError) -> Body {
        guard answer.status == MP_CALL_OK else { throw HostCallError(status: answer.status, call: call) }
        do { return try jsonValue(answer.json.isEmpty ? Array("{}".utf8) : answer.json) } catch {
            throw HostCallError(code: .unreadable, call: call)
        }
    }
}

extension PluginContext {
    /// The connection's small storage.
    public var storage: KeyValueStorage { KeyValueStorage(calls: calls) }

    /// Waits by the host's clock, ten milliseconds at least; no thread is held.
    /// - Throws: `.cancelled` at once when the task is cancelled; the timer is cleared then.
    public func sleep(for duration: Duration) async throws(HostCallError) {
        let milliseconds = UInt64(max(0, duration.milliseconds))
        let host = calls.host
        let answer = await calls.answer(
            to: { host.timer($0, delay: milliseconds) }, whenGivenUp: { host.clearTimer($0) })
        guard answer.status == MP_CALL_OK else { throw HostCallError(status: answer.status, call: "timer_set") }
    }

    /// Signs bytes with a credential, for schemes that no placement covers.
    /// - Parameter scheme: "hmac-sha256", "ed25519".
    /// - Throws: `.unsupported` when the host or the credential's scheme has no such signature.
    public func sign(_ bytes: [UInt8], credential: String, scheme: String) async throws(HostCallError) -> [UInt8] {
        let answer = await calls.answer {
            calls.host.sign($0, credential: credential, scheme: scheme, bytes: bytes)
        }
        guard answer.status == MP_CALL_OK else { throw HostCallError(status: answer.status, call: "sign") }
        return answer.data
    }
}

/// A plugin that wants to be told when a credential changed: refreshed, replaced, other scopes.
public protocol CredentialObserving: Plugin {
    /// Called on the host's thread between operations: note it and return, the contract asks for speed.
    /// `facts` are public ones (`ref`, `scheme`, `account`, `expires_at`, `scopes`), never the secret.
    func credentialChanged(_ facts: JSONValue)
}

/// A plugin that wants to be told of a new configuration without being made anew.
public protocol ConfigurationObserving: Plugin {
    /// Called on the host's thread between operations: note it and return, the contract asks for speed.
    func configurationChanged(_ configuration: InstanceConfiguration)
}
