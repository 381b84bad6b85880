// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin

// From the batches of the wire to one record at a time, and back.

struct WireRecordResult: Encodable {
    var index: UInt32
    var `class`: String
    var remote_id: String?
    var remote_url: String?
    var warnings: [Warning]?
    var error: WireError?
}

struct WireFinding: Encodable {
    var index: UInt32
    var answer: String
    var step: String
    var remote_id: String?
    var remote_url: String?
    var result: JSONValue?
    var ask_again_ms: Int64?
    var message: String?
}

struct WireRecords<Element: Encodable>: Encodable {
    var records: [Element]
}

func deliverBatch(_ plugin: any Delivering, _ request: DeliverRequest, _ operation: Operation) async throws
    -> WireRecords<WireRecordResult>
{
    var results: [WireRecordResult] = []
    var wall: Verdict?
    for record in request.records {
        let result: WireRecordResult
        if let wall {
            result = WireRecordResult(index: record.index, class: wall.status.name, error: wall.wire)
        } else {
            let at = operation.at(record: record.index)
            do {
                let done = try await plugin.deliver(record, action: request.action, at)
                result = WireRecordResult(
                    index: record.index, class: "ok", remote_id: done.remoteID, remote_url: done.remoteURL,
                    warnings: done.warnings.isEmpty ? nil : done.warnings)
            } catch {
                let verdict = verdict(for: error, at.trace)
                if verdict.holdsForTheWholeBatch { wall = verdict }
                result = WireRecordResult(index: record.index, class: verdict.status.name, error: verdict.wire)
            }
        }
        results.append(result)
        // Told early, so that a crash at the next record leaves this one known.
        if request.records.count > 1 { operation.partial(try jsonBytes(result)) }
    }
    return WireRecords(records: results)
}

/// The verdict of an error. The plugin's own verdict stands; of any other error only what was sent decides.
func verdict(for error: any Error, _ trace: SendTrace) -> Verdict {
    if let verdict = error as? Verdict {
        guard trace.isUnclear, verdict.status != .uncertain else { return verdict }
        // More careful only: a request of unknown fate outweighs whatever came after it.
        return Verdict(.uncertain, code: verdict.code, message: verdict.message, httpStatus: verdict.httpStatus)
    }
    if trace.hasSent {
        return .uncertain(
            code: "plugin_error", message: "The plugin failed after a request had left: \(describe(error)).")
    }
    if error is CancellationError {
        return Verdict(.cancelled, code: "cancelled", message: "Given up on request; nothing was sent.")
    }
    if let failure = error as? HostCallError {
        return failure.code == .cancelled
            ? Verdict(.cancelled, code: "cancelled", message: "Given up on request; nothing was sent.")
            : .retry(code: "host_service", message: "The host's \(failure.call) did not work: \(failure.code.name).")
    }
    if let failure = error as? HTTPFailure {
        return .retry(code: "vendor_unavailable", message: "The vendor cannot be reached: \(failure.message)")
    }
    return .retry(code: "plugin_error", message: "The plugin failed before anything was sent: \(describe(error)).")
}

func reconcileBatch(_ plugin: any Reconciling, _ request: DeliverRequest, _ operation: Operation) async
    -> WireRecords<WireFinding>
{
    var findings: [WireFinding] = []
    for record in request.records {
        do {
            let finding = try await plugin.reconcile(
                record, action: request.action, operation.at(record: record.index))
            findings.append(WireFinding(index: record.index, finding))
        } catch {
            let verdict = verdict(for: error, SendTrace())
            let step = record.journal?.last { $0.state != "done" }?.step ?? ""
            findings.append(
                WireFinding(
                    index: record.index,
                    .unknown(step: step, message: verdict.message, askAgain: verdict.retryAfter)))
        }
    }
    return WireRecords(records: findings)
}

extension WireFinding {
    init(index: UInt32, _ finding: Finding) {
        switch finding {
        case .applied(let step, let result, let remoteID, let remoteURL, let message):
            self.init(
                index: index, answer: "applied", step: step, remote_id: remoteID, remote_url: remoteURL,
                result: result, message: message)
        case .notApplied(let step, let message):
            self.init(index: index, answer: "not_applied", step: step, message: message)
        case .unknown(let step, let message, let askAgain):
            self.init(
                index: index, answer: "unknown", step: step, ask_again_ms: askAgain?.milliseconds, message: message)
        }
    }
}

/// A short text for an error of unknown kind. Type and case name only, bounded: a decoding error's own description
/// quotes what it read.
func describe(_ error: any Error) -> String { String("\(type(of: error))".prefix(80)) }
