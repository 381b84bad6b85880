// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostConfiguration
import MilepostModel
import Testing

@Suite("files for apply")
struct DesiredStateTests {
    static let whole = """
        plans:
          free: { fires: false }
          pro:
        workspaces:
          acme:
            plan: pro
            connections:
              pipedrive:
                credentials:
                  api_token: { env: CRM_TOKEN }
                thresholds: [50, 500]
                aggregation: folder
                count: people
                fire_current: true
                settings:
                  pipeline_id: 1
                  stage_id: 11
                  fields: { Deal Source: "0123" }
              pipedrive@second:
                credentials: { api_token: { file: secrets/token } }
        """

    private func read(_ yaml: String) throws(ConfigurationError) -> [DesiredObject] {
        try DesiredState.parse(Data(yaml.utf8), file: "/etc/milepost/apply/acme.yaml")
    }

    private func issues(_ yaml: String) -> [String] {
        do throws(ConfigurationError) {
            _ = try read(yaml)
            return []
        } catch { return error.issues.map(\.description) }
    }

    @Test("EXT-15, RULE-01: a workspace's rules are read as a file of rules is, each with id and lines")
    func rules() throws {
        let objects = try read(
            """
            workspaces:
              acme:
                rules:
                  - id: first
                    trigger: { link_tag: t, contact_window: 30d rolling, click_threshold: 50 }
                    action:
                      type: hubspot.deal_stage
                      from_stage: "01"
                      to_stage: b
                    guard: { deal_amount_min: 4999.50 }
                  - name: Moves the deal on
                    trigger: { link: spring, contact_window: 7d, click_threshold: 2 }
                    action: { type: hubspot.deal_stage, from_stage: a, to_stage: b }
            """)
        #expect(objects.map(\.kind) == [.rule, .rule] && objects.map(\.name) == ["first", "moves-the-deal-on"])
        #expect(objects.map(\.line) == [4, 11] && objects.map(\.workspace) == ["acme", "acme"])
        #expect(objects[0].document["guard"] == ["deal_amount_min": "4999.50"], "an amount keeps its digits")
        #expect(objects[0].document["action"]?["from_stage"] == "01")
        let field = objects[0].field(at: "/action/to_stage")
        #expect(field.line == 9 && field.place == "workspaces.acme.rules[0].action.to_stage")
        let wrong = issues(
            """
            workspaces:
              acme:
                rules:
                  - id: first
                    trigger: { link_tag: t, contact_window: 0d, click_threshold: 50 }
                    action:
                      type: hubspot.deal_stage
                      from_stage: a
                      to_stge: b
                  - just text
            """)
        #expect(wrong.contains { $0.contains("acme.yaml:5: workspaces.acme.rules[0].trigger.contact_window: ") })
        #expect(wrong.contains { $0.contains("acme.yaml:9: workspaces.acme.rules[0].action.to_stge: ") })
        #expect(wrong.contains { $0.contains("acme.yaml:10: workspaces.acme.rules[1]: expected a rule") })
        #expect(issues("workspaces: {a: {rules: {x: 1}}}").first?.contains("expected a list of rules") == true)
        #expect(try read("workspaces: {a: {rules: []}}").isEmpty)
    }

    @Test("EXT-15: a file's objects carry REST's members, where each stands, and references instead of secrets")
    func everything() throws {
        let objects = try read(Self.whole)
        #expect(objects.map(\.kind) == [.plans, .workspace, .connection, .connection])
        #expect(objects[0].document == ["free": ["fires": false], "pro": [:]])
        #expect(objects[1].document == ["plan": "pro"] && objects[1].workspace == "acme")
        let first = objects[2]
        #expect(
            first.document == [
                "thresholds": [50, 500], "aggregation": "folder", "count": "people", "pipeline_id": 1,
                "stage_id": 11, "fields": ["Deal Source": "0123"],
            ])
        #expect(first.firesForCurrentState == true && first.name == "pipedrive" && first.line == 8)
        #expect(first.secrets["api_token"]?.kind == .environment("CRM_TOKEN"))
        #expect(first.field(at: "/stage_id").line == 17)
        #expect(first.field(at: "/stage_id").place == "workspaces.acme.connections.pipedrive.settings.stage_id")
        #expect(first.field(at: "/fields/Deal Source").line == 18, "the nearest place around it")
        #expect(first.field(at: "/nothing").line == 8)
        #expect(objects[3].secrets["api_token"]?.kind == .file("/etc/milepost/apply/secrets/token"))
    }

    @Test(
        "EXT-15: what is wrong is named with its line and the key that was meant",
        arguments: [
            ("workspace: {}", ":1: unknown key 'workspace'; did you mean 'workspaces'?"),
            ("workspaces: {a: {conections: {}}}", "in 'workspaces.a'; did you mean 'connections'?"),
            (
                "workspaces:\n  a:\n    connections:\n      pipedrive:\n        treshold: [1]",
                ":5: unknown key 'treshold' in 'workspaces.a.connections.pipedrive'; did you mean 'thresholds'?"
            ),
            ("workspaces: {a: {connections: {Pipe: {}}}}", "'Pipe' is not plugin or plugin@name"),
            ("workspaces: {a: {connections: {p: {thresholds: [0]}}}}", "expected a list of whole numbers above 0"),
            ("workspaces: {a: {connections: {p: {count: robots}}}}", "expected all or people, found 'robots'"),
            ("workspaces: {a: {connections: {p: {settings: {count: all}}}}}", "belongs beside 'settings'"),
            ("workspaces: {a: [1]}", "workspaces.a: expected a map, found a list"),
            ("plans: {free: {fire: false}}", "unknown key 'fire' in 'plans.free'; did you mean 'fires'?"),
            ("workspaces: {a: {plan: [x]}}", "workspaces.a.plan: expected a plan's name"),
            (
                "workspaces: {a: {connections: {p: {credentials: {t: {env: A, file: B}}}}}}",
                "expected one name or one path"
            ),
            ("workspaces: {a: &x {}}", "anchors (&) and aliases (*)"),
        ])
    func wrong(yaml: String, said: String) {
        let found = issues(yaml)
        #expect(found.count == 1 && found[0].contains(said), "\(found)")
    }

    @Test(
        "EXT-15, SEC-06: a secret in the file itself is refused with the reason, and no message repeats it",
        arguments: [
            "{api_token: s3cr3t-marker}", "{api_token: [s3cr3t-marker]}", "s3cr3t-marker",
            "{api_token: {env: s3cr3t-marker}}", "{api_token: {value: s3cr3t-marker}}",
        ])
    func inline(credentials: String) {
        let found = issues("workspaces: {a: {connections: {p: {credentials: \(credentials)}}}}")
        #expect(!found.isEmpty)
        #expect(found.allSatisfy { !$0.contains("s3cr3t-marker") && $0.contains("env") }, "\(found)")
    }

    @Test("EXT-15: any mutation of a file is read or refused, and what is read names only places of the file")
    func mutations() {
        var random = SplitMix(state: 11)
        let words = [
            "{", "}", "[", "]", ":", " ", "\n", "env", "null", "1", "-", "'", "\"", "thresholds", "\u{0}", "é",
        ]
        for _ in 0..<2000 {
            var bytes = Array(Self.whole.utf8)
            for _ in 0...(Int(random.next() % 4)) {
                let at = Int(random.next() % UInt64(bytes.count))
                if random.next() % 2 == 0 {
                    bytes.remove(at: at)
                } else {
                    bytes.insert(contentsOf: words[Int(random.next() % UInt64(words.count))].utf8, at: at)
                }
            }
            do throws(ConfigurationError) {
                let lines = bytes.count { $0 == 0x0a } + 1
                for object in try DesiredState.parse(Data(bytes), file: "/f.yaml") {
                    #expect((1...lines).contains(object.line ?? 0))
                    #expect(object.fields.values.allSatisfy { (1...lines).contains($0.line ?? 0) })
                }
            } catch { #expect(error.issues.allSatisfy { $0.file == "/f.yaml" && !$0.message.isEmpty }) }
        }
    }

    @Test(
        "EXT-15: a folder's files are read in name order, and a thing that two of them want is an error with both places"
    )
    func folder() throws {
        let folder = FileManager.default.temporaryDirectory.path + "/milepost-apply-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder + "/below", withIntermediateDirectories: true)
        // Best effort: a folder left behind in the temporary directory harms nobody.
        defer { try? FileManager.default.removeItem(atPath: folder) }
        func write(_ name: String, _ text: String) throws {
            try Data(text.utf8).write(to: URL(filePath: "\(folder)/\(name)"))
        }
        try write("b.yaml", "workspaces: {b: {plan: pro}}")
        try write("a.yml", "workspaces: {a: {plan: pro}}")
        try write(".hidden.yaml", "nonsense: 1")
        try write("note.txt", "nonsense")
        try write("below/c.yaml", "nonsense: 1")
        let state = try DesiredState.load(paths: [folder, folder + "/b.yaml"])
        #expect(state.objects.map(\.workspace) == ["a", "b"])
        #expect(state.covers(state.files[0]) && !state.covers("/elsewhere/a.yml"))
        #expect(state.covers(state.folders[0] + "/removed.yaml"), "what came from a file that is gone is judged too")
        #expect(!state.covers(state.folders[0] + "/below/c.yaml"))
        try write("c.yaml", "\nworkspaces: {a: {plan: free}}")
        let error = try #require(throws: ConfigurationError.self) { try DesiredState.load(paths: [folder]) }
        #expect(error.issues.count == 1)
        #expect(error.issues[0].description.contains("c.yaml:2: workspaces.a.plan stands in"))
        #expect(throws: ConfigurationError.self) { try DesiredState.load(paths: [folder + "/none.yaml"]) }
    }
}
