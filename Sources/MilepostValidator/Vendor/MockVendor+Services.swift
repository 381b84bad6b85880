// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel
internal import MilepostPluginHost
internal import Synchronization

/// What a plugin asks besides requests.
extension MockVendor {
    func keyValue(_ request: KeyValueRequest, for connection: ConnectionID) async -> KeyValueResult {
        note("kv \(request.shown)")
        await linger()
        return state.withLock { state in
            if state.storageConflicts { return KeyValueResult(callStatus: PluginCallStatus.invalid, json: []) }
            switch request {
            case .get(let key):
                guard let known = state.values[key] else {
                    return KeyValueResult(callStatus: PluginCallStatus.notFound, json: Array("{}".utf8))
                }
                return KeyValueResult(
                    callStatus: PluginCallStatus.ok, json: Array("{\"version\":\(known.version)}".utf8),
                    value: known.value)
            case .put(let key, let value, let version, _):
                let known = state.values[key]?.version ?? 0
                if version != 0, version != known {
                    return KeyValueResult(callStatus: PluginCallStatus.invalid, json: Array("{}".utf8))
                }
                state.values[key] = (value, known + 1)
                return KeyValueResult(
                    callStatus: PluginCallStatus.ok, json: Array("{\"version\":\(known + 1)}".utf8))
            case .delete(let key, _):
                state.values[key] = nil
                return KeyValueResult(callStatus: PluginCallStatus.ok, json: Array("{}".utf8))
            case .list(let prefix):
                let keys = state.values.keys.filter { $0.starts(with: prefix) }
                    .map { JSONValue.string(String(decoding: $0, as: UTF8.self)) }
                let json: JSONValue = ["keys": .array(keys)]
                return KeyValueResult(callStatus: PluginCallStatus.ok, json: json.bytes)
            }
        }
    }

    func sign(_ request: PluginSignatureRequest, for connection: ConnectionID) async -> PluginSignatureResult {
        note("sign \(request.credential) \(request.scheme) \(request.bytes.count) bytes")
        return PluginSignatureResult(callStatus: PluginCallStatus.ok, signature: [UInt8](repeating: 7, count: 32))
    }

    func credentialInfo(_ name: String, for connection: ConnectionID) -> [UInt8]? {
        guard (manifest["auth"]?.array ?? []).contains(where: { $0.credentialName == name }) else { return nil }
        return Array("{\"scheme\":\"api_key\",\"account\":null,\"expires_at\":null,\"scopes\":[]}".utf8)
    }

    func credentialRejected(_ name: String, reason: String, op: UInt64, for connection: ConnectionID) {
        note("cred_reject \(name) \(reason)")
        state.withLock { $0.rejectedCredentials += 1 }
    }

    func log(_ line: PluginLogLine) {
        // The host's own lines name operations and times, which differ from run to run.
        if line.source == .plugin {
            note(
                "log \(line.level) \(line.message) \(line.fields.map { String(decoding: $0, as: UTF8.self) } ?? "")")
        }
        state.withLock { $0.lines.append(line) }
    }

    func metric(_ metric: PluginMetric) {
        switch metric {
        case .add(_, _, let index, let value, let labels): note("metric_add \(index) \(value) \(labels)")
        case .observe(_, _, let index, let value, let labels): note("metric_observe \(index) \(value) \(labels)")
        case .host: break
        }
    }
}

extension KeyValueRequest {
    fileprivate var shown: String {
        func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
        return switch self {
        case .get(let key): "get \(text(key))"
        case .put(let key, let value, let version, _): "put \(text(key)) version=\(version) \(text(value))"
        case .delete(let key, let version): "delete \(text(key)) version=\(version)"
        case .list(let prefix): "list \(text(prefix))"
        }
    }
}

extension JSONValue {
    /// Of an entry of the manifest's `auth`.
    var credentialName: String? { self["credential"]?.string ?? self["scheme"]?.string }
}
