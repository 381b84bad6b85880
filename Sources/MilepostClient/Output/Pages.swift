// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// The daemon's answers as pages for people. Pure: the answer, the terminal and the time in, text out.
public struct Pages: Sendable {
    public let terminal: Terminal
    public let now: Timestamp

    public init(terminal: Terminal, now: Timestamp) {
        self.terminal = terminal
        self.now = now
    }

    /// `name  value` lines for the members named, in that order.
    public func facts(_ value: JSONValue, _ names: [String]) -> String {
        let present = names.filter { value[$0] != nil && value[$0] != .null }
        let width = present.map(\.count).max() ?? 0
        return present.map { name in
            let cell = Terminal.harmless(value[name]?.cell ?? "")
            let text = name.hasSuffix("_at") ? RelativeTime.text(value[name], now: now) : cell
            let label = name.replacing("_", with: " ")
            let colour = name == "state" ? Terminal.colour(ofState: cell) : nil
            return terminal.paint(label, .grey) + String(repeating: " ", count: width - label.count + 2)
                + terminal.paint(text, colour)
        }.joined(separator: "\n")
    }

    /// A table of the members named, one row for each item.
    public func list(_ items: [JSONValue], _ columns: [String], empty: String) -> String {
        guard !items.isEmpty else { return empty }
        let state = columns.firstIndex(of: "state")
        var table = Table(columns.map { $0.replacing("_", with: " ") }, stateColumn: state)
        for item in items {
            table.add(
                columns.map { $0.hasSuffix("_at") ? RelativeTime.text(item[$0], now: now) : item[$0]?.cell ?? "-" })
        }
        return table.text(terminal)
    }

    public func status(_ status: JSONValue) -> String {
        var parts = [
            facts(
                status,
                [
                    "version", "role", "uptime_seconds", "listen", "data_dir", "workspaces", "links", "events_today",
                    "queue",
                ])
        ]
        if let plugins = status["plugins"]?.array, !plugins.isEmpty {
            parts.append(list(plugins, ["name", "version", "state", "isolation"], empty: ""))
        }
        if let connections = status["connections"]?.array, !connections.isEmpty {
            parts.append(self.connections(connections))
        }
        parts.append(problems(status["problems"]?.array ?? []))
        return parts.filter { !$0.isEmpty }.joined(separator: "\n\n")
    }

    /// Problems with their cures; says so when there are none.
    public func problems(_ problems: [JSONValue]) -> String {
        guard !problems.isEmpty else { return terminal.paint("no problems", .green) }
        return problems.map { problem in
            let code = problem["code"]?.string ?? "problem"
            let cure = problem["cure"]?.string ?? Advice.cure(for: code)
            return terminal.paint(code, .red) + ": " + Terminal.harmless(problem["message"]?.string ?? "")
                + (cure.map { "\n  → \(Terminal.harmless($0))" } ?? "")
        }.joined(separator: "\n")
    }

    /// Connections, each that needs a person with cause and cure below (TRB-01 …).
    public func connections(_ items: [JSONValue]) -> String {
        var text = list(
            items, ["integration", "state", "thresholds", "queue"],
            empty: "no integrations; 'milepost connect PLUGIN' makes one")
        for item in items {
            let state = item["state"]?.string ?? ""
            if state != "active", let cure = Advice.cure(for: item["reason"]?.string ?? "") ?? Advice.cure(for: state) {
                text += "\n\(Terminal.harmless(item["integration"]?.string ?? "")): \(cure)"
            }
            if let tokens = item["oauth"], tokens != .null {
                text += "\n\(Terminal.harmless(item["integration"]?.string ?? "")): \(self.tokens(tokens))"
            }
            if let failing = item["failing"]?["since"]?.string {
                text += "\n\(Terminal.harmless(item["integration"]?.string ?? "")): "
                text += terminal.paint("failing", .red) + " since \(Terminal.harmless(failing)), "
                text += "disabled at \(Terminal.harmless(item["failing"]?["disables_at"]?.string ?? "no time"))"
            }
            for warning in item["warnings"]?.array ?? [] {
                text += "\n\(terminal.paint("warning", .yellow)): \(Terminal.harmless(warning["message"]?.cell ?? ""))"
            }
        }
        return text
    }

    public func connection(_ value: JSONValue) -> String {
        let names = [
            "integration", "id", "plugin", "name", "state", "reason", "failing", "account", "maturity", "managed",
            "settings",
            "queue",
        ]
        var text = facts(value, names)
        if let tokens = value["oauth"], tokens != .null {
            text += "\n" + self.tokens(tokens)
        }
        let state = value["state"]?.string ?? ""
        if state != "active", let cure = Advice.cure(for: value["reason"]?.string ?? "") ?? Advice.cure(for: state) {
            text += "\n→ \(cure)"
        }
        for warning in value["warnings"]?.array ?? [] {
            text += "\n\(terminal.paint("warning", .yellow)): \(Terminal.harmless(warning["message"]?.cell ?? ""))"
        }
        return text
    }

    /// What is known of an installation's tokens (OBS-03, OBS-04).
    func tokens(_ value: JSONValue) -> String {
        let age = value["last_refresh_age"]?.string ?? "not yet"
        var text = "tokens     \(Terminal.harmless(value["state"]?.string ?? "-")), version "
        text += "\(value["token_version"]?.cell ?? "-"), refreshed \(Terminal.harmless(age))"
        if value["stale"]?.bool == true { text += " " + terminal.paint("(far later than its peers)", .yellow) }
        if value["dormant"]?.bool == true {
            text += " " + terminal.paint("(dormant: the vendor may forget it)", .yellow)
        }
        let scopes = (value["scopes"]?.array ?? []).compactMap(\.string)
        if !scopes.isEmpty { text += "\nscopes     " + Terminal.harmless(scopes.joined(separator: ", ")) }
        if let reason = value["reason"]?["message"]?.string { text += "\n\(Terminal.harmless(reason))" }
        return text
    }

    public func deliveries(_ answer: JSONValue) -> String {
        var text = list(
            answer["deliveries"]?.array ?? [],
            ["id", "state", "integration", "link", "threshold", "attempts", "updated_at", "remote_id", "reason"],
            empty: "no deliveries")
        if let next = answer["next"]?.string { text += "\nmore: --cursor \(Terminal.harmless(next))" }
        return text
    }

    public func delivery(_ value: JSONValue) -> String {
        var parts = [
            facts(
                value,
                [
                    "id", "state", "integration", "action", "link", "folder", "threshold", "attempts", "reason",
                    "remote_id", "remote_url", "created_at", "updated_at", "next_attempt_at",
                ])
        ]
        if let cure = Advice.cure(for: value["reason_code"]?.string ?? value["reason"]?.string ?? "") {
            parts[0] += "\n→ \(cure)"
        }
        if let journal = value["journal"]?.array, !journal.isEmpty {
            parts.append(list(journal, ["step", "state", "attempt", "intent_at", "http_status"], empty: ""))
        }
        if let decisions = value["decisions"]?.array, !decisions.isEmpty {
            parts.append(self.decisions(decisions))
        }
        if let history = value["history"]?.array, !history.isEmpty {
            parts.append(
                list(history, ["attempt", "started_at", "class", "code", "message", "http_status"], empty: ""))
        }
        return parts.joined(separator: "\n\n")
    }

    /// EXT-16: one line for each rule and threshold, with the sentence that says why.
    public func explain(_ answer: JSONValue) -> String {
        var parts: [String] = []
        if let totals = answer["totals"] { parts.append("totals: \(totals.cell)") }
        parts.append(
            list(
                answer["explanations"]?.array ?? [], ["integration", "threshold", "outcome", "reason"],
                empty: "no rule looks at this link"))
        for line in answer["explanations"]?.array ?? [] {
            let decisions = line["decisions"]?.array ?? []
            guard !decisions.isEmpty else { continue }
            let name = "\(line["integration"]?.cell ?? "") at \(line["threshold"]?.cell ?? "")"
            parts.append("hooks before \(Terminal.harmless(name)):\n" + self.decisions(decisions))
        }
        for note in answer["notes"]?.array ?? [] { parts.append("note: \(Terminal.harmless(note.cell))") }
        return parts.joined(separator: "\n")
    }

    /// What hooks said, one line each, in the order in which they were asked.
    public func decisions(_ items: [JSONValue]) -> String {
        items.map { item in
            let when = RelativeTime.text(item["asked_at"], now: now)
            let failed = item["verdict"]?.string == "failed"
            let text = Terminal.harmless(item["text"]?.string ?? "")
            return "  \(terminal.paint(when, .grey))  \(terminal.paint(text, failed ? .yellow : nil))"
        }.joined(separator: "\n")
    }

    /// What became of one click, a line for each connection and action.
    public func explainEvent(_ answer: JSONValue) -> String {
        list(
            answer["explanations"]?.array ?? [], ["integration", "action", "outcome", "reason"],
            empty: "the workspace has no connection")
    }

    public func held(_ answer: JSONValue) -> String {
        var parts = [
            list(
                answer["held"]?.array ?? [],
                ["event", "link", "integration", "state", "reason", "held_at", "until"], empty: "no held clicks")
        ]
        if let counts = answer["counts"] { parts.append("counts: \(counts.cell)") }
        if let next = answer["next"]?.string { parts.append("more: --cursor \(Terminal.harmless(next))") }
        return parts.joined(separator: "\n")
    }

    public func schedule(_ answer: JSONValue) -> String {
        list(
            answer["schedules"]?.array ?? [],
            ["name", "interval_seconds", "last_run_at", "duration_ms", "result", "next_run_at", "overdue"],
            empty: "no schedules")
    }
}
