// SPDX-License-Identifier: Apache-2.0

/// One vendor account with all that is in it.
///
/// Deals and persons are kept in the shape that v2 answers, notes in that of v1 (they have no other): this is what the
/// ledger shows and the ledger file holds, and the other generation is derived when asked for.
struct PipedriveCompany: Sendable {
    let id: Int
    var name: String
    var domain: String
    var users: [PipedriveUser]
    var pipelines: [PipedrivePipeline]
    var stages: [PipedriveStage]
    var fields: [PipedriveField]

    var deals = PipedriveTable(nextID: 501)
    var notes = PipedriveTable(nextID: 1)
    var persons = PipedriveTable(nextID: 1)
    var index = PipedriveSearchIndex()

    /// Cost tokens used on `budgetDay`.
    var spent = 0
    var budgetDay: Int64 = 0

    func pipeline(_ id: Int) -> PipedrivePipeline? { pipelines.first { $0.id == id && !$0.isDeleted } }
    func stage(_ id: Int) -> PipedriveStage? { stages.first { $0.id == id && !$0.isDeleted } }
    func user(_ id: Int) -> PipedriveUser? { users.first { $0.id == id } }
    var customFields: [PipedriveField] { fields.filter(\.isCustom) }
}

struct PipedriveUser: Sendable {
    let id: Int
    var name: String
    var email: String
    var isAdmin: Bool
}

struct PipedrivePipeline: Sendable {
    let id: Int
    var name: String
    var order: Int
    var isDeleted = false
    var addTime: Instant
    var updateTime: Instant
}

struct PipedriveStage: Sendable {
    let id: Int
    var pipelineID: Int
    var name: String
    var order: Int
    var isDeleted = false
    var addTime: Instant
    var updateTime: Instant
}

struct PipedriveField: Sendable {
    let id: Int
    let key: String
    var name: String
    var type: String
    var options: [Option]
    let isCustom: Bool
    var addTime: Instant

    struct Option: Hashable, Sendable {
        let id: Int
        var label: String
    }
}

/// Objects of one kind by id, in the order of creation.
struct PipedriveTable: Sendable {
    private(set) var rows: [Int: JSONObject] = [:]
    private(set) var order: [Int] = []
    /// The id that the next new row takes.
    private(set) var nextID: Int

    init(nextID: Int) { self.nextID = nextID }

    subscript(id: Int) -> JSONObject? { rows[id] }

    /// All rows, oldest first, deleted ones too: the vendor keeps them for 30 days, the ledger for ever.
    var all: [JSONObject] { order.compactMap { rows[$0] } }

    /// Stores a row under the id it carries, new or not.
    mutating func put(_ row: JSONObject) {
        guard let id = row["id"]?.integer else { preconditionFailure("a row without an id: \(row.keys)") }
        if rows.updateValue(row, forKey: id) == nil { order.append(id) }
        nextID = max(nextID, id + 1)
    }
}

extension PipedriveCompany {
    /// The account every sandbox starts with: pipeline "Inbound" with New, Contacted, Qualified, pipeline "Renewals", and
    /// custom deal fields of the types a mapping may meet.
    static func sample(id: Int, name: String, domain: String, keys: inout SeededKeys, now: Instant) -> PipedriveCompany
    {
        func stage(_ id: Int, _ pipelineID: Int, _ order: Int, _ name: String) -> PipedriveStage {
            PipedriveStage(id: id, pipelineID: pipelineID, name: name, order: order, addTime: now, updateTime: now)
        }
        var company = PipedriveCompany(
            id: id, name: name, domain: domain,
            users: [
                PipedriveUser(id: 1, name: "Sandbox Admin", email: "admin@\(domain).example", isAdmin: true),
                PipedriveUser(id: 2, name: "Sandbox Seller", email: "seller@\(domain).example", isAdmin: false),
            ],
            pipelines: [
                PipedrivePipeline(id: 1, name: "Inbound", order: 1, addTime: now, updateTime: now),
                PipedrivePipeline(id: 2, name: "Renewals", order: 2, addTime: now, updateTime: now),
            ],
            stages: [
                stage(11, 1, 1, "New"), stage(12, 1, 2, "Contacted"), stage(13, 1, 3, "Qualified"),
                stage(21, 2, 1, "Due"), stage(22, 2, 2, "Negotiation"),
            ],
            fields: [])
        for (key, name, type) in [
            ("id", "ID", "int"), ("title", "Title", "varchar"), ("value", "Value", "monetary"),
            ("status", "Status", "status"), ("stage_id", "Stage", "stage"), ("owner_id", "Owner", "user"),
            ("person_id", "Contact person", "people"), ("expected_close_date", "Expected close date", "date"),
            ("add_time", "Deal created", "date"),
        ] {
            company.addField(name: name, type: type, key: key, isCustom: false, now: now)
        }
        for (name, type, labels) in [
            ("Link", "varchar", []), ("Deal Source", "enum", ["Short link", "Form", "Referral"]),
            ("Last click", "date", []), ("Ad spend", "monetary", []), ("Account lead", "user", []),
            ("Clicks", "double", []), ("Campaigns", "set", ["Spring", "Summer", "Autumn"]), ("Clicked URL", "text", []),
        ] as [(String, String, [String])] {
            company.addField(name: name, type: type, labels: labels, key: keys.fieldKey(), isCustom: true, now: now)
        }
        return company
    }

    @discardableResult
    mutating func addField(
        name: String, type: String, labels: [String] = [], key: String, isCustom: Bool, now: Instant
    ) -> PipedriveField {
        // Option ids count over the whole account, as the vendor's do, so an id of one field is never valid in another.
        let firstOption = (fields.flatMap(\.options).map(\.id).max() ?? 100) + 1
        let options = labels.enumerated().map { PipedriveField.Option(id: firstOption + $0.offset, label: $0.element) }
        let field = PipedriveField(
            id: (fields.map(\.id).max() ?? 12_000) + 1, key: key, name: name, type: type, options: options,
            isCustom: isCustom, addTime: now)
        fields.append(field)
        return field
    }
}
