// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import FoundationEssentials
import MilepostKit
import MilepostKitTesting
import Testing

extension SerializedKit {
    @Suite("the example of README.md", .timeLimit(.minutes(1)))
    struct ReadmeTests {
        @Test("is the one that is compiled here")
        func isCompiled() throws {
            let tests = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast()
            func text(_ path: [Substring]) throws -> String {
                try String(contentsOfFile: path.joined(separator: "/"), encoding: .utf8)
            }
            let example = try text(tests + ["ReadmeExample.swift"])
            let code = try #require(example.split(separator: "\n\n", maxSplits: 1).last)
            #expect(try text(tests.dropLast(2) + ["README.md"]).contains("```swift\n\(code)```"))
        }

        func made(_ script: @escaping FakeHost.Script) throws -> FakeHost {
            try #require(FakeHost(AcmePlugin.self, configuration: ["connection": "con_1"], script: script))
        }

        func request(journal: JSONValue = []) -> JSONValue {
            let payload: JSONValue = [
                "scope": ["kind": "link", "id": "lnk_spring", "name": "spring"], "threshold": 100,
                "total": ["all": 120],
            ]
            return [
                "action": "lead",
                "records": [["index": 0, "delivery_id": "dlv_1", "payload": payload, "journal": journal]],
            ]
        }

        @Test("delivers once, and not again when the journal has it")
        func delivers() async throws {
            let host = try made { _ in .json(201, ["id": "9"]) }
            defer { host.destroy() }
            let record = await host.run(MP_VERB_DELIVER, request()).body["records"]?[0]
            #expect(record?["class"] == "ok" && record?["remote_id"] == "9")
            #expect(host.sent.first?.body == ["title": "spring", "reference": "dlv_1"])
            let journal: JSONValue = [["step": "lead", "state": "done", "result": ["id": "9"]]]
            #expect(await host.run(MP_VERB_DELIVER, request(journal: journal)).body["records"]?[0]?["remote_id"] == "9")
            #expect(host.sent.count == 1)
        }

        @Test(
            "answers have the classes that the text promises",
            arguments: [
                (401, "auth_revoked"), (429, "rate_limited"), (422, "rejected"), (500, "uncertain"), (503, "retry"),
            ])
        func classes(status: Int, name: String) async throws {
            let host = try made { _ in .json(status, [:]) }
            defer { host.destroy() }
            #expect(await host.run(MP_VERB_DELIVER, request()).body["records"]?[0]?["class"] == .string(name))
        }

        @Test("finds out", arguments: [true, false])
        func reconciles(isThere: Bool) async throws {
            let items: JSONValue = isThere ? [["id": "9"]] : []
            let answer = isThere ? "applied" : "not_applied"
            let host = try made { _ in .json(200, ["items": items]) }
            defer { host.destroy() }
            #expect(await host.run(MP_VERB_RECONCILE, request()).body["records"]?[0]?["answer"] == .string(answer))
        }
    }
}
