// SPDX-License-Identifier: Apache-2.0

import MilepostKit

// Lists of the vendor's account, in one shape for both generations of the API.

struct Pipeline: Sendable, Equatable {
    var id: Int64
    var name: String
    var order: Int64
}

struct Stage: Sendable, Equatable {
    var id: Int64
    var name: String
    var order: Int64
    var pipelineID: Int64
}

extension Vendor {
    /// Live pipelines in the vendor's order.
    func pipelines(_ operation: Operation) async throws -> [Pipeline] {
        // The first generation lists them whole and knows no paging there.
        let items =
            api == .v1
            ? try await get(url("/pipelines"), cost: 5, operation)["data"]?.array ?? []
            : try await all(url("/pipelines"), cost: 5, operation)
        return items.compactMap { item -> Pipeline? in
            guard let id = item["id"]?.int, isLive(item) else { return nil }
            return Pipeline(id: id, name: item["name"]?.string ?? "", order: item["order_nr"]?.int ?? 0)
        }.sorted { ($0.order, $0.id) < ($1.order, $1.id) }
    }

    /// Live stages of a pipeline in the vendor's order.
    func stages(of pipeline: Int64, _ operation: Operation) async throws -> [Stage] {
        try await all(url("/stages"), query: "pipeline_id=\(pipeline)", cost: 5, operation).compactMap {
            item -> Stage? in
            guard let id = item["id"]?.int, isLive(item), item["pipeline_id"]?.int == pipeline else { return nil }
            return Stage(
                id: id, name: item["name"]?.string ?? "", order: item["order_nr"]?.int ?? 0, pipelineID: pipeline)
        }.sorted { ($0.order, $0.id) < ($1.order, $1.id) }
    }

    func dealFields(_ operation: Operation) async throws -> [DealField] {
        try await all(url("/dealFields"), cost: 10, operation).compactMap { DealField($0) }
    }

    /// Active users: id and name.
    func users(_ operation: Operation) async throws -> [(id: Int64, name: String)] {
        let json = try await get(v1("/users"), cost: 20, operation)
        return (json["data"]?.array ?? []).compactMap { item in
            guard let id = item["id"]?.int, item["active_flag"]?.bool != false else { return nil }
            return (id, item["name"]?.string ?? "")
        }
    }

    /// The id of the token's own user.
    func ownUser(_ operation: Operation) async throws -> Int64 {
        let json = try await get(v1("/users/me"), cost: 2, operation)
        guard let id = json["data"]?["id"]?.int else {
            throw Verdict.retry(code: "answer_unreadable", message: "Pipedrive does not say who the token's user is.")
        }
        return id
    }

    private func isLive(_ item: JSONValue) -> Bool {
        let active = item["active_flag"] ?? item["active"] ?? true
        return item["is_deleted"]?.bool != true && active.bool != false && active != 0
    }

    /// Every page of a list, by cursor or by offset.
    /// - Throws: `Verdict` when a page fails, or when the list does not end within forty pages of five hundred.
    private func all(_ address: String, query: String = "", cost: UInt32, _ operation: Operation) async throws
        -> [JSONValue]
    {
        var items: [JSONValue] = []
        var page: Page? = .first
        for _ in 0..<40 {
            guard let current = page else { return items }
            let parts = [query, current.query(limit: 500)].filter { !$0.isEmpty }
            let json = try await get(address + "?" + parts.joined(separator: "&"), cost: cost, operation)
            items += json["data"]?.array ?? []
            page = current.next(after: json)
        }
        if page == nil { return items }
        throw Verdict.retry(code: "answer_unreadable", message: "A list of Pipedrive does not end: \(address).")
    }
}

/// Where a listing is: Pipedrive pages v2 by opaque cursor and v1 by offset.
enum Page: Equatable {
    case first
    case cursor(String)
    case offset(Int64)

    func query(limit: Int) -> String {
        switch self {
        case .first: "limit=\(limit)"
        case .cursor(let cursor): "limit=\(limit)&cursor=\(VendorText.urlEncoded(cursor))"
        case .offset(let start): "limit=\(limit)&start=\(start)"
        }
    }

    func next(after json: JSONValue) -> Page? {
        let more = json["additional_data"]
        if let cursor = more?["next_cursor"]?.string, !cursor.isEmpty {
            return self == .cursor(cursor) ? nil : .cursor(cursor)
        }
        let pagination = more?["pagination"]
        guard pagination?["more_items_in_collection"]?.bool == true, let next = pagination?["next_start"]?.int else {
            return nil
        }
        if case .offset(let start) = self, next <= start { return nil }
        return .offset(next)
    }
}
