// SPDX-License-Identifier: Apache-2.0

import MilepostClient
import MilepostModel
import Testing

@Suite("milepost config diff")
struct ConfigurationDiffTests {
    private let plain = Terminal(isInteractive: false, hasColours: false)

    private func change(_ key: String, _ running: JSONValue, _ file: JSONValue, _ needs: String) -> JSONValue {
        ["key": .string(key), "running": running, "file": file, "needs": .string(needs)]
    }

    private func diff(_ changes: [JSONValue], errors: [JSONValue] = [], applied: ApplyReport? = nil)
        -> ConfigurationDiff
    {
        ConfigurationDiff(
            daemon: ["changes": .array(changes), "files": ["/etc/x.yaml"], "errors": .array(errors)], applied: applied)
    }

    @Test(
        "EXT-15: the exit status is 0 without and 2 with a difference, and 1 when the files are wrong whatever differs")
    func statuses() {
        let one = change("log.level", "info", "debug", "reload")
        #expect(diff([]).exitStatus == .success)
        #expect(diff([one]).exitStatus == .different)
        #expect(diff([one], errors: ["x"]).exitStatus == .failure)
        #expect(ExitStatus.different.rawValue == 2)
        #expect(diff([], applied: ApplyReport(elsewhere: [])).exitStatus == .success)
    }

    @Test("EXT-15: what a reload takes comes before what waits for a restart; what comes or goes is shown as such")
    func text() {
        let text = diff([
            change("listen", "a:1", "b:2", "restart"), change("log.level", "info", "debug", "reload"),
            change("plugins.x", .null, "{ enabled: true }", "reload"), change("plugins.y", "{}", .null, "reload"),
        ]).text(plain)
        #expect(
            text == """
                after 'milepost reload':
                ~ log.level: info → debug
                + plugins.x: { enabled: true }
                - plugins.y: {}
                after 'systemctl restart milepost':
                ~ listen: a:1 → b:2
                """)
        #expect(diff([]).text(plain).hasPrefix("no difference"))
    }

    @Test("a value that would speak to the terminal does not")
    func hostile() {
        let text = diff([change("log.level", "info", "\u{1b}[2Jx\nno difference", "reload")]).text(plain)
        #expect(!text.contains("\u{1b}") && !text.contains("\nno difference"))
    }
}
