// SPDX-License-Identifier: Apache-2.0

import Glibc
import HubSpot
import MilepostKit
import MilepostKitTesting
import Synchronization

/// Writes every request that the tests saw to a file, for the check against the vendor's own API description
/// (`Tests/Contract/hubspot_requests_test.py`). Off unless MILEPOST_CONTRACT_DIR names a folder.
final class Recorder: Sendable {
    static let shared = Recorder()
    private let seen = Mutex<Set<String>>([])
    private let path: String?

    private init() {
        guard let folder = unsafe getenv("MILEPOST_CONTRACT_DIR") else {
            path = nil
            return
        }
        path = unsafe String(cString: folder) + "/hubspot-requests.ndjson"
    }

    func note(_ request: SentRequest) {
        guard let path else { return }
        let line: JSONValue = [
            "method": .string(request.method), "url": .string(request.url), "body": request.body ?? .null,
            "credential": request.credential.map { .string($0) } ?? .null,
        ]
        let text = String(decoding: line.bytes, as: UTF8.self) + "\n"
        seen.withLock { seen in
            // The same request twice proves nothing more.
            guard seen.insert(text).inserted, let file = unsafe fopen(path, seen.count == 1 ? "w" : "a") else { return }
            unsafe fputs(text, file)
            unsafe fclose(file)
        }
    }
}

// MARK: - Driving

func connected(
    _ portal: Portal, settings: JSONValue = [:], credential: String = "private_app_token", app: JSONValue = .null,
    account: JSONValue = ["id": "62515"],
    then: @escaping @Sendable (SentRequest, FakeAnswer) -> FakeAnswer = { _, answer in answer }
) -> FakeHost? {
    FakeHost(
        HubSpotPlugin.self,
        configuration: [
            "plugin": "hubspot", "connection": "con_1", "workspace": "acme", "account": account, "settings": settings,
            "endpoints": ["api": "https://api.hubapi.com", "app": "https://app.hubspot.com"], "app": app,
            "credentials": [["ref": .string(credential), "scheme": "x"]],
        ],
        script: { then($0, portal.answer($0)) })
}

let template: JSONValue = ["timeline_backend": "timeline_v3", "timeline_template_id": "1001298"]

func click(
    _ key: String, contact: JSONValue = ["id": "101", "email": nil, "via": "click"],
    at: String = "2026-11-02T10:00:00.123Z",
    utm: JSONValue = ["source": "webinar", "medium": "email", "campaign": "q2-pricing", "term": nil, "content": nil],
    title: JSONValue = "Pricing"
) -> JSONValue {
    [
        "kind": "click", "workspace": "acme", "key": .string(key),
        "click": [
            "id": .string("evt_" + key), "at": .string(at), "url": nil, "referrer": "https://mail.test/",
            "country": "DE",
            "device": "mobile", "user_agent": "Mozilla/5.0", "is_bot": false,
        ],
        "utm": utm,
        "link": [
            "id": "lnk_1", "slug": "pricing", "short_url": "https://l.test/pricing",
            "destination": "https://shop.test/p",
            "title": title, "folder": nil, "tags": [], "owner": nil,
        ],
        "contact": contact,
    ]
}

func touch(
    _ key: String, contact: JSONValue = ["id": "101", "email": nil, "via": "click"],
    at: String = "2026-11-02T10:00:00.000Z",
    utm: JSONValue = ["source": "webinar", "medium": "email", "campaign": "q2-pricing"], clicks: Int64 = 1
) -> JSONValue {
    [
        "kind": "touch", "workspace": "acme", "key": .string(key), "contact": contact, "at": .string(at), "utm": utm,
        "clicks": .int(clicks), "last_click": "evt_1", "link": ["id": "lnk_1"],
    ]
}

func deliver(_ action: String, _ payloads: [JSONValue], journal: JSONValue = []) -> JSONValue {
    [
        "action": .string(action),
        "records": .array(
            payloads.enumerated().map { index, payload in
                [
                    "index": .int(Int64(index)), "delivery_id": .string("dlv_\(index)"), "attempt": 1,
                    "first_attempt_at": "2026-11-02T10:00:00Z", "payload": payload, "journal": journal,
                ]
            }),
    ]
}

extension Completion {
    func record(_ index: Int) -> JSONValue { body["records"]?[index] ?? .null }
    var classes: [String] { (body["records"]?.array ?? []).map { $0["class"]?.string ?? "none" } }
}
