// SPDX-License-Identifier: Apache-2.0

import Glibc
import MilepostModel
import MilepostRules

/// What a click costs under many rules with many contacts each, beside a bare dictionary of arrays that keeps every click
/// and counts the window anew: `rule-cost windows|bare RULES CONTACTS CLICKS`,
/// each in a process of its own, because memory that was freed is not given back. Prints one JSON object.
@main
struct RuleCost {
    static let threshold = 50

    static func main() {
        let arguments = CommandLine.arguments.dropFirst()
        let numbers = arguments.dropFirst().compactMap { Int($0) }
        guard numbers.count == 3, let mode = arguments.first, ["windows", "bare"].contains(mode) else {
            print("usage: rule-cost windows|bare RULES CONTACTS CLICKS")
            exit(64)
        }
        let (rules, contacts, clicks) = (numbers[0], numbers[1], numbers[2])
        let names = (0..<contacts).map { "contact-\($0)" }
        let tags = (0..<rules).map { ["tag-\($0)"] }
        let found = measure { mode == "bare" ? dictionary(names, tags, clicks) : windows(names, tags, clicks) }
        print(
            """
            {"us": \(found.seconds * 1e6 / Double(clicks)), "bytes": \(found.bytes / Double(rules * contacts)), \
            "crossings": \(found.crossings)}
            """)
    }

    /// Every pair once, then pairs at random: click `number` is by this contact on this tag.
    private static func pair(_ number: Int, _ contacts: Int, _ tags: Int) -> (contact: Int, tag: Int) {
        let index =
            number < contacts * tags ? number : Int(truncatingIfNeeded: mixed(UInt64(number)) % UInt64(contacts * tags))
        return (index % contacts, index / contacts)
    }

    private static func windows(_ names: [String], _ tags: [[String]], _ clicks: Int) -> (crossings: Int, kept: Any) {
        let index = RuleIndex(
            tags.enumerated().map { number, tag in
                RollingRule(
                    id: "rule-\(number)", name: "rule",
                    trigger: .init(
                        scope: .tag(tag[0]), window: 30 * 86_400_000, threshold: threshold),
                    integration: IntegrationName(plugin: "any"),
                    action: .init(type: "move", pipeline: "p", fromStage: "a", toStage: "b"))
            })
        var fold = RuleFold(rules: index.rules)
        var crossings = 0
        for number in 0..<clicks {
            let (contact, tag) = pair(number, names.count, tags.count)
            for rule in index.matches(link: "link", tags: tags[tag]) {
                let key = RuleFold.Key(rule: rule, contact: names[contact])
                let now = Int64(number)
                if fold.take(key, time: now, isBot: false, now: now).effect == .crossed { crossings += 1 }
            }
        }
        return (crossings, fold)
    }

    private struct Pair: Hashable {
        var contact: String
        var tag: String
    }

    private static func dictionary(_ names: [String], _ tags: [[String]], _ clicks: Int) -> (crossings: Int, kept: Any)
    {
        var times: [Pair: [Int64]] = [:]
        var crossings = 0
        for number in 0..<clicks {
            let (contact, tag) = pair(number, names.count, tags.count)
            let now = Int64(number)
            let count = {
                $0.append(now)
                return $0.count { $0 > now - 30 * 86_400_000 && $0 <= now }
            }(&times[Pair(contact: names[contact], tag: tags[tag][0]), default: []])
            if count == threshold { crossings += 1 }
        }
        return (crossings, times)
    }

    private static func measure(
        _ body: () -> (crossings: Int, kept: Any)
    ) -> (seconds: Double, bytes: Double, crossings: Int) {
        let before = residentBytes()
        let clock = ContinuousClock()
        var result: (crossings: Int, kept: Any)?
        let time = clock.measure { result = body() }
        let grown = Double(residentBytes() - before)
        let crossings = withExtendedLifetime(result?.kept) { result?.crossings ?? 0 }
        let seconds = Double(time.components.seconds) + Double(time.components.attoseconds) * 1e-18
        return (seconds, grown, crossings)
    }

    private static func residentBytes() -> Int {
        guard let file = unsafe fopen("/proc/self/statm", "r") else { return 0 }
        defer { unsafe fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        guard unsafe fgets(&line, 256, file) != nil else { return 0 }
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let fields = text.split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4096 : 0
    }

    private static func mixed(_ seed: UInt64) -> UInt64 {
        var value = seed &* 0x9E37_79B9_7F4A_7C15
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        return value ^ (value >> 27)
    }
}
