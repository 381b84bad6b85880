// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostModel
import Testing

@Suite("identifiers")
struct IdentifierTests {
    @Test(
        "decisions 17: plugin or plugin@name",
        arguments: ["pipedrive", "pipedrive@eu-2", "a_b@1", String(repeating: "x", count: 64)])
    func integrationNames(text: String) throws {
        let name = try #require(IntegrationName(text))
        #expect(name.description == text)
        let json = try JSONEncoder().encode([name])
        #expect(try JSONDecoder().decode([IntegrationName].self, from: json) == [name])
    }

    @Test(
        "anything else is no integration",
        arguments: [
            "", "@", "a@", "@a", "a@b@c", "A", "a b", "a/b", "a.b", "é", String(repeating: "x", count: 65),
            "a@" + String(repeating: "x", count: 65),
        ])
    func notIntegrations(text: String) {
        #expect(IntegrationName(text) == nil)
    }

    @Test("the bare name is the first connection's")
    func bareName() {
        #expect(IntegrationName("hubspot") == IntegrationName(plugin: PluginName("hubspot")))
        #expect(IntegrationName("hubspot@x") == IntegrationName(plugin: PluginName("hubspot"), name: "x"))
    }

    @Test("identifiers are text in JSON and sort as text")
    func textIdentifiers() throws {
        let json = try JSONEncoder().encode([LinkID("b"), LinkID("a")])
        #expect(String(decoding: json, as: UTF8.self) == #"["b","a"]"#)
        #expect(try JSONDecoder().decode([LinkID].self, from: json).sorted() == [LinkID("a"), LinkID("b")])
        #expect("\(WorkspaceID("acme"))" == "acme")
    }
}
