// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel
internal import Synchronization

/// What a plugin asks for, from either transport: checked here, handed to the services, answered by an event.
///
/// Every function returns a `PluginCallStatus` at once and never blocks. With `ok` exactly one event follows.
extension PluginInstance {
    /// A request as it came, unchecked.
    struct HTTPDraft {
        var operation: UInt64 = 0
        var token: UInt64 = 0
        var flags: UInt32 = 0
        var method: [UInt8] = []
        var url: [UInt8] = []
        var headers: [(name: [UInt8], value: [UInt8])] = []
        var body: [UInt8] = []
        var credential: [UInt8]?
        var placement: [UInt8]?
        var step: [UInt8]?
        var records: [UInt32] = []
        var responseCap: UInt64 = 0
        var timeoutMilliseconds: UInt32 = 0
        var cost: UInt32 = 0
        var bucket: [UInt8]?
    }

    private static let methods: Set<String> = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
    private static let maximumURL = 16 * 1024
    private static let maximumHeaders = 64
    private static let maximumHeaderBytes = 64 * 1024
    private static let maximumRecords = 10_000
    private static let maximumName = 256
    /// Timers and look-ups are small; a result that does not fit is a misunderstanding.
    private static let maximumResult = 16 * 1024 * 1024

    func complete(_ operation: UInt64, status: Int32, body: [UInt8]) -> Int32 {
        guard body.count <= Self.maximumResult else {
            finish(
                operation, status: .pluginBug,
                body: HostError.json(code: "result_too_large", message: "the plugin's result exceeds 16 MiB"))
            return PluginCallStatus.tooLarge
        }
        let known = PluginStatus(rawValue: status)
        let isPluginStatus = (0...PluginStatus.cancelled.rawValue).contains(status)
        let ended =
            if let known, isPluginStatus {
                finish(operation, status: known, body: body)
            } else {
                finish(
                    operation, status: .pluginBug,
                    body: HostError.json(code: "status_unknown", message: "the plugin completed with status \(status)"))
            }
        if ended { return PluginCallStatus.ok }
        owner.noteMisbehaviour("completed operation \(operation) a second time; ignored", connection, operation)
        return PluginCallStatus.stale
    }

    /// The verb's own refusal: no completion follows.
    func notAccepted(_ operation: UInt64, status: Int32) {
        let known = PluginStatus(rawValue: status) ?? .pluginBug
        finish(
            operation, status: known == .ok ? .pluginBug : known,
            body: HostError.json(code: "not_accepted", message: "the plugin did not accept the operation"))
    }

    func partial(_ operation: UInt64, body: [UInt8]) -> Int32 {
        guard body.count <= Self.maximumResult else { return PluginCallStatus.tooLarge }
        return state.withLock { state in
            guard let count = state.operations[operation]?.partials.count else { return PluginCallStatus.stale }
            guard count < Self.maximumRecords else { return PluginCallStatus.tooLarge }
            state.operations[operation]?.partials.append(body)
            return PluginCallStatus.ok
        }
    }

    func submit(_ draft: HTTPDraft, from attachment: Attachment) -> Int32 {
        let call: PluginHTTPCall
        switch check(draft) {
        case .failure(let problem):
            owner.noteMisbehaviour("submitted a request that \(problem.message)", connection, draft.operation)
            note(problem.message, on: draft.operation)
            return PluginCallStatus.invalid
        case .success(let checked): call = checked
        }
        let mayGo: Bool? = state.withLock { state in
            guard state.operations[draft.operation] != nil else { return nil }
            guard state.calls.count < core.configuration.callsPerInstance else { return false }
            state.operations[draft.operation]?.touchedNetwork = true
            return true
        }
        guard let mayGo else { return PluginCallStatus.stale }
        guard mayGo else { return PluginCallStatus.busy }
        let services = core.services
        let connection = connection
        startCall(token: draft.token, operation: draft.operation, isHTTP: true) {
            let result = await services.submitHTTP(call, for: connection)
            var event = PluginEvent(
                .http, token: call.token, operation: call.operation, status: result.callStatus)
            event.wire = result.wire
            event.httpStatus = result.httpStatus
            event.json = result.json
            event.data = result.body
            attachment.transport.deliver(event, instance: attachment.id)
        }
        return PluginCallStatus.ok
    }

    func cancelHTTP(token: UInt64) -> Int32 {
        cancelCalls { $0.isHTTP && $0.token == token } ? PluginCallStatus.ok : PluginCallStatus.stale
    }

    func putJournal(
        _ operation: UInt64, token: UInt64, record: UInt32, step: [UInt8], result: [UInt8], from attachment: Attachment
    ) -> Int32 {
        guard let step = text(step, atMost: Self.maximumName), !step.isEmpty else { return PluginCallStatus.invalid }
        guard result.count <= 64 * 1024 else { return PluginCallStatus.tooLarge }
        guard state.withLock({ $0.operations[operation] != nil }) else { return PluginCallStatus.stale }
        let services = core.services
        let connection = connection
        return startBoundedCall(token: token, operation: operation) {
            let status = await services.storeJournal(
                connection: connection, op: operation, record: record, step: step, result: result)
            attachment.transport.deliver(
                PluginEvent(.journal, token: token, operation: operation, status: status), instance: attachment.id)
        }
    }

    func keyValue(_ request: KeyValueRequest, token: UInt64, from attachment: Attachment) -> Int32 {
        switch request {
        case .get(let key), .delete(let key, _), .list(let key):
            guard key.count <= Self.maximumName else { return PluginCallStatus.tooLarge }
        case .put(let key, let value, _, _):
            guard key.count <= Self.maximumName, value.count <= 64 * 1024 else { return PluginCallStatus.tooLarge }
        }
        let services = core.services
        let connection = connection
        return startBoundedCall(token: token, operation: 0) {
            let result = await services.keyValue(request, for: connection)
            var event = PluginEvent(.keyValue, token: token, status: result.callStatus)
            event.json = result.json
            event.data = result.value
            attachment.transport.deliver(event, instance: attachment.id)
        }
    }

    func sign(_ credential: [UInt8], scheme: [UInt8], bytes: [UInt8], token: UInt64, from attachment: Attachment)
        -> Int32
    {
        guard let credential = text(credential, atMost: Self.maximumName),
            let scheme = text(scheme, atMost: Self.maximumName)
        else { return PluginCallStatus.invalid }
        guard owner.manifest.credentialNames.contains(credential) else { return PluginCallStatus.denied }
        let request = PluginSignatureRequest(credential: credential, scheme: scheme, bytes: bytes)
        let services = core.services
        let connection = connection
        return startBoundedCall(token: token, operation: 0) {
            let result = await services.sign(request, for: connection)
            var event = PluginEvent(.signature, token: token, status: result.callStatus)
            event.data = result.signature
            attachment.transport.deliver(event, instance: attachment.id)
        }
    }

    func setTimer(token: UInt64, delayMilliseconds: UInt64, from attachment: Attachment) -> Int32 {
        // Floor 10 ms by the header; a day and more is a scheduler's business, not a translator's.
        guard delayMilliseconds <= 86_400_000 else { return PluginCallStatus.invalid }
        let delay = Duration.milliseconds(Int64(max(delayMilliseconds, 10)))
        let clock = core.clock
        return startBoundedCall(token: token, operation: 0, isTimer: true) {
            do { try await clock.sleep(delay) } catch { return }  // cleared: no event comes
            attachment.transport.deliver(PluginEvent(.timer, token: token), instance: attachment.id)
        }
    }

    func clearTimer(token: UInt64) -> Int32 {
        cancelCalls { $0.operation == .max && $0.token == token } ? PluginCallStatus.ok : PluginCallStatus.stale
    }

    func rejectCredential(_ credential: [UInt8], reason: [UInt8], operation: UInt64) -> Int32 {
        guard let name = text(credential, atMost: Self.maximumName) else { return PluginCallStatus.invalid }
        guard owner.manifest.credentialNames.contains(name) else { return PluginCallStatus.denied }
        let sentence = text(reason, atMost: 4096) ?? "no readable reason"
        core.services.credentialRejected(name, reason: sentence, op: operation, for: connection)
        return PluginCallStatus.ok
    }

    func log(_ level: Int32, operation: UInt64, message: [UInt8], fields: [UInt8]?) {
        guard level >= core.logLevel else { return }
        owner.log(
            PluginLogLine(
                plugin: owner.name, connection: connection, operation: operation == 0 ? nil : operation,
                level: min(max(level, 0), 4), source: .plugin,
                message: String(decoding: message.prefix(4096), as: UTF8.self),
                fields: (fields?.count ?? 0) <= 16 * 1024 ? fields : nil))
    }

    func metric(isObservation: Bool, index: UInt32, value: Int64, labels: [UInt32]) -> Int32 {
        guard Int(index) < (owner.manifest.metrics?.count ?? 0) else { return PluginCallStatus.denied }
        guard labels.count <= 16 else { return PluginCallStatus.tooLarge }
        core.services.metric(
            isObservation
                ? .observe(plugin: owner.name, connection: connection, metric: index, value: value, labels: labels)
                : .add(plugin: owner.name, connection: connection, metric: index, value: value, labels: labels))
        return PluginCallStatus.ok
    }

    // MARK: Details

    private func startBoundedCall(
        token: UInt64, operation: UInt64, isTimer: Bool = false, _ body: @escaping @Sendable () async -> Void
    ) -> Int32 {
        guard state.withLock({ $0.calls.count < core.configuration.callsPerInstance }) else {
            return PluginCallStatus.busy
        }
        startCall(token: token, operation: isTimer ? .max : operation, isHTTP: false, body)
        return PluginCallStatus.ok
    }

    /// Owned by this instance: listed until it ends, cancelled by `close` (HTTP excepted, whose outcome is wanted),
    /// by its operation's deadline, or by the plugin.
    private func startCall(
        token: UInt64, operation: UInt64, isHTTP: Bool, _ body: @escaping @Sendable () async -> Void
    ) {
        let id = core.makeID()
        // Listed first, so that the task finds itself however fast it is; made without the lock, because waking a thread
        // for it takes longer than all else and whatever the plugin asks for meanwhile would wait.
        state.withLock { $0.calls[id] = PendingCall(token: token, operation: operation, isHTTP: isHTTP) }
        let task = Task { [self] in
            await body()
            _ = state.withLock { $0.calls.removeValue(forKey: id) }
        }
        let isUnwanted = state.withLock { state in
            guard let call = state.calls[id] else {
                guard case .closed = state.link else { return false }
                return !isHTTP
            }
            state.calls[id]?.task = task
            return call.isCancelled
        }
        if isUnwanted { task.cancel() }
    }

    private func note(_ problem: String, on operation: UInt64) {
        state.withLock { state in
            guard let count = state.operations[operation]?.misbehaviour.count, count < 16 else { return }
            state.operations[operation]?.misbehaviour.append(problem)
        }
    }

    private func text(_ bytes: [UInt8], atMost limit: Int) -> String? {
        guard bytes.count <= limit else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }

    private func check(_ draft: HTTPDraft) -> Result<PluginHTTPCall, Unavailable> {
        func problem(_ sentence: String) -> Result<PluginHTTPCall, Unavailable> {
            .failure(Unavailable(code: "request_invalid", message: sentence))
        }
        guard let method = text(draft.method, atMost: 16), Self.methods.contains(method) else {
            return problem("has an unknown method")
        }
        guard let url = text(draft.url, atMost: Self.maximumURL), !url.isEmpty else {
            return problem("has no URL, or one longer than \(Self.maximumURL) bytes")
        }
        guard draft.headers.count <= Self.maximumHeaders,
            draft.headers.reduce(0, { $0 + $1.name.count + $1.value.count }) <= Self.maximumHeaderBytes
        else { return problem("has more headers than fit") }
        var headers: [(name: String, value: String)] = []
        for header in draft.headers {
            guard let name = text(header.name, atMost: Self.maximumName), !name.isEmpty,
                let value = text(header.value, atMost: Self.maximumHeaderBytes),
                !value.utf8.contains(where: { $0 == 0x0a || $0 == 0x0d || $0 == 0 })
            else { return problem("has a header that is no text of one line") }
            headers.append((name, value))
        }
        let isIdempotent = draft.flags & 1 != 0
        func name(_ bytes: [UInt8]?) -> String? { bytes.flatMap { text($0, atMost: Self.maximumName) } }
        if !isIdempotent && (name(draft.step) ?? "").isEmpty {
            return problem("is not idempotent and names no step")
        }
        guard draft.records.count <= Self.maximumRecords else { return problem("names too many records") }
        return .success(
            PluginHTTPCall(
                plugin: owner.name, operation: draft.operation, token: draft.token, isIdempotent: isIdempotent,
                followsRedirects: draft.flags & 2 != 0, method: method, url: url, headers: headers, body: draft.body,
                credential: name(draft.credential), placement: name(draft.placement), step: name(draft.step),
                records: draft.records, responseCap: draft.responseCap,
                timeout: draft.timeoutMilliseconds == 0 ? nil : .milliseconds(Int64(draft.timeoutMilliseconds)),
                cost: draft.cost, bucket: name(draft.bucket)))
    }
}
