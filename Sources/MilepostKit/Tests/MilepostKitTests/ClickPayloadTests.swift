// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostKit
import Testing

@Suite("Payloads of click actions")
struct ClickPayloadTests {
    /// The examples that the schema is published with.
    private func examples(_ name: String) throws -> [JSONValue] {
        let tests = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast()
        let path = (tests.dropLast(4) + ["include", "milepost", "schemas", "\(name).json"]).joined(separator: "/")
        let schema = try JSONValue(parsing: Array(try String(contentsOfFile: path, encoding: .utf8).utf8))
        return try #require(schema["examples"]?.array)
    }

    @Test("a click is read as its schema's examples show it (RES-01, TL-08)")
    func click() throws {
        let clicks = try examples("payload.click").map { try $0.decoded(as: ResolvedClick.self) }
        #expect(clicks.count == 2)
        #expect(clicks[0].contact.id == "701")
        #expect(clicks[0].click.at == "2026-11-02T10:00:00.000Z")
        #expect(clicks[0].utm.campaign == "q2-pricing")
        #expect(clicks[0].link.tags == ["sales-collateral"])
        #expect(clicks[1].contact.email == "ada@example.org")
        #expect(clicks[1].contact.via == "form")
        #expect(clicks[1].utm.isEmpty)
    }

    @Test("a touch is read as its schema's example shows it; what is null stays as it is (PROP-13)")
    func touch() throws {
        let touch = try #require(try examples("payload.touch").first).decoded(as: ContactTouch.self)
        #expect(touch.clicks == 3)
        #expect(touch.last_click == "evt_2")
        #expect(touch.utm.source == "webinar")
        #expect(touch.utm.medium == nil)
        #expect(!touch.utm.isEmpty)
    }
}
