// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostClient
import MilepostConfiguration
import MilepostModel
import Testing

/// A daemon in memory that keeps connections, plans and who manages them, by the rules of its REST routes.
final class ManagingDaemon: ClientTransport {
    struct Object: Equatable {
        var values: [String: JSONValue]
        var secrets: [String: String] = [:]
        var source: String?
        var document: [String: JSONValue] = [:]
    }
    var objects: [ApplyKey: Object] = [:]
    /// Requests that change something.
    var changes = 0
    /// Connections that the daemon refuses to change.
    var refuses: Set<String> = []

    func send(_ request: ClientRequest) throws(ClientError) -> ClientResponse {
        let parts = request.path.split(separator: "/").map { String($0.replacing("%40", with: "@")) }
        let body = request.body.flatMap { try? JSONValue(parsing: $0) }?.object ?? [:]
        let file = request.query["managed_by"] ?? nil
        switch (request.method, Array(parts.dropFirst())) {
        case ("GET", ["admin", "managed"]):
            return ok(["managed": .array(objects.filter { $0.value.source != nil }.map(Self.managed))])
        case ("GET", ["admin", "plans"]):
            let plans = objects[ApplyKey(kind: .plans, workspace: "", name: "")]
            return ok(["plans": .object(plans?.values ?? [:]), "source": plans == nil ? "configuration" : "api"])
        case ("GET", ["workspaces"]):
            return ok([
                "workspaces": .array(
                    Set(objects.keys.map(\.workspace)).filter { !$0.isEmpty }.map { workspace in
                        let plan = objects[ApplyKey(kind: .workspace, workspace: workspace, name: "")]?.values["plan"]
                        return ["id": .string(workspace), "plan": plan ?? .null]
                    })
            ])
        case ("GET", let path) where path.last == "integrations":
            return ok([
                "integrations": .array(
                    objects.filter { $0.key.kind == .connection && $0.key.workspace == path[1] }.map {
                        ["integration": .string($0.key.name), "state": "active", "settings": .object($0.value.values)]
                    })
            ])
        case ("GET", let path) where path.last == "rules":
            return ok([
                "rules": .array(
                    objects.filter { $0.key.kind == .rule && $0.key.workspace == path[1] }.map {
                        var rule = $0.value.values
                        rule["id"] = .string($0.key.name)
                        return .object(rule)
                    })
            ])
        case ("POST", let path) where path.last == "compare":
            let stored = objects[ApplyKey(kind: .connection, workspace: path[1], name: path[3])]?.secrets ?? [:]
            let different = (body["credentials"]?.object ?? [:]).filter { stored[$0.key] != $0.value.string }.keys
            return ok(["different": .array(different.sorted().map(JSONValue.string))])
        case (let method, let path): return try change(method, path, body, file)
        }
    }

    private func change(
        _ method: String, _ path: [String], _ body: [String: JSONValue], _ file: String?
    ) throws(ClientError) -> ClientResponse {
        changes += 1
        switch path.count {
        case 4 where path[2] == "rules":
            let key = ApplyKey(kind: .rule, workspace: path[1], name: path[3])
            // Stored with every default, as rules are.
            objects[key] =
                method == "DELETE"
                ? nil
                : Object(values: body.merging(["mode": "act"]) { given, _ in given }, source: file, document: body)
        case 4:
            let key = ApplyKey(kind: .connection, workspace: path[1], name: path[3])
            guard !refuses.contains(key.name) else {
                throw ClientError(
                    code: "validation_failed", detail: "no", status: 422,
                    document: [
                        "code": "validation_failed",
                        "errors": [["pointer": "/stage_id", "code": "x", "message": "there is no such stage"]],
                    ])
            }
            var object = method == "POST" ? Object(values: [:]) : objects[key] ?? Object(values: [:])
            guard method != "DELETE" else {
                objects[key] = nil
                break
            }
            for (name, value) in body["credentials"]?.object ?? [:] { object.secrets[name] = value.string }
            for (name, value) in body where name != "credentials" && name != "fire_current" {
                // As a plugin may: what is stored is not what was given.
                object.values.removeValue(forKey: name)
                object.document.removeValue(forKey: name)
                guard value != .null else { continue }
                object.values[name] = .string("stored \(value)")
                object.document[name] = value
            }
            object.source = file
            objects[key] = object
        case 2 where path[0] == "workspaces":
            put(ApplyKey(kind: .workspace, workspace: path[1], name: ""), body["plan"] == .null ? [:] : body, file)
        default: put(ApplyKey(kind: .plans, workspace: "", name: ""), body["plans"]?.object ?? [:], file)
        }
        return ok([:])
    }

    private func put(_ key: ApplyKey, _ values: [String: JSONValue], _ file: String?) {
        objects[key] = values.isEmpty ? nil : Object(values: values, source: file, document: values)
    }

    private static func managed(_ key: ApplyKey, _ object: Object) -> JSONValue {
        [
            "kind": .string(key.kind.rawValue), "workspace": key.workspace.isEmpty ? .null : .string(key.workspace),
            "name": .string(key.name), "source": JSONValue(object.source), "document": .object(object.document),
        ]
    }

    private func ok(_ json: JSONValue) -> ClientResponse { ClientResponse(status: 200, body: json.bytes) }
}

@Suite("apply")
struct ApplyTests {
    private func parse(_ yaml: String, file: String = "/a/acme.yaml") throws -> DesiredState {
        DesiredState(objects: try DesiredState.parse(Data(yaml.utf8), file: file), files: [file])
    }

    /// Plans and carries out; gives the steps.
    @discardableResult
    private func run(
        _ desired: DesiredState, _ daemon: ManagingDaemon, prunes: Bool = false,
        environment: [String: String] = ["TOKEN": "t1"]
    ) throws -> [ApplyStep] {
        let application = try Application(desired, over: daemon, environment: environment)
        let plan = try application.plan(prunes: prunes)
        for step in plan.steps { try application.perform(step) }
        return plan.steps
    }

    static let yaml = """
        workspaces:
          acme:
            plan: pro
            connections:
              pipedrive:
                credentials: { api_token: { env: TOKEN } }
                thresholds: [50]
                settings: { pipeline_id: 1, stage_id: 11 }
        """

    @Test("EXT-15: applying twice changes nothing the second time, and a changed line or secret is the only change")
    func twice() throws {
        let daemon = ManagingDaemon()
        let desired = try parse(Self.yaml)
        #expect(try run(desired, daemon).map(\.action) == [.create, .create])
        let after = daemon.changes
        #expect(try run(desired, daemon).isEmpty)
        #expect(daemon.changes == after)
        let changed = try run(try parse(Self.yaml.replacing("stage_id: 11", with: "stage_id: 12")), daemon)
        #expect(changed.map(\.changes) == [[.init(field: "stage_id", from: 11, to: 12)]])
        let rotated = try run(
            try parse(Self.yaml.replacing("stage_id: 11", with: "stage_id: 12")), daemon, environment: ["TOKEN": "t2"])
        #expect(rotated.first?.changes.map(\.field) == ["credentials.api_token"])
        #expect(
            daemon.objects[ApplyKey(kind: .connection, workspace: "acme", name: "pipedrive")]?.secrets["api_token"]
                == "t2")
    }

    @Test("EXT-15: what a file no longer names goes back to its default; what it never named stays")
    func removedMember() throws {
        let daemon = ManagingDaemon()
        try run(try parse(Self.yaml), daemon)
        let key = ApplyKey(kind: .connection, workspace: "acme", name: "pipedrive")
        daemon.objects[key]?.values["link_field"] = "kept"
        let steps = try run(try parse(Self.yaml.replacing("        thresholds: [50]\n", with: "")), daemon)
        #expect(steps.map(\.members) == [["thresholds": .null]])
        #expect(daemon.objects[key]?.document["thresholds"] == nil)
        #expect(daemon.objects[key]?.values["link_field"] == "kept")
        #expect(try run(try parse(Self.yaml.replacing("        thresholds: [50]\n", with: "")), daemon).isEmpty)
    }

    @Test("EXT-15: a rule is made after the connection it acts through, replaced whole, and pruned")
    func rules() throws {
        let daemon = ManagingDaemon()
        func with(_ rules: String) throws -> DesiredState { try parse(Self.yaml + "\n    rules:\n" + rules) }
        let rule = """
                  - id: r1
                    trigger: { link_tag: t, contact_window: 7d, click_threshold: 2 }
                    action: { type: hubspot.deal_stage, from_stage: a, to_stage: b }
            """
        #expect(try run(try with(rule), daemon).map(\.key.kind) == [.workspace, .connection, .rule])
        #expect(try run(try with(rule), daemon).isEmpty, "defaults that the daemon adds are no difference")
        let observing = rule + "\n        mode: observe"
        let steps = try run(try with(observing), daemon)
        #expect(steps.map(\.changes) == [[.init(field: "mode", from: nil, to: "observe")]])
        let key = ApplyKey(kind: .rule, workspace: "acme", name: "r1")
        #expect(daemon.objects[key]?.document.count == 4, "the whole rule was sent")
        #expect(steps[0].key.description == "rule acme/r1")
        #expect(try run(try parse(Self.yaml), daemon).map(\.action) == [.leave])
        #expect(try run(try parse(Self.yaml), daemon, prunes: true).map(\.action) == [.remove])
        #expect(daemon.objects[key] == nil)
    }

    @Test("EXT-15: what is gone from the file is only named, until --prune takes it away")
    func prune() throws {
        let daemon = ManagingDaemon()
        try run(try parse(Self.yaml), daemon)
        try run(try parse("workspaces: {other: {plan: x}}", file: "/b/other.yaml"), daemon)
        let before = daemon.objects
        let without = try parse("workspaces: {acme: {plan: pro}}")
        #expect(try run(without, daemon).map(\.action) == [.leave])
        #expect(daemon.objects == before)
        #expect(try run(without, daemon, prunes: true).map(\.action) == [.remove])
        #expect(daemon.objects[ApplyKey(kind: .connection, workspace: "acme", name: "pipedrive")] == nil)
        #expect(daemon.objects[ApplyKey(kind: .workspace, workspace: "other", name: "")] != nil)
        let plan = try Application(without, over: daemon, environment: [:]).plan(prunes: true)
        #expect(plan.isEmpty && plan.elsewhere == [ApplyKey(kind: .workspace, workspace: "other", name: "")])
    }

    @Test("EXT-15: a connection made by hand is adopted whole, and then is the file's")
    func adopt() throws {
        let daemon = ManagingDaemon()
        let key = ApplyKey(kind: .connection, workspace: "acme", name: "pipedrive")
        daemon.objects[key] = .init(values: ["stage_id": 11], secrets: ["api_token": "t1"])
        let steps = try run(try parse(Self.yaml), daemon)
        #expect(steps.map(\.action) == [.create, .adopt])
        #expect(daemon.objects[key]?.source == "/a/acme.yaml" && daemon.objects[key]?.document.count == 3)
        #expect(try run(try parse(Self.yaml), daemon).isEmpty)
        let moved = try run(try parse(Self.yaml, file: "/a/moved.yaml"), daemon)
        #expect(moved.allSatisfy { $0.action == .change && $0.changes.map(\.field) == ["managed_by"] })
        #expect(daemon.objects[key]?.source == "/a/moved.yaml")
    }

    @Test("EXT-15: a managed connection that ended by itself is made again, without what the file no longer names")
    func madeAgain() throws {
        let desired = try parse("workspaces: {acme: {connections: {pipedrive: {settings: {stage_id: 12}}}}}")
        let key = ApplyKey(kind: .connection, workspace: "acme", name: "pipedrive")
        var current = CurrentState()
        current.managed[key] = .init(source: "/a/acme.yaml", document: ["stage_id": 11, "link_field": "Link"])
        let plan = ApplyPlan(desired: desired, current: current, prunes: false)
        #expect(plan.steps.map(\.action) == [.create])
        #expect(plan.steps[0].members == ["stage_id": 12, "link_field": .null])
    }

    @Test("EXT-15: a refusal is told with file, line and field, and the other objects are made all the same")
    func refusal() throws {
        let daemon = ManagingDaemon()
        daemon.refuses = ["pipedrive"]
        let application = try Application(try parse(Self.yaml), over: daemon, environment: ["TOKEN": "t"])
        let plan = try application.plan(prunes: false)
        var report = ApplyReport(elsewhere: [])
        for step in plan.steps {
            do throws(ClientError) {
                try application.perform(step)
                report.add(step, .done)
            } catch { report.add(step, .failed(Application<ManagingDaemon>.complaints(error, about: step))) }
        }
        #expect(report.hasFailed && report.json["failed"] == 1)
        #expect(daemon.objects[ApplyKey(kind: .workspace, workspace: "acme", name: "")] != nil)
        let told = "/a/acme.yaml:8: workspaces.acme.connections.pipedrive.settings.stage_id: there is no such stage"
        #expect(report.text(Terminal(isInteractive: false, hasColours: false)).contains(told))
        #expect(report.json["changes"]?.array?.last?["errors"]?.array?.first?["line"] == 8)
    }

    @Test("EXT-15, SEC-06: a secret that is not there is told with the line that names it, before anything is asked")
    func missingSecret() throws {
        let daemon = ManagingDaemon()
        let error = try #require(throws: ConfigurationError.self) {
            _ = try Application(try parse(Self.yaml), over: daemon, environment: [:])
        }
        #expect(error.issues.map(\.line) == [6] && error.issues[0].message.contains("TOKEN is not set"))
        #expect(throws: ConfigurationError.self) {
            _ = try Application(
                try parse("workspaces: {a: {connections: {p: {credentials: {t: {file: /nonexistent/x}}}}}}"),
                over: daemon,
                environment: [:])
        }
        #expect(daemon.changes == 0)
    }

    @Test(
        "EXT-15: for any files, after applying them the plan is empty, and what they manage is what they say",
        arguments: 1...60)
    func property(seed: Int) throws {
        var random = SmallRandom(seed: UInt64(seed))
        let daemon = ManagingDaemon()
        for round in 0..<6 {
            let desired = Self.anything(&random)
            let prunes = random.below(2) == 0
            let covered = daemon.objects.filter { $0.value.source.map(desired.covers) ?? false }
            let others = daemon.objects.filter { $0.value.source.map { !desired.covers($0) } ?? true }
            try run(desired, daemon, prunes: prunes, environment: ["A": "1", "B": "\(round)"])
            let application = try Application(desired, over: daemon, environment: ["A": "1", "B": "\(round)"])
            #expect(try application.plan(prunes: prunes).isEmpty)
            let named = Set(desired.objects.map(ApplyKey.init))
            for object in desired.objects {
                let stored = daemon.objects[ApplyKey(object)]
                #expect(stored?.source == object.source && stored?.document == object.document)
            }
            for (key, object) in covered where !named.contains(key) {
                #expect(daemon.objects[key] == (prunes ? nil : object))
            }
            for (key, object) in others where !named.contains(key) { #expect(daemon.objects[key] == object) }
        }
    }

    /// Up to eight objects from one or two files, with values from a few, so that runs collide.
    private static func anything(_ random: inout SmallRandom) -> DesiredState {
        let files = random.below(2) == 0 ? ["/a/x.yaml"] : ["/a/x.yaml", "/a/y.yaml"]
        var objects: [ApplyKey: DesiredObject] = [:]
        for _ in 0..<random.below(9) {
            let source = files[random.below(files.count)]
            let workspace = ["w1", "w2"][random.below(2)]
            var object: DesiredObject
            switch random.below(6) {
            case 5:
                object = DesiredObject(
                    kind: .rule, workspace: workspace, name: ["r1", "r2"][random.below(2)], source: source, line: 1,
                    place: "r", document: ["force": .bool(random.below(2) == 0)])
                if random.below(2) == 0 { object.document["mode"] = "observe" }
            case 0:
                object = DesiredObject(
                    kind: .plans, workspace: "", name: "", source: source, line: 1, place: "plans",
                    document: ["free": ["fires": .bool(random.below(2) == 0)]])
            case 1:
                object = DesiredObject(
                    kind: .workspace, workspace: workspace, name: "", source: source, line: 1, place: "w",
                    document: ["plan": .string(["a", "b"][random.below(2)])])
            default:
                object = DesiredObject(
                    kind: .connection, workspace: workspace, name: ["p", "p@x"][random.below(2)], source: source,
                    line: 1, place: "c", document: [:])
                for key in ["thresholds", "stage_id", "fields"] where random.below(2) == 0 {
                    object.document[key] = [[50, 100], [:], "x", 7, ["a": 1]][random.below(5)]
                }
                if random.below(2) == 0 {
                    object.secrets["t"] = SecretReference(
                        kind: .environment(["A", "B"][random.below(2)]), field: .init(line: 1, place: "c"))
                }
            }
            objects[ApplyKey(object)] = object
        }
        return DesiredState(objects: objects.sorted { $0.key < $1.key }.map(\.value), files: files)
    }
}

struct SmallRandom {
    private var state: UInt64
    init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 | 1 }
    mutating func below(_ bound: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int(state % UInt64(bound))
    }
}
