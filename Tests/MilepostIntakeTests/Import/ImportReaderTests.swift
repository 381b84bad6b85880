// SPDX-License-Identifier: Apache-2.0

import MilepostIntake
import MilepostModel
import Testing

/// Reads lines and takes the clicks in, as the command line and the daemon do.
func importing(_ lines: [String], _ format: ImportFormat) -> (lines: [ImportedLine], batch: IntakeBatch) {
    var reader = ImportReader(format: format)
    let imported = lines.map { reader.next(line: Array($0.utf8)) }
    let body = imported.flatMap { line -> [UInt8] in
        if case .click(let json) = line { json + [0x0a] } else { [] }
    }
    return (imported, ClickParser().parse(body: body, kind: .ndjson, workspace: acme, now: now))
}

@Suite("files of clicks become REST events")
struct ImportReaderTests {
    @Test("milepost: the first of equal lines has the id REST would give, the others ids of their own (decisions 8)")
    func ordinals() {
        let line = #"{"link":"spring","ts":1331923247}"#
        let (_, batch) = importing([line, #"{ "ts":1331923247000, "link":"spring" }"#, line], .milepost)
        #expect(batch.rejections == [])
        #expect(
            batch.clicks.map(\.click.id.rawValue) == [
                "evt_f0116f26535f2a02d554799ba5542b80", "evt_2edd2b71d6d19bda5574fd643485bb80",
                "evt_0c3211853346bedd7ab2ef009fdc2555",
            ])
        #expect(parse(line).clicks.map(\.identity) == [batch.clicks[0].identity])
        #expect(importing([line, line, line], .milepost).batch.clicks.map(\.identity) == batch.clicks.map(\.identity))
    }

    @Test("milepost: an id that repeats stays one click, and nothing of the event is lost but the ip")
    func wholeEvents() {
        let (_, batch) = importing(
            [DerivedIDTests.full, #"{"id":"e","link":"l","ts":1764000000,"ip":"203.0.113.7","bot":false}"#], .milepost)
        let direct = parse(DerivedIDTests.full)
        #expect(batch.clicks.first?.click == direct.clicks.first?.click)
        #expect(batch.clicks.last?.click.id == EventID("e"))
        let (lines, _) = importing([#"{"id":"e","link":"l","ts":1764000000,"ip":"203.0.113.7"}"#], .milepost)
        guard case .click(let json) = lines[0] else { return #expect(Bool(false), "\(lines)") }
        #expect(!String(decoding: json, as: UTF8.self).contains("203.0.113.7"))
    }

    @Test("what has been seen is kept in bounded memory: a far repetition counts as the first, never twice")
    func boundedMemory() {
        var reader = ImportReader(format: .milepost, rememberedLines: 10)
        func event(_ second: Int) -> ImportedLine {
            reader.next(line: Array(#"{"link":"l","ts":\#(1_764_000_000 + second)}"#.utf8))
        }
        let first = event(0)
        for second in 1...10 { _ = event(second) }
        #expect(event(0) != first)
        for second in 100...130 { _ = event(second) }
        #expect(event(0) == first)
    }

    @Test("a byte order mark is skipped before the first line only")
    func byteOrderMark() {
        let line = "\u{feff}{\"link\":\"l\",\"ts\":1764000000}\r"
        let (lines, batch) = importing([line, line], .milepost)
        #expect(batch.clicks.count == 1)
        guard case .rejected(let code, _) = lines[1] else { return #expect(Bool(false)) }
        #expect(code == "invalid_json")
    }

    @Test("bitly: fields, the campaign of the URL, escaped slashes, heartbeats")
    func bitly() throws {
        let line = #"""
            { "a": "Mozilla\/5.0", "c": "US", "nk": 1, "g": "A6qOVH", "h": "wfLQtf", "r": "direct", "u": "http:\/\/x.gov\/?utm_source=tw+1&utm_medium=m", "t": 1331923247, "ll": [ 42.5, -70.9 ] }
            """#
        let (lines, batch) = importing(
            [line, #"{ "_heartbeat_": 1331923261 }"#, #"{"t":1}"#, "", #"{"g":"a","t":"x"}"#, "{"], .bitly)
        let click = try #require(batch.clicks.first).click
        #expect(click.link == LinkID("A6qOVH") && click.time.milliseconds == 1_331_923_247_000)
        #expect(click.url == "http://x.gov/?utm_source=tw+1&utm_medium=m" && click.country == "US")
        #expect(
            click.utm == UTM(source: "tw 1", medium: "m") && click.referrer == nil && click.userAgent == "Mozilla/5.0")
        #expect(lines[1] == .notAClick(reason: "heartbeat"))
        #expect(lines[3] == .notAClick(reason: "blank line"))
        let codes = lines.map { line -> String in if case .rejected(let code, _) = line { code } else { "" } }
        #expect(codes == ["", "", "link_missing", "", "ts_invalid", "invalid_json"])
    }

    @Test("dub: the vendor's example, with its words for none taken as absent", .enabled(if: SharedFiles.areHere))
    func dub() throws {
        let example = try #require(SharedFiles.read("specs/dub/link.clicked.example.json"))
        var reader = ImportReader(format: .dub)
        guard case .click(let json) = reader.next(line: example) else { return #expect(Bool(false)) }
        let batch = ClickParser().parse(body: json, kind: .json, workspace: acme, now: now)
        let click = try #require(batch.clicks.first).click
        #expect(click.id == EventID("evt_MilepostExample000000001") && click.link == LinkID("link_0000000000000001"))
        #expect(click.time == Timestamp(rfc3339: "2025-10-24T10:00:00.123Z") && click.referrer == nil)
        #expect(click.utm == UTM(source: "webinar", medium: "email", campaign: "q2-pricing"))
        #expect(click.device == "Desktop" && click.country == "DE" && !click.isBot)
        #expect(!String(decoding: json, as: UTF8.self).contains("203.0.113.7"))
        #expect(reader.linkFacts?.slug == "spring" && reader.linkFacts?.shortURL == "https://go.example.test/spring")
        #expect(
            reader.next(line: Array(#"{"id":"evt_2","event":"lead.created"}"#.utf8))
                == .notAClick(reason: "a 'lead.created' event"))
        #expect(reader.linkFacts == nil)
    }

    @Test("shlink: the vendor's example; the id ignores what Shlink looks up later", .enabled(if: SharedFiles.areHere))
    func shlink() throws {
        let example = String(decoding: try #require(SharedFiles.read("specs/shlink/visit.example.json")), as: UTF8.self)
        let (lines, batch) = importing([example, example], .shlink)
        let click = try #require(batch.clicks.first, "\(lines)").click
        #expect(click.id == EventID("evt_221cd203bc9d135f257d94d68fe86182") && click.link == LinkID("spring"))
        #expect(click.country == "DE" && click.url == "https://example.test/pricing" && !click.isBot)
        #expect(Set(batch.clicks.map(\.identity)).count == 2)
        let located = try #require(example.firstRange(of: "\"DE\""))
        let later = example.replacingCharacters(in: located, with: "\"FR\"")
        #expect(importing([later], .shlink).batch.clicks.first?.click.id == click.id)
    }

    @Test("shlink: its verdict wins, orphans and new links are no clicks, a domain is part of the link")
    func shlinkKinds() {
        func visit(_ bot: Bool) -> String {
            #"{"shortUrl":{"shortCode":"a","domain":"s.test"},"visit":{"date":"2025-10-24T12:00:00+02:00","userAgent":"curl/8","potentialBot":\#(bot),"visitedUrl":"https://s.test/a?eid=5"}}"#
        }
        let (_, batch) = importing([visit(true), visit(false)], .shlink)
        #expect(batch.clicks.map(\.click.isBot) == [true, false])
        #expect(batch.clicks.map(\.click.contactID) == ["5", "5"])
        #expect(batch.clicks.first?.click.link == LinkID("s.test/a"))
        let (lines, _) = importing(
            [#"{"visit":{"type":"base_url"}}"#, #"{"shortUrl":{"shortCode":"a"}}"#, "{}", "[]"], .shlink)
        #expect(lines[0] == .notAClick(reason: "a visit to no short URL (orphan)"))
        #expect(lines[1] == .notAClick(reason: "a new short URL"))
        for line in lines[2...] { guard case .rejected = line else { return #expect(Bool(false), "\(line)") } }
    }
}

extension String {
    fileprivate func replacingCharacters(in range: Range<String.Index>, with text: String) -> String {
        String(self[..<range.lowerBound]) + text + String(self[range.upperBound...])
    }
}
