// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import Synchronization

/// One call of a verb: how the plugin reaches the vendor and the journal on its behalf.
public struct Operation: Sendable {
    let instance: Instance
    public let id: UInt64
    /// 1 for the first.
    public let attempt: UInt32
    /// Monotonic nanoseconds; past it the host cancels.
    public let deadlineNanoseconds: UInt64
    /// The record that this operation is at, for `deliver` and `reconcile`.
    let record: UInt32?
    /// What happened to the record's non-idempotent requests so far.
    let trace: SendTrace

    func at(record: UInt32) -> Operation {
        Operation(
            instance: instance, id: id, attempt: attempt, deadlineNanoseconds: deadlineNanoseconds, record: record,
            trace: SendTrace())
    }

    /// Sends a request through the host and waits for the answer. Limits, credentials and the journal are the host's.
    ///
    /// Cancelling the task gives the request up; its fate is still told by the `wire` of the failure.
    /// - Throws: `HTTPFailure` when there is no answer. Any status of the vendor is an answer.
    public func http(_ request: HTTPRequest) async throws(HTTPFailure) -> HTTPResponse {
        let isStep = request.step != nil
        do {
            let response = try await instance.send(request, op: id, records: record.map { [$0] } ?? []).get()
            if isStep { trace.answered(unclear: response.status >= 500 && response.status != 503) }
            return response
        } catch {
            if isStep && error.wire != .neverSent { trace.lost() }
            throw error
        }
    }

    /// Stores the result of a finished step, so that a retry resumes after it. Returns when it is on disk.
    /// - Throws: `Verdict` uncertain when the host could not store it: the step happened and nobody will remember.
    public func journal(_ step: String, _ result: JSONValue) async throws(Verdict) {
        let status = await instance.journal(step, result: result.bytes, op: id, record: record ?? 0)
        guard status == MP_CALL_OK else {
            throw .uncertain(
                code: "journal_failed", message: "The host could not store the result of step \(step) (\(status)).")
        }
    }

    /// Says that the vendor refused a credential.
    public func rejectCredential(_ credential: String, reason: String) {
        instance.host.rejectCredential(id, credential: credential, reason: reason)
    }

    public func log(_ level: LogLevel, _ message: String, _ fields: [String: JSONValue] = [:]) {
        instance.host.log(
            id, level: level.rawValue, message: message, fields: fields.isEmpty ? nil : JSONValue.object(fields).bytes)
    }

    public var context: PluginContext { PluginContext(host: instance.host) }
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
