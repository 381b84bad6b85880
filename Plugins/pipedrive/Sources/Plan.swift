// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// What a delivery is about to create. Journalled before the deal is sent, so that a later look-up searches for what
/// was sent and not for what today's settings would send.
struct Plan: Sendable, Equatable {
    static let step = "plan"

    var title: String
    var pipelineID: Int64
    var fieldKey: String?
    var fieldValue: String?

    var json: JSONValue {
        var members: [String: JSONValue] = ["title": .string(title), "pipeline_id": .int(pipelineID)]
        if let fieldKey, let fieldValue {
            members["field_key"] = .string(fieldKey)
            members["field_value"] = .string(fieldValue)
        }
        return .object(members)
    }

    init(title: String, pipelineID: Int64, fieldKey: String?, fieldValue: String?) {
        self.title = title
        self.pipelineID = pipelineID
        self.fieldKey = fieldKey
        self.fieldValue = fieldValue
    }

    init?(_ json: JSONValue) {
        guard let title = json["title"]?.string, let pipeline = json["pipeline_id"]?.int else { return nil }
        self.init(
            title: title, pipelineID: pipeline, fieldKey: json["field_key"]?.string,
            fieldValue: json["field_value"]?.string)
    }
}

/// A deal as a listing or an answer shows it, in one shape for both generations of the API.
struct Deal: Sendable, Equatable {
    var id: Int64
    var title: String
    var pipelineID: Int64?
    var creatorID: Int64?
    var addedAt: Int64?
    var json: JSONValue
    var shelf = Shelf.live

    /// Where the vendor keeps it: each has a listing of its own.
    enum Shelf: String, Sendable {
        case live, archived, deleted
    }

    init?(_ json: JSONValue) {
        guard let id = json["id"]?.int else { return nil }
        self.id = id
        self.json = json
        title = json["title"]?.string ?? ""
        pipelineID = json["pipeline_id"]?.int
        // Automations may hand the deal to somebody else at once: the creator stays.
        let user = json["creator_user_id"] ?? json["owner_id"] ?? json["user_id"]
        creatorID = user?.int ?? user?["id"]?.int ?? user?["value"]?.int
        addedAt = json["add_time"]?.string.flatMap { epochSeconds($0) }
    }

    /// Whether somebody changed its stage since it was made, which moving it to another pipeline does; nil when the vendor
    /// does not say.
    var wasMoved: Bool? {
        guard let changed = json["stage_change_time"] else { return nil }
        guard let changedAt = changed.string.flatMap({ epochSeconds($0) }) else { return changed.isNull ? false : nil }
        return addedAt.map { changedAt > $0 }
    }

    func value(of key: String) -> String? {
        let value = json["custom_fields"]?[key] ?? json[key]
        return value?.string ?? value?.int.map { String($0) } ?? value?["value"]?.string
    }

    func bears(_ plan: Plan) -> Bool {
        VendorText.line(title, longest: DealText.longestTitle) == plan.title
    }
}
