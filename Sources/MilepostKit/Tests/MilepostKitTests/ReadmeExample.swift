// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// Makes a lead at Acme for each crossing, once.
final class AcmePlugin: Connecting, Delivering, Reconciling {
    static var manifest: [UInt8] { Array(#"{"manifest":1,"id":"test.acme","name":"acme"}"#.utf8) }
    private let base: String

    init(context: PluginContext, configuration: InstanceConfiguration) throws {
        base = configuration.endpoints["api"] ?? "https://api.acme.test"
    }

    /// Proves that the credential works and says for whom. Changes nothing.
    func connect(_ request: SettingsRequest, _ operation: Operation) async throws -> ConnectResult {
        let me = try await get("/me", operation)
        guard let id = me["account_id"]?.string else {
            throw Verdict.retry(code: "answer_unreadable", message: "Acme does not say whose key this is.")
        }
        return ConnectResult(account: .init(id: id, label: me["name"]?.string ?? id))
    }

    /// One record. A step that an earlier attempt finished is not done again.
    func deliver(_ record: DeliveryRecord, action: String, _ operation: Operation) async throws -> Delivered {
        if let done = record.result(of: "lead") { return Delivered(remoteID: done["id"]?.string) }
        let crossing: ThresholdCrossing = try record.payload.decoded()
        let lead: JSONValue = ["title": .string(crossing.displayName), "reference": .string(record.delivery_id)]
        // Naming a step tells the host that this changes something: its intent is on disk before a byte leaves.
        let answer = try await operation.http(.step("lead", "POST", base + "/leads", json: lead, credential: "key"))
        guard answer.isSuccess, let id = answer.json?["id"] else { throw verdict(of: answer) }
        try await operation.journal("lead", ["id": id])
        return Delivered(remoteID: id.string)
    }

    /// Did a request whose answer was lost arrive? Looks, and sends no change.
    func reconcile(_ record: DeliveryRecord, action: String, _ operation: Operation) async throws -> Finding {
        let found = try await get("/leads?reference=\(record.delivery_id)", operation)
        guard let id = found["items"]?[0]?["id"] else {
            return .notApplied(step: "lead", message: "Acme has no lead with reference \(record.delivery_id).")
        }
        return .applied(step: "lead", result: ["id": id], remoteID: id.string, remoteURL: nil, message: "Found it.")
    }

    private func get(_ path: String, _ operation: Operation) async throws -> JSONValue {
        let answer = try await operation.http(.idempotent("GET", base + path, credential: "key"))
        guard answer.isSuccess, let json = answer.json else { throw verdict(of: answer) }
        return json
    }

    /// What an answer means for the delivery. A 5xx after a step counts as uncertain, whatever is thrown.
    private func verdict(of answer: HTTPResponse) -> Verdict {
        switch answer.status {
        case 401: .authRevoked(code: "credential_refused", message: "Acme refused the key. Paste a new one.")
        case 429: .rateLimited(code: "rate_limited", message: "Acme asks to wait.", after: .seconds(2), scope: "token")
        case 400..<500: .rejected(code: "vendor_rejected", message: "Acme refused with \(answer.status).")
        default: .retry(code: "vendor_unavailable", message: "Acme answered \(answer.status).")
        }
    }
}
