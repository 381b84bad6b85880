// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
public import MilepostKit
import Synchronization

/// What a plugin counted or observed: indexes as they crossed the boundary.
public struct CountedMetric: Hashable, Sendable {
    public var index: UInt32
    public var value: Int64
    public var labels: [UInt32]
    public var isObservation: Bool
    public init(index: UInt32, value: Int64, labels: [UInt32], isObservation: Bool) {
        self.index = index
        self.value = value
        self.labels = labels
        self.isObservation = isObservation
    }
}

/// Storage in memory, timers of a virtual clock, signatures that are recognisable: enough to test a plugin with.
struct FakeServices {
    struct Stored {
        var value: [UInt8]
        var version: UInt64
        var expires: UInt64?
    }
    var storage: [String: Stored] = [:]
    /// Milliseconds of the virtual clock; both clocks start at one second.
    var now: UInt64 = 1_000
    var timers: [UInt64: UInt64] = [:]
    var cleared: [UInt64] = []
    var counted: [CountedMetric] = []
    var logged: [String] = []
    var credentials: [String: JSONValue] = [:]
    /// Kinds whose events are swallowed, so that a wait lasts.
    var silent: Set<Int32> = []
    var swallowed = 0
    var random: UInt8 = 0
}

extension FakeHost {
    /// Swallows the events of this kind (MP_EVENT_…) from now on.
    public func silence(_ kind: Int32) { services.withLock { _ = $0.silent.insert(kind) } }
    /// How many events were swallowed: a test waits for one before it cancels.
    public var swallowedEvents: Int { services.withLock { $0.swallowed } }
    public var pendingTimers: Int { services.withLock { $0.timers.count } }
    public var clearedTimers: Int { services.withLock { $0.cleared.count } }
    public var counted: [CountedMetric] { services.withLock { $0.counted } }
    public var logged: [String] { services.withLock { $0.logged } }
    public func setFacts(_ facts: JSONValue, of credential: String) {
        services.withLock { $0.credentials[credential] = facts }
    }

    /// Moves the virtual clock; timers whose time has come fire.
    public func advance(milliseconds: UInt64) {
        let due = services.withLock { services in
            services.now += milliseconds
            let due = services.timers.filter { $0.value <= services.now }.keys.sorted()
            for token in due { services.timers[token] = nil }
            return due
        }
        for token in due { send(kind: MP_EVENT_TIMER, op: 0, token: token) }
    }

    /// Tells the plugin something unasked: MP_EVENT_CREDENTIAL, MP_EVENT_CONFIG, or a kind it does not know.
    public func tell(_ kind: Int32, _ json: [UInt8]) { send(kind: kind, op: 0, token: 0, jsonBytes: json) }

    // MARK: What the plugin calls

    func storageGet(_ key: String, token: UInt64) -> Int32 {
        let stored = services.withLock { $0.live(key) }
        return answerStorage(
            token, stored == nil ? MP_CALL_NOT_FOUND : MP_CALL_OK, version: stored?.version, data: stored?.value ?? [])
    }

    func storagePut(_ key: String, _ value: [UInt8], version: UInt64, lifetime: UInt64, token: UInt64) -> Int32 {
        guard value.count <= 65_536 else { return MP_CALL_TOO_LARGE }
        let stored = services.withLock { services -> UInt64? in
            let current = services.live(key)
            if version != 0, current?.version != version { return nil }
            let next = (current?.version ?? 0) + 1
            services.storage[key] = FakeServices.Stored(
                value: value, version: next, expires: lifetime == 0 ? nil : services.now + lifetime)
            return next
        }
        return answerStorage(token, stored == nil ? MP_CALL_INVALID : MP_CALL_OK, version: stored)
    }

    func storageDelete(_ key: String, version: UInt64, token: UInt64) -> Int32 {
        let status = services.withLock { services -> Int32 in
            guard let current = services.live(key) else { return MP_CALL_NOT_FOUND }
            if version != 0, current.version != version { return MP_CALL_INVALID }
            services.storage[key] = nil
            return MP_CALL_OK
        }
        return answerStorage(token, status, version: nil)
    }

    func storageList(_ prefix: String, token: UInt64) -> Int32 {
        let keys = services.withLock { services in
            services.storage.keys.filter { $0.hasPrefix(prefix) && services.live($0) != nil }.sorted()
        }
        let json = JSONValue.object(["keys": .array(keys.map { .string($0) })])
        later { self.send(kind: MP_EVENT_KV, op: 0, token: token, json: json) }
        return MP_CALL_OK
    }

    private func answerStorage(_ token: UInt64, _ status: Int32, version: UInt64?, data: [UInt8] = []) -> Int32 {
        let json: JSONValue = version.map { ["version": .int(Int64($0))] } ?? [:]
        later { self.send(kind: MP_EVENT_KV, op: 0, token: token, status: status, json: json, data: data) }
        return MP_CALL_OK
    }

    func setTimer(_ token: UInt64, milliseconds: UInt64) -> Int32 {
        services.withLock { $0.timers[token] = $0.now + max(10, milliseconds) }
        return MP_CALL_OK
    }

    func clearTimer(_ token: UInt64) -> Int32 {
        services.withLock { services in
            services.cleared.append(token)
            return services.timers.removeValue(forKey: token) == nil ? MP_CALL_STALE : MP_CALL_OK
        }
    }

    /// The signature is scheme, credential and bytes in a row, so that a test sees what was signed with what.
    func sign(_ bytes: [UInt8], _ credential: String, _ scheme: String, token: UInt64) -> Int32 {
        let isKnown = scheme == "hmac-sha256"
        let data = Array("\(scheme)|\(credential)|".utf8) + bytes
        later {
            self.send(
                kind: MP_EVENT_SIGNATURE, op: 0, token: token, status: isKnown ? MP_CALL_OK : MP_CALL_UNSUPPORTED,
                data: isKnown ? data : [])
        }
        return MP_CALL_OK
    }

    func facts(of credential: String) -> [UInt8]? { services.withLock { $0.credentials[credential] }?.bytes }
    func count(_ metric: CountedMetric) { services.withLock { $0.counted.append(metric) } }
    func noteLog(_ message: String) { services.withLock { $0.logged.append(message) } }
    func randomByte() -> UInt8 {
        services.withLock { services in
            services.random &+= 37
            return services.random
        }
    }
    var clock: UInt64 { services.withLock { $0.now * 1_000_000 } }
}

extension FakeServices {
    /// What is stored and not over.
    func live(_ key: String) -> Stored? {
        guard let stored = storage[key], stored.expires.map({ $0 > now }) ?? true else { return nil }
        return stored
    }
}
