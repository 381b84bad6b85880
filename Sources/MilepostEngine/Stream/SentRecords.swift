// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore

/// Records that a plugin was given, and what it said of each.
struct SentRecords: Sendable {
    let records: [StreamRecord]
    let verdicts: [Verdict]
    let fates: [StreamFate]
    let startedAt: Timestamp
    let finishedAt: Timestamp
    /// The connection was disabled for what the verdicts say of its endpoint.
    let hasDisabled: Bool

    init(
        records: [StreamRecord], verdicts: [Verdict], startedAt: Timestamp, finishedAt: Timestamp, hasDisabled: Bool
    ) {
        self.records = records
        self.verdicts = verdicts
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.hasDisabled = hasDisabled
        fates = verdicts.map(StreamFate.init)
    }

    /// Something came of one of them, or there was nothing to send.
    var isProgress: Bool { records.isEmpty || fates.contains(where: \.isProgress) }

    var hasSuccess: Bool { verdicts.contains { $0.kind == .ok } }

    /// Where the connection goes by the word of a verdict.
    var move: (Connection.State, Reason)? {
        fates.lazy.compactMap { fate -> (Connection.State, Reason)? in
            if case .connection(let state, let reason) = fate { (state, reason) } else { nil }
        }.first
    }

    func attempt(at record: StreamRecord, _ verdict: Verdict) -> AttemptRecord {
        AttemptRecord(
            delivery: record.delivery.id, attempt: 1, startedAt: startedAt, finishedAt: finishedAt, verb: "deliver",
            verdict: verdict.kind.rawValue, code: verdict.code, message: verdict.message,
            httpStatus: verdict.httpStatus)
    }
}
