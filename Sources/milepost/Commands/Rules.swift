// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostConfiguration
import MilepostModel

struct Rules: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List, make, check, simulate and remove rolling-window rules.",
        discussion: """
            A rule's file is YAML or JSON: one rule, a list, or {rules: [...]}. Example:

              rules:
                - name: Collateral engagement moves the deal on
                  trigger: { link_tag: sales-collateral, contact_window: 30d rolling, click_threshold: 50 }
                  action: { type: hubspot.deal_stage, pipeline: default, from_stage: a, to_stage: b }
                  guard: { require_associated_contact: true, deal_amount_min: 5000 }
            """,
        subcommands: [
            List.self, Show.self, Add.self, Set.self, Apply.self, Remove.self, Check.self, Simulate.self, Firings.self,
        ], defaultSubcommand: List.self)

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the rules.")
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("GET", session.path("rules"))) { RulePages.list($0, session.pages) }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show one rule with its warnings and counts.")
        @Argument(help: "The rule's id.") var id: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("GET", session.path("rules", id))) { RulePages.rule($0, session.pages) }
        }
    }

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make the rules of a file, all or none.")
        @Argument(help: "The file, or - for standard input.") var file: String
        @OptionGroup var common: Common

        func run() throws {
            let (session, rules) = (try common.session(), try RuleSource(file))
            let answer = try rules.sending { try session.ask("POST", session.path("rules"), body: $0) }
            session.show(answer) { RulePages.list($0, session.pages) }
        }
    }

    struct Set: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Replace one rule by the one in a file, or make it.")
        @Argument(help: "The rule's id.") var id: String
        @Argument(help: "The file, or - for standard input.") var file: String
        @OptionGroup var common: Common

        func run() throws {
            let (session, rules) = (try common.session(), try RuleSource(file))
            let answer = try rules.sending { try session.ask("PUT", session.path("rules", id), body: $0) }
            session.show(answer) { RulePages.rule($0, session.pages) }
        }
    }

    struct Apply: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make the managed rules those of a file; managed ones that it lacks are removed.")
        @Argument(help: "The file, or - for standard input.") var file: String
        @OptionGroup var common: Common

        func run() throws {
            let (session, rules) = (try common.session(), try RuleSource(file))
            let answer = try rules.sending { try session.ask("PUT", session.path("rules"), body: $0) }
            session.show(answer) { RulePages.list($0, session.pages) }
        }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Remove a rule; what it did stays listed.")
        @Argument(help: "The rule's id.") var id: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("DELETE", session.path("rules", id))) { _ in "removed \(id)" }
        }
    }

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check a file's rules, also against the vendor's pipelines and stages; save nothing.")
        @Argument(help: "The file, or - for standard input.") var file: String
        @OptionGroup var common: Common

        func run() throws {
            let (session, rules) = (try common.session(), try RuleSource(file))
            let answer = try rules.sending {
                try session.ask("POST", session.path("rules"), query: ["dry_run": "true"], body: $0)
            }
            session.show(answer) { RulePages.list($0, session.pages) + "\nno errors; nothing was saved" }
        }
    }

    struct Simulate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say what rules would have done with the stored clicks; no vendor is asked.",
            discussion: "Without a file the workspace's own rules are simulated.")
        @Argument(help: "The file, or - for standard input.") var file: String?
        @Option(help: "Crossings from this RFC 3339 time on.") var from: String?
        @Option(help: "Clicks up to this RFC 3339 time.") var to: String?
        @Option(help: "What ends a window: click (when it happened) or received.") var clock = "click"
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            let rules = try file.map { try RuleSource($0) }
            func ask(_ document: JSONValue?) throws -> JSONValue {
                var body: [String: JSONValue] = ["clock": .string(clock), "from": JSONValue(from), "to": JSONValue(to)]
                if let document {
                    body["rules"] = document["rules"] ?? document
                    if let integration = document["integration"], document["rules"]?.array != nil {
                        body["integration"] = integration
                    }
                }
                return try session.ask("POST", session.path("rules", "simulate"), body: .object(body))
            }
            let answer = try rules.map { try $0.sending(ask) } ?? ask(nil)
            session.show(answer) { RulePages.simulation($0, session.pages) }
        }
    }

    struct Firings: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List what a rule did, or would have done while it observes.")
        @Argument(help: "The rule's id.") var id: String
        @Option(help: "Of this contact only.") var contact: String?
        @Option(help: "How many.") var limit = 50
        @Option(help: "Where to go on, from the answer before.") var cursor: String?
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            let answer = try session.ask(
                "GET", session.path("rules", id, "firings"),
                query: ["contact": contact, "limit": String(limit), "cursor": cursor])
            session.show(answer) { RulePages.firings($0, session.pages) }
        }
    }
}

/// A file with rules on its way to the daemon, which alone knows what a rule may say; its errors are told by line.
struct RuleSource {
    private let rules: RuleFile
    private static let maximumBytes = 1 << 20

    init(_ path: String) throws {
        let source = try LineSource(path: path)
        var bytes: [UInt8] = []
        while let line = try source.next(), bytes.count <= Self.maximumBytes { bytes += line + [0x0a] }
        do throws(ConfigurationError) {
            rules = try RuleFile(bytes, file: path == "-" ? "standard input" : path)
        } catch {
            throw ClientError(code: "bad_file", detail: error.description)
        }
    }

    func sending(_ body: (JSONValue) throws -> JSONValue) throws -> JSONValue {
        do { return try body(rules.document) } catch let error as ClientError {
            let errors = error.document?["errors"]?.array ?? []
            guard !errors.isEmpty else { throw error }
            let told = errors.map { item in
                let pointer = item["pointer"]?.string ?? ""
                return "\(rules.place(of: pointer)): \(item["message"]?.string ?? "not accepted")"
            }
            throw ClientError(
                code: error.code, detail: told.joined(separator: "\n"), status: error.status, document: error.document)
        }
    }
}

/// Rules, firings and simulations as pages for people.
enum RulePages {
    static func list(_ answer: JSONValue, _ pages: Pages) -> String {
        let rules = answer["rules"]?.array ?? [answer]
        let rows = rules.map { rule -> JSONValue in
            var row = rule.object ?? [:]
            row["trigger"] = .string(trigger(rule["trigger"]))
            row["action"] = .string(action(rule))
            return .object(row)
        }
        let table = pages.list(
            rows, ["id", "state", "mode", "trigger", "action", "managed"],
            empty: "no rules; 'milepost rules add FILE' makes some")
        return ([table] + rules.flatMap { warnings($0, pages, named: true) }).joined(separator: "\n")
    }

    static func rule(_ rule: JSONValue, _ pages: Pages) -> String {
        var shown = rule.object ?? [:]
        shown["trigger"] = .string(trigger(rule["trigger"]))
        shown["action"] = .string(action(rule))
        let facts = pages.facts(
            .object(shown),
            [
                "id", "name", "state", "mode", "trigger", "action", "guard", "deals", "rearm", "count", "force",
                "managed", "managed_by", "clicks", "created_at", "changed_at", "checked_at",
            ])
        return ([facts] + warnings(rule, pages, named: false)).joined(separator: "\n")
    }

    static func firings(_ answer: JSONValue, _ pages: Pages) -> String {
        let rows = (answer["firings"]?.array ?? []).map { firing -> JSONValue in
            var row = firing.object ?? [:]
            let moved = (firing["targets"]?.array ?? []).compactMap { target -> String? in
                target["delivery"]?.string == nil ? nil : target["id"]?.string
            }
            row["acts_on"] = .string(moved.joined(separator: ", "))
            return .object(row)
        }
        var text = pages.list(
            rows, ["id", "state", "contact", "click", "at", "count", "arming", "acts_on", "reason"],
            empty: "nothing fired")
        if let next = answer["next"]?.string { text += "\nmore: --cursor \(Terminal.harmless(next))" }
        return text
    }

    static func simulation(_ answer: JSONValue, _ pages: Pages) -> String {
        var parts = [
            pages.list(
                answer["rules"]?.array ?? [],
                ["id", "firings", "counted", "bots", "anonymous", "excluded", "late"], empty: "no rules")
        ]
        if let firings = answer["firings"]?.array, !firings.isEmpty {
            parts.append(pages.list(firings, ["at", "rule", "contact", "click", "link", "count", "arming"], empty: ""))
        }
        if let omitted = answer["firings_omitted"]?.integer, omitted > 0 { parts.append("and \(omitted) more") }
        parts.append("\(answer["clicks"]?.integer ?? 0) clicks looked at; nothing was done")
        return parts.joined(separator: "\n\n")
    }

    static func explanations(_ answer: JSONValue, _ pages: Pages) -> String {
        var parts = [
            pages.list(
                answer["explanations"]?.array ?? [], ["rule", "contact", "outcome", "count", "threshold", "reason"],
                empty: "no rules")
        ]
        for item in answer["decisions"]?.array ?? [] {
            let name = "deal \(item["target"]?.cell ?? "") of \(item["contact"]?.cell ?? "")"
            parts.append(
                "hooks before \(Terminal.harmless(name)) (\(Terminal.harmless(item["delivery"]?.cell ?? ""))):\n"
                    + pages.decisions(item["decisions"]?.array ?? []))
        }
        for note in answer["notes"]?.array ?? [] {
            parts.append("note: \(Terminal.harmless(note["message"]?.string ?? ""))")
        }
        return parts.joined(separator: "\n")
    }

    private static func trigger(_ trigger: JSONValue?) -> String {
        let scope =
            trigger?["link_tag"].map { "tag \($0.cell)" }
            ?? "link \((trigger?["link"] ?? trigger?["link_id"])?.cell ?? "")"
        return
            "\(trigger?["click_threshold"]?.cell ?? "") clicks on \(scope) in \(trigger?["contact_window"]?.cell ?? "")"
    }

    private static func action(_ rule: JSONValue) -> String {
        let action = rule["action"]
        return
            "\(rule["integration"]?.cell ?? "") \(action?["type"]?.cell ?? ""): \(action?["from_stage"]?.cell ?? "") → "
            + "\(action?["to_stage"]?.cell ?? "")"
    }

    private static func warnings(_ rule: JSONValue, _ pages: Pages, named: Bool) -> [String] {
        (rule["warnings"]?.array ?? []).map { warning in
            pages.terminal.paint("warning", .yellow)
                + (named ? " \(Terminal.harmless(rule["id"]?.cell ?? "")): " : ": ")
                + Terminal.harmless(warning["message"]?.cell ?? "")
        }
    }
}
