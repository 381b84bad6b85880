// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import CustomHook
import MilepostKit
import MilepostKitTesting
import Testing

extension Serialized {
    @Suite("hostile settings and values", .timeLimit(.minutes(2)))
    struct FuzzTests {
        @Test("settings of any shape are taken or named, and what is taken sends one line a header and JSON")
        func shapes() async throws {
            var random = HostileSource(seed: 5, names: ["data", "utm", "link", "{{data.link.slug}}", "x"])
            let names = ["format", "batch", "clicks", "only", "headers", "body_template", "source"]
            var taken = 0
            for round in 0..<300 {
                var settings: [String: JSONValue] = ["url": "https://hooks.test/in"]
                // One at a time as a rule: a second wrong setting would hide what the first one does.
                for _ in 0...random.below(2) { settings[names[random.below(names.count)]] = value(&random) }
                guard let host = hooked(settings) else { continue }
                defer { host.destroy() }
                let configured = await host.run(MP_VERB_CONFIGURE, ["settings": .object(settings)])
                let errors = configured.body["errors"]?.array ?? []
                #expect(errors.allSatisfy { $0["pointer"]?.string?.hasPrefix("/") == true }, "round \(round)")
                guard configured.status == MP_OK, errors.isEmpty else { continue }
                taken += 1
                let record = await host.run(MP_VERB_DELIVER, deliver(random.mutated(crossing))).body["records"]?[0]
                #expect(["ok", "rejected"].contains(record?["class"]?.string), "round \(round)")
                for sent in host.sent {
                    #expect(sent.body != nil, "round \(round)")
                    let values = sent.headers.map(\.value)
                    #expect(values.allSatisfy { $0.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F } }, "round \(round)")
                }
            }
            #expect(taken > 30)
        }

        @Test("a value never changes a template's shape: the placeholders hold it, and nothing else moves")
        func templates() async throws {
            let text = #"{"one":"{{data.utm.source}}","in":"<{{ data.utm.campaign }}>","kept":[1,"{{","}}"]}"#
            let host = try #require(hooked(["format": "template", "body_template": .string(text)]))
            defer { host.destroy() }
            var random = HostileSource(seed: 6)
            for round in 0..<300 {
                let source = random.json()
                let campaign = random.text()
                var utm: [String: JSONValue] = ["campaign": .string(campaign)]
                utm["source"] = source
                var payload = crossing.object ?? [:]
                payload["utm"] = .object(utm)
                _ = await host.run(MP_VERB_DELIVER, deliver(.object(payload)))
                let body = try #require(host.sent.last?.body)
                #expect(body["in"] == .string("<\(campaign)>"), "round \(round)")
                #expect(body["one"] == source, "round \(round)")
                #expect(body["kept"] == [1, "{{", "}}"] && body.object?.count == 3, "round \(round)")
            }
        }

        private func value(_ random: inout HostileSource) -> JSONValue {
            switch random.below(4) {
            case 0: .object([["tag", "folder", "X-A", "x y"][random.below(4)]: random.json()])
            case 1: .string(["webhook", "cloudevents", "cloudevents_binary", "template"][random.below(4)])
            case 2: .string(String(decoding: random.damaged(random.json().bytes), as: UTF8.self))
            default: random.json()
            }
        }
    }
}
