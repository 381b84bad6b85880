// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import CustomHook
import MilepostKit
import MilepostKitTesting
import Testing

/// Clicks by their numbers.
private func clicks(_ numbers: [Int]) -> JSONValue {
    let records = numbers.enumerated().map { index, number -> JSONValue in
        var payload = click.object ?? [:]
        payload["key"] = .string("key\(number)")
        payload["link"] = ["id": .string("lnk\(number)"), "slug": "s", "tags": number % 2 == 0 ? ["even"] : ["odd"]]
        return [
            "index": .int(Int64(index)), "delivery_id": .string("dlv_\(number)"), "payload": .object(payload),
        ]
    }
    return ["action": "click_hook", "records": .array(records)]
}

/// What the items of a sent list are about.
private func subjects(_ body: JSONValue?) -> [String] {
    (body?.array ?? []).compactMap { $0["data"]?["link"]?["id"]?.string }
}

private func header(_ name: String, _ sent: SentRequest?) -> String? {
    sent?.headers.first { $0.name == name }?.value
}

extension Serialized {
    @Suite("sends clicks together", .timeLimit(.minutes(1)))
    struct BatchTests {
        @Test("EXT-04: a batch is one signed request; each of its items has its own id")
        func together() async throws {
            let host = try #require(hooked(["batch": true]))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, clicks(Array(1...5)))
            #expect(host.sent.count == 1)
            let sent = try #require(host.sent.first)
            #expect(sent.credential == "signing_key" && sent.isIdempotent)
            #expect(subjects(sent.body) == ["lnk1", "lnk2", "lnk3", "lnk4", "lnk5"])
            #expect(sent.body?[2]?["id"] == "key3" && sent.body?[2]?["type"] == "milepost.link.clicked")
            let records = done.body["records"]?.array ?? []
            #expect(records.count == 5 && records.allSatisfy { $0["class"] == "ok" })
            #expect(records.map { $0["remote_id"]?.string } == ["key1", "key2", "key3", "key4", "key5"])
        }

        @Test("Standard Webhooks: the same clicks have the same id, others another; no dot in it")
        func identity() async throws {
            let host = try #require(hooked(["batch": true]))
            defer { host.destroy() }
            for numbers in [[1, 2, 3], [1, 2, 3], [1, 2, 4], [1, 2], [1, 3, 2]] {
                _ = await host.run(MP_VERB_DELIVER, clicks(numbers))
            }
            let ids = host.sent.compactMap { header("webhook-id", $0) }
            #expect(ids.count == 5 && ids[0] == ids[1] && Set(ids).count == 4)
            #expect(ids.allSatisfy { !$0.contains(".") && $0.hasPrefix("bat_") })
        }

        @Test("batch_size bounds a request, and one click alone is a list, too")
        func sizes() async throws {
            let host = try #require(hooked(["batch": true, "batch_size": 2]))
            defer { host.destroy() }
            _ = await host.run(MP_VERB_DELIVER, clicks(Array(1...5)))
            #expect(host.sent.map { $0.body?.array?.count } == [2, 2, 1])
        }

        @Test("CloudEvents: a batch of structured events, also when single ones are binary")
        func cloudEvents() async throws {
            let host = try #require(hooked(["batch": true, "format": "cloudevents_binary"]))
            defer { host.destroy() }
            _ = await host.run(MP_VERB_DELIVER, clicks([1, 2]))
            #expect(header("content-type", host.sent.first)?.hasPrefix("application/cloudevents-batch+json") == true)
            #expect(host.sent.first?.body?[1]?["id"] == "key2" && host.sent.first?.body?[1]?["specversion"] == "1.0")
        }

        @Test("a click that the receiver refuses fails alone, wherever it stands", arguments: [1, 3, 6, 7])
        func oneBad(bad: Int) async throws {
            let host = try #require(
                hooked(["batch": true]) { request in
                    subjects(request.body).contains("lnk\(bad)") ? .json(422, [:]) : .json(200, [:])
                })
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, clicks(Array(1...7)))
            let classes = (done.body["records"]?.array ?? []).map { $0["class"]?.string }
            #expect(classes == (1...7).map { $0 == bad ? "rejected" : "ok" })
            let arrived = host.sent.map { subjects($0.body) }.filter { !$0.contains("lnk\(bad)") }.flatMap(\.self)
            #expect(arrived.sorted() == (1...7).filter { $0 != bad }.map { "lnk\($0)" }, "each once")
        }

        @Test("what is filtered or unreadable is left out of the request, with its own reason (HOOK-09)")
        func leftOut() async throws {
            let host = try #require(hooked(["batch": true, "only": ["tag": ["even"]]]))
            defer { host.destroy() }
            var request = clicks([1, 2, 3]).object ?? [:]
            var records = request["records"]?.array ?? []
            records.append(["index": 3, "delivery_id": "dlv_x", "payload": ["kind": "nothing"]])
            request["records"] = .array(records)
            let done = await host.run(MP_VERB_DELIVER, .object(request))
            let codes = (done.body["records"]?.array ?? []).map { $0["error"]?["code"]?.string }
            #expect(codes == ["filtered", nil, "filtered", "payload_unreadable"])
            #expect(subjects(host.sent.first?.body) == ["lnk2"] && host.sent.count == 1)
        }

        @Test(
            "an answer about the receiver is said of all, and it is not asked again",
            arguments: [(503, "retry"), (429, "rate_limited"), (401, "auth_revoked"), (410, "config")])
        func wall(status: Int, kind: String) async throws {
            let host = try #require(hooked(["batch": true, "batch_size": 2]) { _ in .json(status, [:]) })
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, clicks(Array(1...6)))
            #expect(host.sent.count == 1)
            let classes = (done.body["records"]?.array ?? []).map { $0["class"]?.string }
            #expect(classes == Array(repeating: kind, count: 6))
        }

        @Test("crossings leave one by one, and clicks too where the settings do not say otherwise")
        func apart() async throws {
            let host = try #require(hooked(["batch": true]))
            defer { host.destroy() }
            _ = await host.run(MP_VERB_DELIVER, deliver(crossing, crossing))
            #expect(host.sent.count == 2 && host.sent[0].body?["type"] == "milepost.link.threshold_crossed")
            let other = try #require(hooked())
            defer { other.destroy() }
            _ = await other.run(MP_VERB_DELIVER, clicks([1, 2, 3]))
            #expect(other.sent.count == 3 && other.sent.allSatisfy { $0.body?.array == nil })
        }
    }
}
