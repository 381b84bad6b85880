// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux
internal import Glibc
internal import MilepostModel
internal import Synchronization

/// What a worker said about itself once its plugin was loaded.
struct WorkerAnnouncement: Sendable {
    let minHostMinor: UInt32
    let verbs: UInt64
    let describeCPU: UInt64
    let describeWall: UInt64
    let manifest: [UInt8]
}

/// Hears what becomes of a process, on the loop's thread.
protocol WorkerObserver: AnyObject, Sendable {
    func loaded(_ process: WorkerProcess, _ announcement: WorkerAnnouncement)
    func refused(_ process: WorkerProcess, reason: UInt64, detail: String)
    /// `records` were in flight.
    func ended(_ process: WorkerProcess, reason: String, records: Set<DeliveryID>)
}

/// One incarnation of a worker: its descriptors, what waits to be sent, and the instances it holds.
///
/// Sends come from any thread; reading, spawning and reaping happen on the loop's.
final class WorkerProcess: PluginTransport {
    struct Descriptors {
        var channel: Int32 = -1
        var process: Int32 = -1
        var output: Int32 = -1
        var errors: Int32 = -1
        var tags: [UInt64] = []
    }

    struct State {
        var descriptors = Descriptors()
        var processID: Int32 = 0
        var sentSequence: UInt64 = 0
        var receivedSequence: UInt64 = 0
        var waiting: [(frame: milepost_frame, payload: [UInt8])] = []
        var waitingBytes = 0
        var instances: [UInt64: PluginInstance] = [:]
        var lastHeard: UInt64 = 0
        /// With the records in flight at that moment: a hung operation is given up before the process has ended.
        var condemned: (reason: String, at: UInt64, records: Set<DeliveryID>)?
        /// The channel's other end is gone; the process should be as well, and tell why better than we could.
        var closedAt: UInt64?
        var isLoaded = false
        var hasEnded = false
        var lastErrorLine: String?
        var partialLines: [UInt64: [UInt8]] = [:]
        var landlockABI: UInt32 = 0
        var seccompStages: UInt32 = 0
        var cpu: UInt64 = 0
        var warnedOfCall: UInt64 = 0
    }

    /// A worker that leaves this much undrained is hung by definition.
    private static let waitingFramesMaximum = 8192
    private static let waitingBytesMaximum = 64 * 1024 * 1024
    /// A killed process in an uninterruptible wait does not end on request; past this it is left to itself.
    private static let reapPatience: UInt64 = 5_000_000_000
    /// A process that closed its channel has this long to be gone.
    private static let closingPatience: UInt64 = 200_000_000
    /// Frames read at once, so that one talkative worker does not starve the others.
    private static let framesPerTurn = 256
    private static let lineMaximum = 4096

    let core: HostCore
    let plugin: LoadedPlugin
    let manifest: PluginManifest
    let manifestBytes: [UInt8]
    let library: String
    private let observer: any WorkerObserver
    let state = Mutex(State())

    init(
        plugin: LoadedPlugin, manifest: PluginManifest, manifestBytes: [UInt8], library: String,
        observer: any WorkerObserver
    ) {
        core = plugin.core
        self.plugin = plugin
        self.manifest = manifest
        self.manifestBytes = manifestBytes
        self.library = library
        self.observer = observer
    }

    // MARK: Starting

    /// On the loop's thread, which is permanent. Returns an error sentence when nothing could be started.
    func spawn() -> String? {
        var daemonEnd: Int32 = -1, workerEnd: Int32 = -1
        var output: (read: Int32, write: Int32) = (-1, -1)
        var errors: (read: Int32, write: Int32) = (-1, -1)
        guard unsafe milepost_channel_pair(&daemonEnd, &workerEnd) == 0,
            unsafe milepost_pipe(&output.read, &output.write) == 0,
            unsafe milepost_pipe(&errors.read, &errors.write) == 0
        else {
            for descriptor in [daemonEnd, workerEnd, output.read, output.write] where descriptor >= 0 {
                _ = milepost_descriptor_close(descriptor)
            }
            return "no descriptors are left for a worker"
        }
        defer {
            for descriptor in [workerEnd, output.write, errors.write] { _ = milepost_descriptor_close(descriptor) }
        }
        let configuration = core.configuration
        let arguments = [
            core.workerExecutable, library, String(manifest.memoryMegabytes), String(manifest.threads),
            String(core.logLevel), String(configuration.heartbeatInterval.nanoseconds / 1_000_000),
            configuration.allowsBestEffortSandbox ? "best-effort" : "required",
        ]
        var processID: Int32 = 0, process: Int32 = -1
        let result = unsafe withCStrings(arguments) {
            unsafe milepost_process_spawn(
                core.workerExecutable, $0, output.write, errors.write, workerEnd, &processID, &process)
        }
        guard result == 0 else {
            for descriptor in [daemonEnd, output.read, errors.read] { _ = milepost_descriptor_close(descriptor) }
            return "\(core.workerExecutable) could not be started (error \(-result)); is the package complete?"
        }
        watch(processID, Descriptors(channel: daemonEnd, process: process, output: output.read, errors: errors.read))
        return nil
    }

    private func watch(_ processID: Int32, _ given: Descriptors) {
        var descriptors = given
        descriptors.tags = [
            core.loop.watch(given.channel) { [self] in receive() },
            core.loop.watch(given.process) { [self] in reap() },
            core.loop.watch(given.output) { [self] in readLines(given.output, .standardOutput, key: 0) },
            core.loop.watch(given.errors) { [self] in readLines(given.errors, .standardError, key: 1) },
        ]
        state.withLock {
            $0.descriptors = descriptors
            $0.processID = processID
            $0.lastHeard = core.now
        }
    }

    private func withCStrings<Value>(
        _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Value
    ) -> Value {
        var copies: [UnsafePointer<CChar>?] = unsafe strings.map { unsafe UnsafePointer(strdup($0)) }
        unsafe copies.append(nil)
        defer { unsafe copies.forEach { unsafe free(UnsafeMutablePointer(mutating: $0)) } }
        return unsafe copies.withUnsafeBufferPointer { unsafe body($0.baseAddress!) }
    }

    // MARK: Sending

    func attach(_ instance: PluginInstance, id: UInt64, config: [UInt8], credentials: [(name: String, facts: [UInt8])])
    {
        let isHere = state.withLock { state in
            guard !state.hasEnded else { return false }
            state.instances[id] = instance
            return true
        }
        var views: [[UInt8]?] = [config]
        for credential in credentials { views += [Array(credential.name.utf8), credential.facts] }
        if !isHere || !send(MILEPOST_FRAME_CREATE, instance: id, FrameWriter(views: views)) {
            instance.lost(self, reason: "the worker ended before it was asked")
        }
    }

    func start(_ operation: OperationStart, instance: UInt64) -> Bool {
        let scalars = [
            UInt64(operation.verb.rawValue), operation.deadline, UInt64(operation.attempt), 0,
        ]
        return send(
            MILEPOST_FRAME_OPERATION, operation: operation.id, instance: instance,
            FrameWriter(scalars: scalars, views: [operation.body]))
    }

    func cancel(operation: UInt64, instance: UInt64) {
        _ = send(MILEPOST_FRAME_CANCEL, operation: operation, instance: instance, FrameWriter())
    }

    func deliver(_ event: PluginEvent, instance: UInt64) {
        func bits(_ value: Int32) -> UInt64 { UInt64(bitPattern: Int64(value)) }
        let scalars = [
            bits(event.kind.rawValue), event.token, bits(event.status), bits(event.wire), bits(event.httpStatus),
        ]
        _ = send(
            MILEPOST_FRAME_EVENT, operation: event.operation, instance: instance,
            FrameWriter(scalars: scalars, views: [event.json, event.data]))
    }

    func update(credential: String, facts: [UInt8], instance: UInt64) {
        _ = send(MILEPOST_FRAME_CREDENTIAL, instance: instance, FrameWriter(views: [Array(credential.utf8), facts]))
    }

    func setLogLevel(_ level: Int32) {
        _ = send(MILEPOST_FRAME_LOG_LEVEL, instance: 0, FrameWriter(scalars: [UInt64(max(level, 0))]))
    }

    func destroy(instance: UInt64) {
        _ = send(MILEPOST_FRAME_DESTROY, instance: instance, FrameWriter())
    }

    /// Never blocks: what the socket does not take waits, and what does not fit there condemns the worker.
    private func send<Kind: BinaryInteger>(
        _ type: Kind, operation: UInt64 = 0, instance: UInt64, _ payload: FrameWriter
    ) -> Bool {
        var problem: String?
        let isSent = state.withLock { state -> Bool in
            guard state.descriptors.channel >= 0, state.condemned == nil else { return false }
            var frame = milepost_frame()
            frame.type = UInt16(type)
            frame.op = operation
            frame.instance = instance
            frame.seq = state.sentSequence
            if state.waiting.isEmpty {
                let result = unsafe payload.bytes.withUnsafeBytes {
                    unsafe milepost_channel_send(
                        state.descriptors.channel, &frame, $0.baseAddress, UInt32(clamping: $0.count))
                }
                if result == 0 {
                    state.sentSequence += 1
                    return true
                }
                if result == -EMSGSIZE {
                    problem = nil
                    return false
                }
                if result != -EAGAIN && result != -ENOBUFS {
                    if result == -EPIPE || result == -ECONNRESET {
                        state.closedAt = state.closedAt ?? core.now
                    } else {
                        problem = "could not be written to (error \(-result))"
                    }
                    return false
                }
                core.loop.watchForWriting(state.descriptors.channel, tag: state.descriptors.tags[0], true)
            }
            guard state.waiting.count < Self.waitingFramesMaximum,
                state.waitingBytes + payload.bytes.count <= Self.waitingBytesMaximum
            else {
                problem = "does not read what is sent to it"
                return false
            }
            state.waiting.append((frame, payload.bytes))
            state.waitingBytes += payload.bytes.count
            state.sentSequence += 1
            return true
        }
        if let problem { kill("the worker \(problem)") }
        return isSent
    }

    private func flush() {
        state.withLock { state in
            guard state.descriptors.channel >= 0, !state.waiting.isEmpty else { return }
            var sent = 0
            while sent < state.waiting.count {
                var frame = state.waiting[sent].frame
                let result = unsafe state.waiting[sent].payload.withUnsafeBytes {
                    unsafe milepost_channel_send(
                        state.descriptors.channel, &frame, $0.baseAddress, UInt32(clamping: $0.count))
                }
                if result != 0 { break }
                state.waitingBytes -= state.waiting[sent].payload.count
                sent += 1
            }
            state.waiting.removeFirst(sent)
            if state.waiting.isEmpty {
                core.loop.watchForWriting(state.descriptors.channel, tag: state.descriptors.tags[0], false)
            }
        }
    }

    // MARK: Ending

    func condemn(_ reason: String, instance: UInt64) { kill(reason) }

    /// Nothing new is given to it; its end is on the way.
    var isCondemned: Bool { state.withLock { $0.condemned != nil || $0.closedAt != nil || $0.hasEnded } }

    /// SIGKILL, once; the end is noticed through the pidfd.
    func kill(_ reason: String) {
        let records = recordsInFlight
        state.withLock { state in
            guard state.condemned == nil, !state.hasEnded else { return }
            state.condemned = (reason, core.now, records)
            // Under the lock, after which the loop may close it: the number could be the next worker's by then.
            if state.descriptors.process >= 0 { _ = milepost_process_kill(state.descriptors.process) }
        }
    }

    /// Asked outside our lock: instances have their own.
    private var recordsInFlight: Set<DeliveryID> {
        Set(state.withLock { Array($0.instances.values) }.flatMap { $0.records(on: self) })
    }

    private func reap() {
        while receive() {}  // what it said before it died counts, and it says no more
        let descriptors = state.withLock { $0.descriptors }
        guard descriptors.process >= 0 else { return }
        readLines(descriptors.output, .standardOutput, key: 0)
        readLines(descriptors.errors, .standardError, key: 1)
        var status: Int32 = -1, signal: Int32 = -1
        guard unsafe milepost_process_reap(descriptors.process, &status, &signal) == 1 else { return }
        finish(status >= 0 ? "exited with status \(status)" : "was ended by signal \(signal)")
    }

    private func finish(_ how: String) {
        let inFlight = recordsInFlight
        let (descriptors, instances, reason, records) = state.withLock { state in
            let descriptors = state.descriptors
            state.descriptors = Descriptors()
            let isFirst = !state.hasEnded
            state.hasEnded = true
            defer { state.instances = [:] }
            let last = state.lastErrorLine.map { "; its last words: \($0)" } ?? ""
            let reason = state.condemned.map { "\($0.reason); it was killed" } ?? "the worker \(how)\(last)"
            let records = state.condemned?.records ?? inFlight
            return (descriptors, isFirst ? Array(state.instances.values) : [], isFirst ? reason : nil, records)
        }
        let all = [descriptors.channel, descriptors.process, descriptors.output, descriptors.errors]
        for (descriptor, tag) in zip(all, descriptors.tags) {
            core.loop.unwatch(descriptor, tag: tag)
            _ = milepost_descriptor_close(descriptor)
        }
        guard let reason else { return }
        observer.ended(self, reason: reason, records: records)
        for instance in instances { instance.lost(self, reason: reason) }
    }

    /// Heartbeats and the patience with a killed process.
    func tick(now: UInt64) {
        let interval = core.configuration.heartbeatInterval.nanoseconds
        let (isSilent, isClosed, isLingering) = state.withLock { state in
            (
                state.condemned == nil && !state.hasEnded && state.isLoaded
                    && now > state.lastHeard.addingSaturating(max(3 * interval, 1_000_000_000)),
                state.closedAt.map { now > $0.addingSaturating(Self.closingPatience) } ?? false,
                state.condemned.map { now > $0.at.addingSaturating(Self.reapPatience) } ?? false
            )
        }
        if isSilent { kill("the worker gave no sign of life for three heartbeats") }
        if isClosed { kill("the worker closed its channel") }
        if isLingering { finish("does not end") }
    }

    // MARK: Receiving

    /// - Returns: whether more may be there.
    @discardableResult
    private func receive() -> Bool {
        flush()
        return unsafe withUnsafeTemporaryAllocation(
            byteCount: Int(MILEPOST_FRAME_INLINE_MAX), alignment: 16
        ) { buffer -> Bool in
            // Only this thread closes the channel.
            let channel = state.withLock { $0.descriptors.channel }
            guard channel >= 0 else { return false }
            let now = core.now
            for _ in 0..<Self.framesPerTurn {
                var frame = milepost_frame()
                var descriptor: Int32 = -1
                let got = unsafe milepost_channel_receive(
                    channel, &frame, buffer.baseAddress, UInt64(buffer.count), &descriptor)
                if got == Int64(-EAGAIN) { return false }
                guard got >= 0 else {
                    stopReading()
                    if got == Int64(-EPIPE) {
                        state.withLock { $0.closedAt = $0.closedAt ?? core.now }
                        core.loop.beAlert(now: core.now)
                    } else {
                        kill("the worker sent a broken frame")
                    }
                    return false
                }
                let reader: FrameReader?
                if descriptor >= 0 {
                    reader = readLarge(descriptor, length: frame.length)
                } else {
                    reader = unsafe FrameReader(UnsafeRawBufferPointer(rebasing: buffer[..<Int(got)]))
                }
                let (isInOrder, instance) = state.withLock { state in
                    defer { state.receivedSequence &+= 1 }
                    state.lastHeard = now
                    return (frame.seq == state.receivedSequence, state.instances[frame.instance])
                }
                guard let reader, isInOrder else {
                    kill("the worker sent a broken frame")
                    return false
                }
                if let instance, frame.type >= UInt16(MILEPOST_FRAME_CREATED),
                    frame.type < UInt16(MILEPOST_FRAME_HEARTBEAT)
                {
                    route(frame, reader, to: instance, Attachment(transport: self, id: frame.instance))
                } else {
                    dispatch(frame, reader)
                }
            }
            return true
        }
    }

    private func readLarge(_ descriptor: Int32, length: UInt32) -> FrameReader? {
        defer { _ = milepost_descriptor_close(descriptor) }
        return unsafe withUnsafeTemporaryAllocation(byteCount: Int(length), alignment: 16) { bytes in
            guard unsafe milepost_channel_copy_memfd(descriptor, bytes.baseAddress, length) == 0 else { return nil }
            return unsafe FrameReader(UnsafeRawBufferPointer(bytes))
        }
    }

    /// A socket at its end stays readable for ever; the pidfd tells the rest.
    private func stopReading() {
        let descriptors = state.withLock { $0.descriptors }
        if let tag = descriptors.tags.first { core.loop.unwatch(descriptors.channel, tag: tag) }
    }

    private func dispatch(_ frame: milepost_frame, _ payload: FrameReader) {
        switch Int(frame.type) {
        case Int(MILEPOST_FRAME_HELLO):
            state.withLock {
                $0.landlockABI = payload.uint32(0)
                $0.seccompStages = min(payload.uint32(1), 1)
            }
        case Int(MILEPOST_FRAME_LOADED):
            state.withLock {
                if payload.scalar(3) != 0 && !$0.isLoaded { $0.seccompStages += 1 }
                $0.isLoaded = true
            }
            observer.loaded(
                self,
                WorkerAnnouncement(
                    minHostMinor: payload.uint32(1), verbs: payload.scalar(2), describeCPU: payload.scalar(4),
                    describeWall: payload.scalar(5), manifest: payload.bytes(0)))
        case Int(MILEPOST_FRAME_REFUSED):
            observer.refused(
                self, reason: payload.scalar(0), detail: String(decoding: payload.bytes(0).prefix(1024), as: UTF8.self))
        case Int(MILEPOST_FRAME_HEARTBEAT): heartbeat(payload)
        default: break  // of an instance that is gone
        }
    }

    private func heartbeat(_ payload: FrameReader) {
        let budget = core.configuration.verbBudget.nanoseconds
        let longest = payload.scalar(1)
        let isSpinning = state.withLock { state in
            defer { state.cpu = payload.scalar(0) }
            // A blocked call takes next to nothing; a spinning one all it gets, which may be little on a busy machine.
            return state.cpu > 0
                && payload.scalar(0) &- state.cpu > core.configuration.heartbeatInterval.nanoseconds / 50
        }
        guard longest > budget else { return }
        let connection = state.withLock { $0.instances[payload.scalar(2)]?.connection }
        core.services.metric(.host(plugin: plugin.name, event: "slow_call", code: isSpinning ? "spinning" : "blocked"))
        plugin.noteMisbehaviour(
            "has been in one call for \(longest / 1_000_000) ms (\(isSpinning ? "spinning" : "blocked"))", connection,
            nil)
    }

    private func readLines(_ descriptor: Int32, _ source: PluginLogLine.Source, key: UInt64) {
        guard descriptor >= 0 else { return }
        var lines: [[UInt8]] = []
        unsafe withUnsafeTemporaryAllocation(byteCount: 16 * 1024, alignment: 1) { buffer in
            let got = unsafe milepost_descriptor_read(descriptor, buffer.baseAddress, buffer.count)
            if got == 0 {
                let tags = state.withLock { $0.descriptors.tags }
                if tags.count == 4 { core.loop.unwatch(descriptor, tag: tags[key == 0 ? 2 : 3]) }
            }
            guard got > 0 else { return }
            state.withLock { state in
                var line = state.partialLines[key] ?? []
                let chunk = unsafe Array(buffer[..<Int(got)])
                for byte in chunk {
                    if byte == 0x0a || line.count >= Self.lineMaximum {
                        lines.append(line)
                        line = []
                    }
                    if byte != 0x0a { line.append(byte) }
                }
                state.partialLines[key] = line
            }
        }
        for line in lines where !line.isEmpty {
            let text = String(decoding: line, as: UTF8.self)
            if source == .standardError { state.withLock { $0.lastErrorLine = text } }
            plugin.log(
                PluginLogLine(
                    plugin: plugin.name, connection: nil, operation: nil, level: 2, source: source, message: text,
                    fields: nil))
        }
    }
}
