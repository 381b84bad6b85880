// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostIntake
import MilepostModel
import MilepostStore

extension MilepostServer {
    static var eventRoutes: [Route] {
        [
            .change(
                .post, "/v1/workspaces/{ws}/events", "events.post", .scope(.ingest), audited: false,
                "Takes click events: one JSON object, an array, or NDJSON, also gzipped.", postEvents)
        ]
    }

    /// The 2xx is a promise: every accepted click is on disk by then (invariant 1). Good lines are kept beside bad ones.
    private static func postEvents(_ call: Call) async throws -> Answer {
        let workspace = try call.workspace()
        let store = call.engine.store
        let now = call.engine.clock.now
        try await requireWorkspace(workspace, call)
        let body = try await eventBody(call)
        let batch = call.live.intake.parse(body: body, kind: kind(of: call.request), workspace: workspace, now: now)
        let isNew =
            batch.clicks.isEmpty
            ? []
            : try await store.append(
                batch.clicks.map { IdentifiedClick(click: $0.click, identity: $0.identity) }, workspace: workspace,
                receivedAt: now)
        let accepted = isNew.count(where: { $0 })
        let counters = call.server.counters
        counters.accepted.add(accepted)
        counters.duplicate.add(isNew.count - accepted)
        counters.rejected.add(batch.rejectedCount)
        if batch.rejectedCount == 0 {
            // The usual answer, the same bytes as below without building a value for them.
            let text =
                "{\"accepted\":\(accepted),\"duplicate\":\(isNew.count - accepted),\"rejected\":0,\"rejections\":[]}"
            return Answer(bytes: Array(text.utf8))
        }
        var answer: [String: JSONValue] = [
            "accepted": .integer(Int64(accepted)), "duplicate": .integer(Int64(isNew.count - accepted)),
            "rejected": .integer(Int64(batch.rejectedCount)),
            "rejections": .array(
                batch.rejections.map {
                    ["line": .integer(Int64($0.line)), "code": .string($0.code), "message": .string($0.message)]
                }),
        ]
        if batch.rejectedCount > batch.rejections.count {
            answer["rejections_omitted"] = .integer(Int64(batch.rejectedCount - batch.rejections.count))
        }
        return Answer(.object(answer))
    }

    private static func eventBody(_ call: Call) async throws -> [UInt8] {
        let limit = call.settings.maximumEventsBody
        try call.requireType("application/json", "application/x-ndjson", "application/ndjson", "application/jsonl")
        let body = try await call.bytes(limit: limit)
        switch call.request.headers[.contentEncoding]?.lowercased() {
        case nil, "identity": return body
        case "gzip":
            do { return try GzipDecoder.decode(body, limit: limit) } catch {
                let isTooLarge = error.code == .bodyTooLarge
                throw Problem(
                    status: isTooLarge ? .contentTooLarge : .badRequest,
                    code: isTooLarge ? "body_too_large" : "bad_request",
                    detail: error.detail)
            }
        case .some(let other):
            throw Problem(
                status: .unsupportedMediaType, code: "unsupported_media_type",
                detail: "Content-Encoding \(other) is not understood; gzip and identity are.")
        }
    }

    private static func kind(of request: Request) -> ClickParser.Kind {
        guard let type = request.headers[.contentType]?.lowercased() else { return .auto }
        if ["application/x-ndjson", "application/ndjson", "application/jsonl"].contains(where: type.hasPrefix) {
            return .ndjson
        }
        return type.hasPrefix("application/json") ? .json : .auto
    }
}
