// SPDX-License-Identifier: Apache-2.0

import MilepostConfiguration
import Testing

@Suite("reference")
struct ReferenceTests {
    @Test("the printed reference reads back as the defaults")
    func referenceIsTheDefaults() throws {
        #expect(try Configuration.parse(Configuration.reference()) == Configuration())
    }

    @Test("every line of the reference fits a terminal of 140 columns and every key has a comment")
    func referenceIsDocumented() {
        let lines = Configuration.reference().split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.allSatisfy { $0.count <= 140 })
        for (above, line) in zip(lines, lines.dropFirst()) where line.hasPrefix("  ") && line.contains(": ") {
            #expect(above.contains("# ") || line.contains("# "), "\(line)")
        }
    }

    @Test("the reference marks the keys that a reload applies, as the difference has them")
    func referenceMarksReload() {
        let lines = Configuration.reference().split(separator: "\n")
        func mark(_ key: String) -> Bool? {
            zip(lines, lines.dropFirst()).first { $0.1.hasPrefix("\(key):") || $0.1.hasPrefix("  \(key):") }
                .map { $0.0.hasSuffix("(reload)") }
        }
        #expect(mark("level") == true && mark("clicks_days") == true && mark("max_body") == true)
        #expect(mark("listen") == false && mark("threshold_interval") == false && mark("max_attempts") == false)
    }
}
