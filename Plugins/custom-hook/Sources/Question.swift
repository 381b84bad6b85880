// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// What a service is asked before something happens at another vendor, and how its answer is read.
struct Question: Sendable {
    /// The same however often it is asked about one delivery: what a service tells repetitions by.
    var id: String
    /// `milepost.deal.before` or `milepost.rule.before`.
    var type: String
    /// RFC 3339: when the event happened, not when it is asked.
    var time: String
    var workspace: String
    var data: JSONValue

    /// - Throws: a rejection, when the request is none that this plugin knows.
    init(_ request: JSONValue) throws(Verdict) {
        guard let point = request["point"]?.string, let event = request["event"]?.object else {
            throw .rejected(code: "payload_unreadable", message: "The question has no point or no event.")
        }
        let key = request["idempotency_key"]?.string ?? request["delivery_id"]?.string ?? "unknown"
        id = String(key.map { $0 == "." ? "_" : $0 })
        type = "milepost." + point
        workspace = event["workspace"]?.string ?? ""
        time =
            event["crossed_at"]?.string ?? event["click"]?["at"]?.string ?? request["asked_at"]?.string
            ?? "1970-01-01T00:00:00Z"
        var members = event
        for name in ["workspace", "deal", "fields"] { members[name] = nil }
        var deal = event["deal"]?.object ?? [:]
        deal["fields"] = event["fields"].flatMap { $0.object == nil ? nil : $0 } ?? [:]
        data = [
            "delivery": request["delivery_id"] ?? .null, "ask": request["ask"] ?? 1,
            "integration": request["integration"] ?? .null, "action": request["action"] ?? .null,
            "workspace": .string(workspace), "event": .object(members), "deal": .object(deal),
        ]
    }

    var body: [UInt8] {
        JSONValue.object(["type": .string(type), "timestamp": .string(time), "data": data]).bytes
    }

    /// What placeholders in header values see.
    var view: JSONValue {
        [
            "id": .string(id), "type": .string(type), "time": .string(time), "workspace": .string(workspace),
            "data": data,
        ]
    }

    // MARK: The answer

    static let largestAnswer = 64 * 1024
    private static let verdicts: [String: JSONValue] = [
        "continue": "continue", "drop": "drop", "hold": "hold", "change": "modify",
    ]

    /// The daemon's verdict for a service's answer. What it may change is the daemon's to check.
    /// - Throws: a rejection that says what is wrong with the answer.
    static func verdict(of response: HTTPResponse, from origin: String) throws(Verdict) -> JSONValue {
        func bad(_ problem: String) -> Verdict {
            .rejected(
                code: "hook_answer_invalid",
                message: "\(origin) answered \(response.status), but \(problem). "
                    + "Answer 200 with {\"decision\": \"continue\"}, \"drop\", \"hold\" or \"change\".")
        }
        if response.isTruncated || response.body.count > largestAnswer {
            throw bad("its answer is longer than \(largestAnswer) bytes")
        }
        if response.body.isEmpty { throw bad("without a body, so nothing is decided") }
        guard let answer = response.json else { throw bad("its body is no JSON") }
        guard answer.object != nil else { throw bad("its body is no JSON object") }
        guard let decision = answer["decision"], !decision.isNull else { throw bad("its body has no decision") }
        guard let verdict = decision.string.flatMap({ verdicts[$0] }) else {
            throw bad("its decision is \(shown(decision))")
        }
        var result: [String: JSONValue] = ["verdict": verdict]
        for name in ["reason", "until"] {
            guard let given = answer[name], !given.isNull else { continue }
            guard given.string != nil else { throw bad("its \(name) is no text") }
            result[name] = given
        }
        if let deal = answer["deal"], !deal.isNull {
            guard deal.object != nil else { throw bad("its deal is no object") }
            guard verdict == "modify" else {
                throw bad("its decision is \(shown(decision)) and it has a deal; \"change\" changes one")
            }
            result["deal"] = deal
        } else if verdict == "modify" {
            throw bad("its decision is \"change\" and it has no deal")
        }
        return .object(result)
    }

    private static func shown(_ value: JSONValue) -> String {
        String(decoding: value.bytes, as: UTF8.self).shortened
    }
}
