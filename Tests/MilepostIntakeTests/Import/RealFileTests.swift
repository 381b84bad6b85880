// SPDX-License-Identifier: Apache-2.0

import MilepostIntake
import MilepostModel
import Testing

/// The public 1.USA.gov feed of 16 March 2012; figures counted with an independent JSON reader.
@Suite("real clicks, end to end", .enabled(if: SharedFiles.areHere))
struct RealFileTests {
    static let result: (lines: [ImportedLine], batch: IntakeBatch) = {
        let file = SharedFiles.read("data/usagov-bitly-clicks.jsonl") ?? []
        return importing(file.split(separator: 0x0a).map { String(decoding: $0, as: UTF8.self) }, .bitly)
    }()

    @Test("3,440 clicks, 120 heartbeats, 737 links, nothing rejected, every click its own")
    func figures() {
        let (lines, batch) = Self.result
        #expect(lines.count == 3560)
        #expect(lines.filter { $0 == .notAClick(reason: "heartbeat") }.count == 120)
        #expect(batch.clicks.count == 3440 && batch.rejectedCount == 0)
        #expect(Set(batch.clicks.map(\.click.link)).count == 737)
        #expect(Set(batch.clicks.map(\.identity)).count == 3440)
    }

    @Test("four links reach 100 clicks, people alone bring three there (decisions 13)")
    func thresholds() {
        var all: [LinkID: Int] = [:]
        var people: [LinkID: Int] = [:]
        for line in Self.result.batch.clicks {
            all[line.click.link, default: 0] += 1
            if !line.click.isBot { people[line.click.link, default: 0] += 1 }
        }
        #expect(all.values.filter { $0 >= 100 }.sorted() == [121, 129, 425, 836])
        #expect(Set(people.filter { $0.value >= 100 }.keys) == [LinkID("vNJS4H"), LinkID("wcndER"), LinkID("xVZg4P")])
        #expect(people[LinkID("mwszkS")] == nil)
        // Few robots in the other three: an over-eager filter would show here first.
        #expect(
            people[LinkID("vNJS4H")]! >= 830 && people[LinkID("wcndER")]! >= 415 && people[LinkID("xVZg4P")]! >= 120)
    }

    @Test("the same file again changes nothing")
    func again() {
        let file = SharedFiles.read("data/usagov-bitly-clicks.jsonl") ?? []
        let again = importing(file.split(separator: 0x0a).map { String(decoding: $0, as: UTF8.self) }, .bitly)
        #expect(again.batch == Self.result.batch)
    }

    @Test("some clicks carry the campaign of their URL's query")
    func campaigns() {
        #expect(
            Self.result.batch.clicks.contains {
                $0.click.utm.source == "twitterfeed" && $0.click.utm.medium == "facebook"
            })
    }
}
