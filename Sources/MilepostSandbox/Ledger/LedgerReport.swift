// SPDX-License-Identifier: Apache-2.0

/// What was really created, and what was asked: the sandbox's own truth, for people and for tests.
extension SandboxWorld {
    /// The ledger as JSON. Filters of the query: `method`, `path` (exact, or a prefix ending with `*`), `since` (request
    /// number, exclusive), `company` (id), `title` (of deals), `hub` and `contact` (ids of HubSpot), `only` (comma-separated
    /// parts).
    func ledgerJSON(_ request: VendorRequest) throws(ControlError) -> JSONValue {
        let parts = ["deals", "notes", "persons", "generic", "hubspot", "oauth", "violations", "requests"]
        let wanted = request.queryValue("only").map { $0.split(separator: ",").map(String.init) } ?? parts
        if let unknown = wanted.first(where: { !parts.contains($0) }) {
            throw ControlError("unknown part \"\(unknown)\" in only; known: \(parts.joined(separator: ", "))")
        }
        let companies = try chosenCompanies(request)
        var members: [(String, JSONValue)] = []
        for part in parts where wanted.contains(part) {
            switch part {
            case "deals": members.append((part, .array(companies.flatMap { deals(of: $0, request) })))
            case "notes": members.append((part, .array(companies.flatMap { rows($0.notes.all, of: $0) })))
            case "persons": members.append((part, .array(companies.flatMap { rows($0.persons.all, of: $0) })))
            case "generic": members.append((part, genericLedger()))
            case "hubspot": members.append((part, try hubspotLedger(request)))
            case "oauth": members.append((part, oauthLedger()))
            case "violations": members.append((part, .array(ledger.violations.map(\.json))))
            default:
                members.append((part, .array(try chosenEntries(request).map(\.json))))
                members.append(("requests_dropped", .integer(ledger.dropped)))
            }
        }
        return .object(members)
    }

    private func chosenCompanies(_ request: VendorRequest) throws(ControlError) -> [PipedriveCompany] {
        let all = pipedrive.companies.values.sorted { $0.id < $1.id }
        guard let text = request.queryValue("company") else { return all }
        guard let id = Int(text), pipedrive.companies[id] != nil else {
            throw ControlError("no company \(text)", status: 404)
        }
        return all.filter { $0.id == id }
    }

    private func chosenEntries(_ request: VendorRequest) throws(ControlError) -> [RequestLedger.Entry] {
        var entries = ledger.entries
        if let method = request.queryValue("method")?.uppercased() {
            entries = entries.filter { $0.request.method == method }
        }
        if let path = request.queryValue("path") {
            entries = entries.filter { $0.request.goes(to: path) }
        }
        if let text = request.queryValue("since") {
            guard let since = Int(text) else { throw ControlError("since must be a request number") }
            entries = entries.filter { $0.number > since }
        }
        return entries
    }

    private func rows(_ rows: [JSONObject], of company: PipedriveCompany) -> [JSONValue] {
        rows.map { row in
            var row = row
            row["company_id"] = .integer(company.id)
            return .object(row)
        }
    }

    private func deals(of company: PipedriveCompany, _ request: VendorRequest) -> [JSONValue] {
        let title = request.queryValue("title")
        let kept = company.deals.all.filter { title == nil || $0["title"]?.string == title }
        var notes: [Int: [JSONValue]] = [:]
        for note in company.notes.all {
            if let deal = note["deal_id"]?.integer { notes[deal, default: []].append(.object(note)) }
        }
        return kept.map { deal in
            var deal = deal
            deal["company_id"] = .integer(company.id)
            deal["notes"] = .array(notes[deal["id"]?.integer ?? 0] ?? [])
            return .object(deal)
        }
    }

    // MARK: For people

    /// The ledger as tables.
    func ledgerText() -> String {
        var text = ""
        for company in pipedrive.companies.values.sorted(by: { $0.id < $1.id }) {
            text += "\(company.name) (company \(company.id))\n\n"
            let link = company.customFields.first { $0.name == "Link" }
            text += Self.table(
                head: ["deal", "title", "stage", "status", "link", "notes", "added"],
                rows: company.deals.all.map { deal in
                    let stage = company.stages.first { $0.id == deal["stage_id"]?.integer }
                    let status = deal["is_deleted"] == .bool(true) ? "deleted" : deal["status"]?.string
                    return [
                        String(deal["id"]?.integer ?? 0), deal["title"]?.string ?? "", stage?.name ?? "", status ?? "",
                        link.flatMap { deal["custom_fields"]?[$0.key]?.string } ?? "",
                        String(pipedrive.notes(on: deal["id"]?.integer, company).count), deal["add_time"]?.string ?? "",
                    ]
                })
            text += "\n"
        }
        text += genericText()
        text += hubspotText()
        text += "Requests" + (ledger.dropped > 0 ? " (\(ledger.dropped) older ones dropped)" : "") + "\n\n"
        text += Self.table(
            head: ["n", "time", "request", "status", "token", "fault"],
            rows: ledger.entries.map { entry in
                [
                    String(entry.number), entry.at.rfc3339, "\(entry.request.method) \(entry.request.path)",
                    entry.status.map(String.init) ?? (entry.lateCommit == nil ? "cut" : "cut, committed late"),
                    entry.isTokenGood ? "good" : "bad", entry.fault ?? "",
                ]
            })
        return text
    }

    static func table(head: [String], rows: [[String]]) -> String {
        if rows.isEmpty { return "  (none)\n" }
        // Titles come from outside: a line break in one must not forge a row.
        let clean = rows.map { row in row.map { cell in String(cell.map { $0.isNewline ? " " : $0 }.prefix(60)) } }
        let widths = head.indices.map { column in ([head] + clean).map { $0[column].count }.max() ?? 0 }
        return ([head] + clean).map { row in
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
            let line = "  " + cells.joined(separator: "  ")
            return String(line.reversed().drop { $0 == " " }.reversed()) + "\n"
        }.joined()
    }
}
