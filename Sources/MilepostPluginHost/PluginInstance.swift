// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
internal import Synchronization

/// One connection's side of a plugin. Survives the worker's crashes: a later `perform` makes it anew.
public final class PluginInstance: Sendable {
    /// An operation that the plugin has, or is about to have.
    struct Operation {
        let verb: PluginVerb?  // nil: creation
        let deadline: UInt64
        let attachment: Attachment
        /// What a crash is charged to.
        var records: [DeliveryID] = []
        let continuation: CheckedContinuation<OperationResult, Never>
        var partials: [[UInt8]] = []
        var touchedNetwork = false
        var misbehaviour: [String] = []
        var isCancelled = false
    }

    /// A host call whose event is still to come.
    struct PendingCall {
        let token: UInt64
        let operation: UInt64
        let isHTTP: Bool
        /// Nil for the moment in which it is made.
        var task: Task<Void, Never>?
        var isCancelled = false
    }

    enum Link {
        case detached
        case attaching([CheckedContinuation<Void, Never>])
        case attached(Attachment)
        case condemned(String)
        case closed
    }

    struct State {
        var link = Link.detached
        var operations: [UInt64: Operation] = [:]
        var creation: (operation: UInt64, instance: UInt64, transport: any PluginTransport)?
        var calls: [UInt64: PendingCall] = [:]
        var config: [UInt8]
    }

    public let connection: ConnectionID
    public var plugin: PluginName { owner.name }
    let owner: LoadedPlugin
    let core: HostCore
    let state: Mutex<State>

    init(connection: ConnectionID, plugin: LoadedPlugin, config: [UInt8]) {
        self.connection = connection
        owner = plugin
        core = plugin.core
        state = Mutex(State(config: config))
    }

    /// An id for `perform`, known before the plugin is: host calls of the operation carry it.
    public func reserveOperation() -> UInt64 { core.makeID() }

    /// Asks the plugin for one operation and waits for its end, which comes at the latest at `timeout` plus the grace.
    ///
    /// - Parameters:
    ///   - body: JSON, the verb's request.
    ///   - timeout: becomes the absolute deadline that the plugin sees.
    ///   - attempt: 1 for the first.
    ///   - operation: from `reserveOperation`, or nil for a fresh one.
    ///   - records: the deliveries in `body`, so that a crash is charged to them (decisions 20).
    /// - Returns: never throws: a crash, a hang or a quarantine is a status. `retry` with the codes `plugin_restarting`,
    ///   `plugin_quarantined`, `plugin_busy` or `plugin_closed` means that the plugin was not reached.
    public func perform(
        _ verb: PluginVerb, body: [UInt8], timeout: Duration, attempt: UInt32 = 1, operation: UInt64? = nil,
        records: [DeliveryID] = []
    ) async -> OperationResult {
        guard owner.supports(verb) else { return OperationResult(status: .unsupported) }
        let deadline = core.now.addingSaturating(timeout.nanoseconds)
        if let refusal = await attachIfNeeded(until: deadline) { return refusal }
        let start = OperationStart(
            id: operation ?? core.makeID(), verb: verb, deadline: deadline, attempt: attempt, body: body)
        return await withTaskCancellationHandler {
            await withCheckedContinuation { begin(start, records, $0) }
        } onCancel: {
            cancel(start.id)
        }
    }

    /// New public facts of a credential: the plugin's copy changes, and it hears of it.
    public func credentialChanged(_ name: String) {
        guard case .attached(let attachment) = state.withLock({ $0.link }) else { return }
        let facts = core.services.credentialInfo(name, for: connection) ?? Array("{}".utf8)
        attachment.transport.update(credential: name, facts: facts, instance: attachment.id)
        var event = PluginEvent(.credential, token: 0)
        event.json = facts
        attachment.transport.deliver(event, instance: attachment.id)
    }

    /// The configuration for the next incarnation; a running one is told of it (`MP_EVENT_CONFIG`).
    public func replaceConfig(_ config: [UInt8]) {
        let link = state.withLock { state in
            state.config = config
            return state.link
        }
        guard case .attached(let attachment) = link else { return }
        var event = PluginEvent(.config, token: 0)
        event.json = config
        attachment.transport.deliver(event, instance: attachment.id)
    }

    /// Shuts the instance down: the plugin gets the shutdown budget to finish, then everything of it is given up.
    public func close() async {
        let attached: Attachment? = state.withLock {
            if case .attached(let attachment) = $0.link { attachment } else { nil }
        }
        if attached != nil {
            _ = await perform(.shutdown, body: Array("{}".utf8), timeout: core.configuration.shutdownBudget)
        }
        let (link, calls) = state.withLock { state in
            defer {
                state.link = .closed
                state.calls = [:]
            }
            return (state.link, state.calls.values.filter { !$0.isHTTP })
        }
        for call in calls { call.task?.cancel() }
        if case .attached(let attachment) = link { attachment.transport.destroy(instance: attachment.id) }
        resumeWaiting(for: link)
        // What the plugin left open at its shutdown has an unknown outcome, as after a crash.
        for operation in state.withLock({ Array($0.operations.keys) }) {
            finish(
                operation, status: .crashed,
                body: HostError.json(code: "plugin_closed", message: "the connection was closed while this ran"))
        }
        owner.forget(self)
    }

    // MARK: Starting and ending

    private func begin(
        _ start: OperationStart, _ records: [DeliveryID], _ continuation: CheckedContinuation<OperationResult, Never>
    ) {
        enum Decision { case go(Attachment), refuse(String, String) }
        let decision: Decision = state.withLock { state in
            guard case .attached(let attachment) = state.link else {
                return .refuse("plugin_restarting", "the plugin stopped before the operation reached it")
            }
            guard state.operations.count < core.configuration.operationsPerInstance, state.operations[start.id] == nil
            else { return .refuse("plugin_busy", "too many operations wait for this connection's plugin") }
            state.operations[start.id] = Operation(
                verb: start.verb, deadline: start.deadline, attachment: attachment, records: records,
                continuation: continuation)
            return .go(attachment)
        }
        switch decision {
        case .refuse(let code, let message):
            continuation.resume(
                returning: OperationResult(status: .retry, body: HostError.json(code: code, message: message)))
        case .go(let attachment):
            core.loop.beAlert(now: core.now)
            if !attachment.transport.start(start, instance: attachment.id) {
                finish(
                    start.id, status: .retry,
                    body: HostError.json(code: "plugin_restarting", message: "the worker ended before it was asked"))
            }
            if Task.isCancelled { cancel(start.id) }
        }
    }

    /// Ends an operation once. False when it had ended, or never was.
    @discardableResult
    func finish(_ operation: UInt64, status: PluginStatus, body: [UInt8]) -> Bool {
        guard let ended = state.withLock({ $0.operations.removeValue(forKey: operation) }) else { return false }
        ended.continuation.resume(
            returning: OperationResult(
                status: status, body: body, partials: ended.partials, touchedNetwork: ended.touchedNetwork,
                misbehaviour: ended.misbehaviour))
        return true
    }

    private func cancel(_ operation: UInt64) {
        let attachment = state.withLock { state -> Attachment? in
            guard state.operations[operation]?.isCancelled == false else { return nil }
            state.operations[operation]?.isCancelled = true
            return state.operations[operation]?.attachment
        }
        attachment?.transport.cancel(operation: operation, instance: attachment?.id ?? 0)
    }

    /// - Returns: whether there was any.
    @discardableResult
    func cancelCalls(_ isMeant: (PendingCall) -> Bool) -> Bool {
        let meant = state.withLock { state in
            let ids = state.calls.filter { isMeant($0.value) }.map(\.key)
            for id in ids { state.calls[id]?.isCancelled = true }
            return ids.map { state.calls[$0]?.task }
        }
        for task in meant { task?.cancel() }
        return !meant.isEmpty
    }

    // MARK: Attaching

    /// Nil when attached.
    func attachIfNeeded(until deadline: UInt64) async -> OperationResult? {
        while true {
            enum Step { case ready, wait, attach, refuse(String, String) }
            let step: Step = state.withLock { state in
                switch state.link {
                case .attached: return .ready
                case .attaching: return .wait
                case .condemned(let reason): return .refuse("plugin_quarantined", reason)
                case .closed: return .refuse("plugin_closed", "the connection was closed")
                case .detached:
                    state.link = .attaching([])
                    return .attach
                }
            }
            switch step {
            case .ready: return nil
            case .attach: return await attach(until: deadline)
            case .refuse(let code, let message):
                return OperationResult(status: .retry, body: HostError.json(code: code, message: message))
            case .wait:
                await withCheckedContinuation { continuation in
                    let isOver = state.withLock { state in
                        guard case .attaching(let waiting) = state.link else { return true }
                        state.link = .attaching(waiting + [continuation])
                        return false
                    }
                    if isOver { continuation.resume() }
                }
                if core.now > deadline {
                    return OperationResult(
                        status: .retry,
                        body: HostError.json(code: "plugin_restarting", message: "the plugin was not ready in time"))
                }
            }
        }
    }

    private func attach(until deadline: UInt64) async -> OperationResult? {
        switch await owner.backend.transport(until: deadline) {
        case .failure(let unavailable):
            settle(.detached)
            return OperationResult(
                status: .retry, body: HostError.json(code: unavailable.code, message: unavailable.message))
        case .success(let transport):
            let attachment = Attachment(transport: transport, id: core.makeID())
            let operation = core.makeID()
            let credentials = owner.manifest.credentialNames.compactMap { name in
                core.services.credentialInfo(name, for: connection).map { (name: name, facts: $0) }
            }
            let result = await withCheckedContinuation { continuation in
                let limit = core.now.addingSaturating(core.configuration.createBudget.nanoseconds)
                let config = state.withLock { state in
                    state.creation = (operation, attachment.id, transport)
                    state.operations[operation] = Operation(
                        verb: nil, deadline: limit, attachment: attachment, continuation: continuation)
                    return state.config
                }
                core.loop.beAlert(now: core.now)
                transport.attach(self, id: attachment.id, config: config, credentials: credentials)
            }
            // Judged and changed under one lock: the transport may be lost at any moment, and tells it once.
            let (isAttached, waiting) = state.withLock { state -> (Bool, [CheckedContinuation<Void, Never>]) in
                defer { state.creation = nil }
                guard case .attaching(let waiting) = state.link else { return (false, []) }
                let isAttached = result.status == .ok && state.creation != nil
                state.link = isAttached ? .attached(attachment) : .detached
                return (isAttached, waiting)
            }
            // Refused, or closed meanwhile: nobody else tells the plugin that this instance is over.
            if !isAttached { transport.destroy(instance: attachment.id) }
            for continuation in waiting { continuation.resume() }
            return result.status == .ok ? nil : result
        }
    }

    /// Leaves the attaching state, unless something final happened meanwhile, and lets the waiting look again.
    private func settle(_ link: Link) {
        let waiting = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            guard case .attaching(let waiting) = state.link else { return [] }
            state.link = link
            return waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    /// Who waits for an attaching that something final has overtaken looks again; `settle` does not know of them any more.
    private func resumeWaiting(for link: Link) {
        guard case .attaching(let waiting) = link else { return }
        for continuation in waiting { continuation.resume() }
    }

    /// The plugin's answer to `create`.
    func created(_ instance: UInt64, status: Int32) {
        guard let creation = state.withLock({ $0.creation }), creation.instance == instance else { return }
        let known = PluginStatus(rawValue: status) ?? .pluginBug
        finish(
            creation.operation, status: known,
            body: known == .ok
                ? []
                : HostError.json(
                    code: "create_refused", message: "the plugin refused the connection's settings (\(known))"))
    }

    /// The transport is gone: its operations crashed, its calls go on without a listener.
    func lost(_ transport: any PluginTransport, reason: String) {
        let ended = state.withLock { state -> [UInt64] in
            if case .attached(let attachment) = state.link, attachment.transport === transport {
                state.link = .detached
            }
            // Created, and gone before anybody saw that: what follows must not take it for attached.
            if let creation = state.creation, creation.transport === transport { state.creation = nil }
            return state.operations.filter { $0.value.attachment.transport === transport }.map(\.key)
        }
        for operation in ended {
            finish(operation, status: .crashed, body: HostError.json(code: "plugin_crashed", message: reason))
        }
    }

    /// A newer worker has taken over: the next operation goes there, running ones end where they are.
    func release(_ transport: any PluginTransport) {
        state.withLock { state in
            if case .attached(let attachment) = state.link, attachment.transport === transport {
                state.link = .detached
            }
        }
    }

    /// The records that the transport has in flight for this connection.
    func records(on transport: any PluginTransport) -> [DeliveryID] {
        state.withLock { $0.operations.values.filter { $0.attachment.transport === transport }.flatMap(\.records) }
    }

    func isUsing(_ transport: any PluginTransport) -> Bool {
        state.withLock { $0.operations.values.contains { $0.attachment.transport === transport } }
    }

    /// Inline only: the thread does not come back, so nothing is ever asked of this instance again.
    func condemned(_ reason: String) {
        let (ended, link) = state.withLock { state -> ([UInt64], Link) in
            defer { state.link = .condemned(reason) }
            return (Array(state.operations.keys), state.link)
        }
        resumeWaiting(for: link)
        for operation in ended {
            finish(operation, status: .deadline, body: HostError.json(code: "plugin_hung", message: reason))
        }
    }

    /// Cancels what is past its deadline, and gives up what is past the grace as well. On the loop's thread.
    func checkDeadlines(now: UInt64) {
        let grace = core.configuration.grace.nanoseconds
        var cancelled: [(UInt64, Attachment)] = []
        var overdue: [(UInt64, Attachment, String)] = []
        state.withLock { state in
            for (id, operation) in state.operations where operation.deadline <= now {
                if operation.deadline.addingSaturating(grace) <= now {
                    let verb = operation.verb.map { "\($0)" } ?? "create"
                    overdue.append((id, operation.attachment, verb))
                } else if !operation.isCancelled {
                    state.operations[id]?.isCancelled = true
                    cancelled.append((id, operation.attachment))
                }
            }
        }
        for (id, attachment) in cancelled {
            cancelCalls { $0.operation == id && $0.isHTTP }
            attachment.transport.cancel(operation: id, instance: attachment.id)
        }
        for (id, attachment, verb) in overdue {
            let reason = "\(verb) for \(connection) was not answered within its deadline and the grace"
            core.services.metric(.host(plugin: owner.name, event: "hang", code: verb))
            // In this order: whoever hears of the end must not be sent to the same transport again.
            release(attachment.transport)
            attachment.transport.condemn(reason, instance: attachment.id)
            finish(id, status: .deadline, body: HostError.json(code: "plugin_hung", message: reason))
        }
    }
}
