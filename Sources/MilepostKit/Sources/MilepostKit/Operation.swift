// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import Synchronization

/// One call of a verb: how the plugin reaches the vendor and the journal on its behalf.
public struct Operation: Sendable {
    /// The services that belong to the instance: storage, timers, metrics, clocks.
    public let context: PluginContext
    private var calls: HostCalls { context.calls }
    public let id: UInt64
    /// 1 for the first.
    public let attempt: UInt32
    /// Monotonic nanoseconds; past it the host cancels.
    public let deadlineNanoseconds: UInt64
    /// The record that this operation is at, for `deliver` and `reconcile`.
    let record: UInt32?
    /// What happened to the record's non-idempotent requests so far.
    let trace: SendTrace

    init(
        context: PluginContext, id: UInt64, attempt: UInt32, deadlineNanoseconds: UInt64, record: UInt32?,
        trace: SendTrace
    ) {
        self.context = context
        self.id = id
        self.attempt = attempt
        self.deadlineNanoseconds = deadlineNanoseconds
        self.record = record
        self.trace = trace
    }

    func at(record: UInt32) -> Operation {
        Operation(
            context: context, id: id, attempt: attempt, deadlineNanoseconds: deadlineNanoseconds, record: record,
            trace: SendTrace())
    }

    /// Sends a request through the host and waits for the answer. Limits, credentials and the journal are the host's.
    ///
    /// Cancelling the task gives the request up; its fate is still told by the `wire` of the failure.
    /// - Throws: `HTTPFailure` when there is no answer. Any status of the vendor is an answer.
    public func http(_ request: HTTPRequest) async throws(HTTPFailure) -> HTTPResponse {
        let isStep = request.step != nil
        do {
            let response = try await calls.send(request, op: id, records: record.map { [$0] } ?? []).get()
            if isStep { trace.answered(unclear: response.status >= 500 && response.status != 503) }
            return response
        } catch {
            if isStep && error.wire != .neverSent { trace.lost() }
            throw error
        }
    }

    /// Stores the result of a finished step, so that a retry resumes after it. Returns when it is on disk.
    ///
    /// When the task is cancelled the result is still handed to the host, but nobody waits for the disk.
    /// - Throws: `Verdict` uncertain when the host could not store it or the wait was given up: the step happened and
    ///   perhaps nobody will remember.
    public func journal(_ step: String, _ result: JSONValue) async throws(Verdict) {
        let bytes = result.bytes
        let status = await calls.answer {
            calls.host.journal(id, token: $0, record: record ?? 0, step: step, result: bytes)
        }.status
        guard status != MP_CALL_OK else { return }
        let error = HostCallError(status: status, call: "journal_put")
        throw .uncertain(
            code: "journal_failed",
            message: "The host did not confirm the result of step \(step) (\(error.code.name)).")
    }

    /// Tells one record's result early. Used by the SDK between the records of a batch.
    func partial(_ body: [UInt8]) { calls.host.partial(id, body: body) }

    /// Says that the vendor refused a credential.
    public func rejectCredential(_ credential: String, reason: String) {
        calls.host.rejectCredential(id, credential: credential, reason: reason)
    }

    public func log(_ level: LogLevel, _ message: String, _ fields: [String: JSONValue] = [:]) {
        calls.host.log(
            id, level: level.rawValue, message: message, fields: fields.isEmpty ? nil : JSONValue.object(fields).bytes)
    }
}

/// Remembers whether a record has a non-idempotent request of unknown fate, so that an error of the plugin's own code
/// never hides one.
final class SendTrace: Sendable {
    private let unclear = Mutex(false)
    private let sent = Mutex(false)

    func lost() {
        unclear.withLock { $0 = true }
        sent.withLock { $0 = true }
    }
    func answered(unclear isUnclear: Bool) {
        sent.withLock { $0 = true }
        if isUnclear { unclear.withLock { $0 = true } }
    }
    /// Anything that may have changed the vendor left in this attempt.
    var hasSent: Bool { sent.withLock { $0 } }
    var isUnclear: Bool { unclear.withLock { $0 } }
}
