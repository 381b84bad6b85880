// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin

// From the batches of the wire to one record at a time, and back.

struct WireRecordResult {
    var index: UInt32
    var `class`: String
    var remote_id: String?
    var remote_url: String?
    var warnings: [Warning]?
    var error: WireError?

    /// Built by hand, because there is one for every record; nil members are left out.
    var json: JSONValue {
        var members: [String: JSONValue] = ["index": .int(Int64(index)), "class": .string(`class`)]
        if let remote_id { members["remote_id"] = .string(remote_id) }
        if let remote_url { members["remote_url"] = .string(remote_url) }
        // They hold texts, integers and flags only: encoding them cannot fail.
        if let warnings { members["warnings"] = .array(warnings.compactMap { try? JSONValueEncoder.encode($0) }) }
        if let error { members["error"] = try? JSONValueEncoder.encode(error) }
        return .object(members)
    }
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

/// What became of the records of a batch, by the record's index.
public typealias Outcomes = [UInt32: Result<Delivered, Verdict>]

extension Operation {
    /// This operation for one record of its batch: its steps and its journal.
    public func of(_ record: DeliveryRecord) -> Operation { at(record: record.index) }

    /// Delivers records one after another. A verdict that the next record would meet, too (a rate limit, a refused
    /// credential), is given to the rest without asking the vendor again.
    public func each(
        _ records: [DeliveryRecord], _ deliver: (DeliveryRecord, Operation) async throws -> Delivered
    ) async -> Outcomes {
        var outcomes: Outcomes = [:]
        var wall: Verdict?
        for record in records {
            if let wall {
                outcomes[record.index] = .failure(wall)
            } else {
                let at = of(record)
                do {
                    outcomes[record.index] = .success(try await deliver(record, at))
                } catch {
                    let verdict = verdict(for: error, at.trace)
                    if verdict.holdsForTheWholeBatch { wall = verdict }
                    outcomes[record.index] = .failure(verdict)
                }
            }
            // Told early, so that a crash at the next record leaves this one known.
            if records.count > 1 { tell(record, outcomes[record.index]) }
        }
        return outcomes
    }

    /// Delivers records beside one another, for vendors that take one a request and do not mind their order. A verdict
    /// that the next record would meet, too, is given to those that have not begun.
    ///
    /// Nothing is told early: after a crash all of them are tried again, so each request must be one that may be repeated.
    ///
    /// - Parameter width: how many at once.
    public func together(
        _ records: [DeliveryRecord], width: Int,
        _ deliver: @escaping @Sendable (DeliveryRecord, Operation) async throws -> Delivered
    ) async -> Outcomes {
        var outcomes: Outcomes = [:]
        var wall: Verdict?
        await withTaskGroup(of: (DeliveryRecord, Result<Delivered, Verdict>).self) { group in
            var rest = records[...]
            func begin() {
                guard wall == nil, let record = rest.popFirst() else { return }
                let at = of(record)
                group.addTask {
                    do { return (record, .success(try await deliver(record, at))) } catch {
                        return (record, .failure(verdict(for: error, at.trace)))
                    }
                }
            }
            for _ in 0..<max(1, width) { begin() }
            for await (record, outcome) in group {
                if case .failure(let verdict) = outcome, verdict.holdsForTheWholeBatch { wall = wall ?? verdict }
                outcomes[record.index] = outcome
                begin()
            }
            if let wall { for record in rest { outcomes[record.index] = .failure(wall) } }
        }
        return outcomes
    }

    /// Tells the host a record's outcome before the operation ends.
    public func tell(_ record: DeliveryRecord, _ outcome: Result<Delivered, Verdict>?) {
        guard let outcome else { return }
        partial(WireRecordResult(record.index, outcome).json.bytes)
    }
}

extension WireRecordResult {
    init(_ index: UInt32, _ outcome: Result<Delivered, Verdict>) {
        switch outcome {
        case .success(let done):
            self.init(
                index: index, class: "ok", remote_id: done.remoteID, remote_url: done.remoteURL,
                warnings: done.warnings.isEmpty ? nil : done.warnings)
        case .failure(let verdict): self.init(index: index, class: verdict.status.name, error: verdict.wire)
        }
    }
}

func deliverBatch(_ plugin: any Delivering, _ request: DeliverRequest, _ operation: Operation) async throws
    -> JSONValue
{
    let outcomes: Outcomes
    if let plugin = plugin as? any BatchDelivering {
        outcomes = try await plugin.deliver(batch: request.records, action: request.action, operation)
    } else {
        outcomes = await operation.each(request.records) { try await plugin.deliver($0, action: request.action, $1) }
    }
    let missing = Verdict.uncertain(code: "result_missing", message: "The plugin gave no result for the record.")
    return [
        "records": .array(
            request.records.map { WireRecordResult($0.index, outcomes[$0.index] ?? .failure(missing)).json })
    ]
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
