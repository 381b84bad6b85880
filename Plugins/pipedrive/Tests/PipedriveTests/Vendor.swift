// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import MilepostKit
import MilepostKitTesting
import Pipedrive
import Synchronization

let linkKey = "0123456789abcdef0123456789abcdef01234567"
let priorityKey = "1123456789abcdef0123456789abcdef01234567"
let twinKey = "2123456789abcdef0123456789abcdef01234567"

/// A key of forty hexadecimal digits for a field of this type.
func typedKey(_ type: String) -> String {
    let digits = type.utf8.map { String($0, radix: 16) }.joined()
    return digits + String(repeating: "0", count: 40 - digits.count)
}

/// A Pipedrive account in memory, in the shapes of crm-apis 2.
final class Account: Sendable {
    struct State {
        var deals: [JSONValue] = []
        var archived: [JSONValue] = []
        var deleted: [JSONValue] = []
        var isAdministrator = false
        var domain: JSONValue = "acme"
        var notes: [JSONValue] = []
        var searchHits: [Int64] = []
        var fieldReads = 0
        var stages: [JSONValue] = [
            ["id": 12, "order_nr": 2, "name": "Won soon", "pipeline_id": 1],
            ["id": 11, "order_nr": 1, "name": "New", "pipeline_id": 1],
        ]
    }
    let state = Mutex(State())
    /// Answers a request in the vendor's place; nil lets the account answer.
    let fault: @Sendable (SentRequest) -> FakeAnswer?

    init(fault: @escaping @Sendable (SentRequest) -> FakeAnswer? = { _ in nil }) { self.fault = fault }

    func answer(_ request: SentRequest) -> FakeAnswer {
        if let fault = fault(request) { return fault }
        let path = request.url.replacingPrefix("https://api.pipedrive.com")
        if path.hasPrefix("/v1/users/me") {
            let (isAdministrator, domain) = state.withLock { ($0.isAdministrator, $0.domain) }
            return data([
                "id": 7, "name": "Me", "company_id": 54_235_233, "company_name": "Acme", "company_domain": domain,
                "access": [["app": "global", "admin": .bool(isAdministrator)]],
            ])
        }
        if path.contains("/pipelines") {
            return data([
                ["id": 2, "name": "Inbound", "order_nr": 2], ["id": 1, "name": "Sales", "order_nr": 1],
                ["id": 3, "name": "Gone", "order_nr": 0, "is_deleted": true],
            ])
        }
        if path.contains("/stages") { return data(.array(state.withLock { $0.stages })) }
        if path.contains("/dealFields") {
            state.withLock { $0.fieldReads += 1 }
            return data([
                field(linkKey, "Link", "varchar"), field(twinKey, "Twin", "varchar"),
                field(twinKey + "0", "Twin", "text"),
                .object(
                    field(priorityKey, "Priority", "enum").object!.merging(
                        ["options": [["id": 5, "label": "High"], ["id": 6, "label": "Low"]]]) { $1 }),
                .object(
                    field(typedKey("set"), "Tags", "set").object!.merging(
                        [
                            "options": [
                                ["id": 7, "label": "Spring"], ["id": 8, "label": "Summer"],
                                ["id": 9, "label": "summer"],
                            ]
                        ]) { $1 }),
                field(typedKey("date"), "Day", "date"), field(typedKey("monetary"), "Money", "monetary"),
                field(typedKey("user"), "Owner", "user"), field(typedKey("double"), "Count", "double"),
                field(typedKey("daterange"), "Range", "daterange"),
            ])
        }
        if path.contains("/itemSearch/field") {
            return data(.array(state.withLock { $0.searchHits }.map { ["id": .int($0)] }))
        }
        if request.method == "POST", path.hasSuffix("/deals") { return data(["id": 501]) }
        if request.method == "POST", path == "/v1/notes" { return data(["id": 9]) }
        if path.contains("/deals/archived?") { return data(.array(state.withLock { $0.archived })) }
        if path.contains("/deals?status=deleted") { return data(.array(state.withLock { $0.deleted })) }
        if path.contains("/deals?") { return data(.array(state.withLock { $0.deals })) }
        if path.hasPrefix("/v1/notes?") { return data(.array(state.withLock { $0.notes })) }
        return .json(404, ["success": false, "error": "not found"])
    }

    private func field(_ key: String, _ name: String, _ type: String) -> JSONValue {
        [
            "field_code": .string(key), "key": .string(key), "field_name": .string(name), "name": .string(name),
            "field_type": .string(type), "is_custom_field": true,
        ]
    }

    private func data(_ value: JSONValue) -> FakeAnswer {
        .json(200, ["success": true, "data": value, "additional_data": ["next_cursor": nil]])
    }
}

extension String {
    func replacingPrefix(_ prefix: String) -> String { hasPrefix(prefix) ? String(dropFirst(prefix.count)) : self }
}

func payload(slug: String = "spring", threshold: Int64 = 100, utm: JSONValue = [:]) -> JSONValue {
    [
        "kind": "threshold_crossing", "workspace": "acme",
        "scope": ["kind": "link", "id": "lnk_spring", "name": .string(slug)],
        "link": ["id": "lnk_spring", "slug": .string(slug), "destination": "https://shop.test/", "tags": []],
        "threshold": .int(threshold), "arming": 0, "total": ["all": 120, "people": 100], "count": "all", "utm": utm,
        "analytics_url": "https://links.test/spring?a=1&b=2",
    ]
}

func deliver(_ payload: JSONValue, journal: JSONValue = []) -> JSONValue {
    [
        "action": "deal",
        "records": [
            [
                "index": 0, "delivery_id": "dlv_1", "idempotency_key": "k", "attempt": 1,
                "first_attempt_at": "2026-11-02T10:00:00Z", "payload": payload, "journal": journal,
            ]
        ],
    ]
}

/// - Parameter base: what the account's addresses begin with.
func connected(
    _ vendor: Account, settings: JSONValue = [:], account: JSONValue = .null,
    base: String = "https://api.pipedrive.com", credential: JSONValue = ["ref": "api_token", "scheme": "api_key"]
) -> FakeHost? {
    var all: [String: JSONValue] = ["pipeline_id": 1, "stage_id": 11]
    all.merge(settings.object ?? [:]) { $1 }
    return FakeHost(
        PipedrivePlugin.self,
        configuration: [
            "plugin": "pipedrive", "connection": "con_1", "account": account, "settings": .object(all),
            "endpoints": ["api": "https://api.pipedrive.com"],
            "credentials": [credential],
        ],
        script: { request in
            var request = request
            if request.url.hasPrefix(base) {
                request.url = "https://api.pipedrive.com" + request.url.dropFirst(base.count)
            }
            return vendor.answer(request)
        })
}
