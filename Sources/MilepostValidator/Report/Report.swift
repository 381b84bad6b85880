// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What came of an examination, as text, JSON or JUnit.
public struct Report: Sendable {
    public let plugin: String
    public let seed: UInt64
    public var results: [CheckResult]
    public var disabled: [Int: String]

    public init(plugin: String, seed: UInt64, results: [CheckResult], disabled: [Int: String]) {
        self.plugin = plugin
        self.seed = seed
        self.results = results
        self.disabled = disabled
    }

    public func count(_ word: String) -> Int { results.count { $0.outcome.word == word } }
    public var isGreen: Bool { count("failed") == 0 }
    /// Green, and no check was left out for want of something. What does not apply to a plugin is not left out.
    public var isStrictlyGreen: Bool { isGreen && count("skipped") == 0 }

    // MARK: Text

    /// One line for a check as it ends, with explanation and cure when it failed.
    public static func line(_ result: CheckResult, color: Bool) -> String {
        let mark: String
        switch result.outcome {
        case .passed: mark = color ? "\u{1b}[32mok  \u{1b}[0m" : "ok  "
        case .failed: mark = color ? "\u{1b}[31mFAIL\u{1b}[0m" : "FAIL"
        case .skipped: mark = color ? "\u{1b}[33mskip\u{1b}[0m" : "skip"
        case .inapplicable: mark = "n/a "
        }
        let number = String(result.check.number)
        let head = "\(mark) \(String(repeating: " ", count: 2 - number.count))\(number) \(result.check.title)"
        let message = harmless(result.outcome.message)
        guard case .failed = result.outcome else { return message.isEmpty ? head : "\(head): \(message)" }
        var lines = [
            head, "        seen:  \(message)", "        shows: \(result.check.proves)",
            "        cure:  \(result.check.cure)",
        ]
        if !result.output.isEmpty {
            lines.append("        said:  \(harmless(String(result.output.suffix(400))))")
        }
        return lines.joined(separator: "\n")
    }

    public var summary: String {
        var text = "\(plugin): \(count("passed")) passed, \(count("failed")) failed, \(count("skipped")) skipped, "
        text += "\(count("not_applicable")) not applicable"
        if !disabled.isEmpty { text += ", \(disabled.count) disabled" }
        text += "; seed \(seed)"
        let failed = results.filter { $0.outcome.word == "failed" }.map { String($0.check.number) }
        if !failed.isEmpty {
            text += "\nrun them again with --only \(failed.joined(separator: ",")) --seed \(seed) --trace"
        }
        return text
    }

    /// A plugin's text on somebody's terminal: no control characters, those of eight bits among them.
    public static func harmless(_ text: String) -> String {
        func isControl(_ scalar: Unicode.Scalar) -> Bool { scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value) }
        return String(String.UnicodeScalarView(text.unicodeScalars.map { isControl($0) ? " " : $0 }))
    }

    // MARK: JSON and JUnit

    public var json: JSONValue {
        [
            "plugin": .string(plugin), "seed": .string(String(seed)), "passed": .integer(Int64(count("passed"))),
            "failed": .integer(Int64(count("failed"))), "skipped": .integer(Int64(count("skipped"))),
            "not_applicable": .integer(Int64(count("not_applicable"))),
            "disabled": .object(
                Dictionary(uniqueKeysWithValues: disabled.map { (String($0.key), JSONValue.string($0.value)) })),
            "checks": .array(
                results.map { result in
                    [
                        "number": .integer(Int64(result.check.number)), "title": .string(result.check.title),
                        "level": .integer(Int64(result.check.level)), "outcome": .string(result.outcome.word),
                        "message": .string(result.outcome.message), "cure": .string(result.check.cure),
                        "milliseconds": .integer(Int64(result.milliseconds)),
                        "trace": .array(result.trace.map(JSONValue.string)),
                    ]
                }),
        ]
    }

    public var junit: String {
        var text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        let seconds = results.reduce(0) { $0 + $1.milliseconds }
        text +=
            "<testsuite name=\"\(Self.escaped(plugin))\" tests=\"\(results.count)\" failures=\"\(count("failed"))\" "
        text += "skipped=\"\(count("skipped") + count("not_applicable"))\" time=\"\(Double(seconds) / 1000)\">\n"
        text += "  <properties><property name=\"seed\" value=\"\(seed)\"/></properties>\n"
        for result in results {
            let name = Self.escaped("\(result.check.number) \(result.check.title)")
            let message = Self.escaped(result.outcome.message)
            text += "  <testcase classname=\"milepost.plugin.check\" name=\"\(name)\" "
            text += "time=\"\(Double(result.milliseconds) / 1000)\">"
            switch result.outcome {
            case .passed: break
            case .failed: text += "<failure message=\"\(message)\">\(Self.escaped(result.check.cure))</failure>"
            case .skipped: text += "<skipped message=\"\(message)\"/>"
            case .inapplicable: text += "<skipped message=\"not applicable: \(message)\"/>"
            }
            text += "</testcase>\n"
        }
        return text + "</testsuite>\n"
    }

    /// XML permits no control characters at all, however they are written.
    static func escaped(_ text: String) -> String {
        harmless(text).replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
            .replacing("\"", with: "&quot;")
    }

    /// What there is and what each proves.
    public static func list(_ checks: [Check]) -> String {
        checks.map { check in
            let number = String(check.number)
            return "\(String(repeating: " ", count: 2 - number.count))\(number)  level \(check.level)  \(check.title)\n"
                + "              \(check.proves)"
        }.joined(separator: "\n")
    }

    public static func listJSON(_ checks: [Check]) -> JSONValue {
        [
            "checks": .array(
                checks.map { check in
                    [
                        "number": .integer(Int64(check.number)), "level": .integer(Int64(check.level)),
                        "title": .string(check.title), "proves": .string(check.proves), "cure": .string(check.cure),
                    ]
                })
        ]
    }
}
