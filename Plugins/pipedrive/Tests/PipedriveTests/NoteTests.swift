// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import MilepostKit
import MilepostKitTesting
import Pipedrive
import Testing

extension Serialized {
    @Suite("what a person reads", .timeLimit(.minutes(1)))
    struct NoteTests {
        func folder(_ links: JSONValue, name: String = "Campaign <1>") -> JSONValue {
            [
                "kind": "threshold_crossing", "workspace": "acme",
                "scope": ["kind": "folder", "id": "fld_1", "name": .string(name)], "link": nil, "threshold": 500,
                "arming": 0, "total": ["all": 510], "count": "all", "utm": [:], "top_links": links,
            ]
        }

        func sent(_ payload: JSONValue, settings: JSONValue = [:]) async throws -> (title: String, note: String) {
            let host = try #require(connected(Account(), settings: settings))
            defer { host.destroy() }
            _ = await host.run(MP_VERB_DELIVER, deliver(payload))
            return (
                try #require(host.sent.first { $0.step == "deal" }?.body?["title"]?.string),
                try #require(host.sent.first { $0.step == "note" }?.body?["content"]?.string)
            )
        }

        @Test("CFG-07: the deal of a folder is named after the folder")
        func folderTitle() async throws {
            #expect(try await sent(folder([])).title == "Folder Campaign <1> hit 500 clicks")
            #expect(
                try await sent(folder([]), settings: ["title_template": "{name}: {threshold}"]).title
                    == "Campaign <1>: 500")
        }

        @Test("CFG-08: the note of a folder lists the three links with most clicks, ties by id")
        func folderLinks() async throws {
            let note = try await sent(
                folder([
                    ["id": "lnk_d", "slug": "d", "clicks": 90], ["id": "lnk_c", "slug": "c", "clicks": 200],
                    ["id": "lnk_a", "slug": "a", "clicks": 10], ["id": "lnk_b", "slug": "<b>", "clicks": 90],
                    ["id": "lnk_e", "slug": "e", "clicks": 120],
                ])
            ).note
            #expect(note.contains("<ul><li>c: 200 clicks</li><li>e: 120 clicks</li><li>&lt;b&gt;: 90 clicks</li></ul>"))
            #expect(note.contains("Folder <b>Campaign &lt;1&gt;</b> hit 500 clicks."))
            try wellFormed(note)
        }

        @Test("a folder without links, and a link, have no list", arguments: [true, false])
        func noLinks(isFolder: Bool) async throws {
            let note = try await sent(isFolder ? folder([]) : payload()).note
            #expect(!note.contains("<ul>") && !note.contains("Top links"))
        }

        @Test("DEAL-10: whatever the input, the note is the markup we wrote and the title is one short line")
        func hostileText() async throws {
            var random = HostileSource(seed: 20_261_121)
            for round in 0..<150 {
                let crossing: JSONValue = [
                    "kind": "threshold_crossing",
                    "scope": ["kind": "link", "id": .string(random.text()), "name": .string(random.text())],
                    "link": [
                        "id": .string(random.text()), "slug": .string(random.text()),
                        "destination": .string(random.text()),
                    ],
                    "threshold": 100, "total": ["all": 120, "people": 100],
                    "utm": [
                        "source": .string(random.text()), "medium": .string(random.text()),
                        "campaign": .string(random.text()),
                    ],
                    "analytics_url": .string(
                        random.below(2) == 0 ? "https://links.test/" + random.text() : random.text()),
                ]
                let (title, note) = try await sent(crossing, settings: ["link_field": "Link"])
                try wellFormed(note, "round \(round)")
                #expect(title.unicodeScalars.count <= 255)
                #expect(
                    !title.unicodeScalars.contains {
                        $0.value < 0x20 || (0x7F...0x9F).contains($0.value) || (0x202A...0x202E).contains($0.value)
                    }, "round \(round)")
            }
        }

        @Test(
            "the checker itself sees what it is for",
            arguments: [
                "<p>a<b></p>", "<p>a < b</p>", "<p><script>x</script></p>", "<p><a href=\"javascript:x\">y</a></p>",
                "<p>&bogus;</p>", "<p><a href=\"https://x\">a</a><a href=\"https://x\">b</a></p>",
                "<p onclick=\"x\">a</p>",
            ])
        func checker(bad: String) {
            #expect(throws: Malformed.self) { try wellFormed(bad) }
        }

        struct Malformed: Error { var why: String }

        /// Only our own elements, closed in order; one anchor at most, to the web; no bare sign of markup in text.
        func wellFormed(_ html: String, _ at: String = "") throws {
            // A browser reads scalars: a joiner behind a sign of markup must not hide it inside one Character.
            let html = String(String.UnicodeScalarView(html.unicodeScalars.map { $0.isASCII ? $0 : "?" }))
            var open: [String] = []
            var anchors = 0
            var rest = Substring(html)
            func require(_ isSo: Bool, _ why: String) throws {
                if !isSo { throw Malformed(why: "\(why) \(at): \(html)") }
            }
            while let character = rest.first {
                if character == "<" {
                    let end = try #require(rest.firstIndex(of: ">"))
                    let tag = String(rest[rest.index(after: rest.startIndex)..<end])
                    rest = rest[rest.index(after: end)...]
                    if tag == "br" { continue }
                    if tag.hasPrefix("/") {
                        try require(open.popLast() == String(tag.dropFirst()), "closes \(tag)")
                    } else if tag.hasPrefix("a href=\"") {
                        anchors += 1
                        let address = tag.dropFirst(8).dropLast()
                        try require(tag.hasSuffix("\"") && !address.contains("\"") && !address.contains("<"), "quotes")
                        try require(
                            address.lowercased().hasPrefix("https://") || address.lowercased().hasPrefix("http://"),
                            "scheme")
                        open.append("a")
                    } else {
                        try require(["p", "b", "ul", "li"].contains(tag), "element \(tag)")
                        open.append(tag)
                    }
                } else {
                    try require(!">\"'".contains(character), "bare \(character)")
                    if character == "&" {
                        try require(
                            ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"].contains { rest.hasPrefix($0) }, "entity")
                    }
                    try require(!character.unicodeScalars.contains { $0.value < 0x20 }, "control")
                    rest = rest.dropFirst()
                }
            }
            try require(open.isEmpty && anchors <= 1, "ends with \(open), \(anchors) anchors")
        }
    }
}
