// SPDX-License-Identifier: Apache-2.0

import Foundation
package import HTTPTypes
import Hummingbird
import MilepostEngine
package import MilepostModel

/// One operation of the API, as data: the router, the audit log and the OpenAPI document are made from these.
package struct Route: Sendable {
    package enum Access: Sendable, Equatable {
        case open
        case scope(AccessScope)
    }

    package var method: HTTPRequest.Method
    /// With parameters in braces, as OpenAPI writes them.
    package var path: String
    /// Stable; also the audit row's action.
    package var operationID: String
    var summary: String
    package var access: Access
    /// Leaves an audit row.
    package var isAudited: Bool
    package var queryParameters: [String] = []
    /// Concerns more than one workspace, so that a token of one workspace does not open it. A workspace's plan is the
    /// daemon's to give: nobody may lift himself to a better one.
    package var isDaemonWide: Bool {
        path.hasPrefix("/v1/admin") || operationID == "metrics" || operationID == "workspaces.put"
    }
    var handler: @Sendable (Call) async throws -> Answer

    /// What the audit row names. An erasure must not keep whom it erased (PRV-02).
    func auditTarget(_ path: String) -> String {
        guard method == .delete, self.path.hasSuffix("/{contact}") else { return path }
        // Slashes at the end lead to the same route, and are not what the contact stands behind.
        let named = path[...(path.lastIndex(where: { $0 != "/" }) ?? path.startIndex)]
        guard let slash = named.lastIndex(of: "/") else { return path }
        return named[...slash] + "[erased]"
    }

    static func get(
        _ path: String, _ operationID: String, _ access: Access, query: [String] = [], _ summary: String,
        _ handler: @escaping @Sendable (Call) async throws -> Answer
    ) -> Route {
        Route(
            method: .get, path: path, operationID: operationID, summary: summary, access: access, isAudited: false,
            queryParameters: query, handler: handler)
    }

    static func change(
        _ method: HTTPRequest.Method, _ path: String, _ operationID: String, _ access: Access, query: [String] = [],
        audited: Bool = true, _ summary: String, _ handler: @escaping @Sendable (Call) async throws -> Answer
    ) -> Route {
        Route(
            method: method, path: path, operationID: operationID, summary: summary, access: access, isAudited: audited,
            queryParameters: query, handler: handler)
    }
}

/// A request on its way through a handler.
struct Call: Sendable {
    let engine: Engine
    let principal: Principal?
    let request: Request
    let parameters: Parameters
    let server: ServerContext
    /// What was in force when the request began.
    let live: LiveSettings.Snapshot

    var settings: ServerSettings { live.settings }

    func parameter(_ name: String) throws -> String {
        guard let raw = parameters.get(name), let text = raw.utf8.contains(0x25) ? raw.removingPercentEncoding : raw,
            (1...256).contains(text.utf8.count), text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f })
        else {
            throw Problem.badRequest("The path's \(name) must be 1 to 256 bytes of text without control characters.")
        }
        return text
    }

    /// The path's workspace, if the token may touch it.
    func workspace() throws -> WorkspaceID {
        let id = WorkspaceID(try parameter("ws"))
        if let bound = principal?.workspace, bound != id {
            throw Problem(status: .forbidden, code: "forbidden", detail: "The token is for workspace \(bound) only.")
        }
        return id
    }

    func integration() throws -> IntegrationName {
        let text = try parameter("integration")
        guard let name = IntegrationName(text) else {
            throw Problem.badRequest("\(text) is not an integration: plugin or plugin@name, in lower case.")
        }
        return name
    }

    func query(_ name: String) -> String? { request.uri.queryParameters.get(name) }

    func limit() throws -> Int {
        guard let text = query("limit") else { return 50 }
        guard let value = Int(text), (1...500).contains(value) else {
            throw Problem.badRequest("limit must be a whole number from 1 to 500.")
        }
        return value
    }

    /// Where the next page begins, as the last answer said. Those are short; anything long is none of ours.
    func cursor() throws -> String? {
        guard let text = query("cursor") else { return nil }
        guard (1...2048).contains(text.utf8.count) else {
            throw Problem.badRequest("cursor must be the next value of an earlier answer.")
        }
        return text
    }

    func time(_ name: String) throws -> Timestamp? {
        guard let text = query(name) else { return nil }
        guard let value = Timestamp(rfc3339: text) else {
            throw Problem.badRequest("\(name) must be an RFC 3339 time such as 2026-11-21T07:00:00Z.")
        }
        return value
    }

    /// The body, which must be JSON within the limits of a control route; an empty body is an empty object.
    func json() async throws -> JSONValue {
        try requireType("application/json")
        let bytes = try await bytes(limit: settings.maximumJSONBody)
        if bytes.isEmpty { return .object([:]) }
        return try JSONValue(parsing: bytes, limits: JSONLimits(bytes: settings.maximumJSONBody, depth: 16))
    }

    /// - Parameter keys: the keys it may have; a mistyped one must not be taken for an absent one. Nil: any.
    func object(keys: Set<String>? = nil) async throws -> [String: JSONValue] {
        guard let members = try await json().object else { throw Problem.badRequest("The body must be a JSON object.") }
        if let keys, let unknown = members.keys.filter({ !keys.contains($0) }).min() {
            throw Problem.badRequest(
                "\(unknown) is unknown here; the body may hold \(keys.sorted().joined(separator: ", ")).")
        }
        return members
    }

    /// Refuses a body that says it is something else. No type, and those that clients send when nobody told them one,
    /// pass.
    func requireType(_ allowed: String...) throws {
        guard let header = request.headers[.contentType], !allowed.contains(header) else { return }
        let type = header.prefix { $0 != ";" && $0 != " " }.lowercased()
        let unsaid = ["", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"]
        guard allowed.contains(type) || unsaid.contains(type) else {
            throw Problem(
                status: .unsupportedMediaType, code: "unsupported_media_type",
                detail:
                    "Content-Type \(type.prefix(100)) is not understood here; \(allowed.joined(separator: " and ")) is."
            )
        }
    }

    func bytes(limit: Int) async throws -> [UInt8] {
        let tooLarge = Problem(
            status: .contentTooLarge, code: "body_too_large",
            detail: "The body is larger than \(limit) bytes; send it in parts.")
        if let text = request.headers[.contentLength], let announced = Int(text), announced > limit { throw tooLarge }
        var collected: [UInt8] = []
        do {
            for try await chunk in request.body {
                guard collected.count + chunk.readableBytes <= limit else { throw tooLarge }
                unsafe chunk.withUnsafeReadableBytes { unsafe collected.append(contentsOf: $0) }
            }
        } catch let problem as Problem {
            throw problem
        } catch {
            // The sender went away or broke the framing: nobody is left to read this, and it is no fault of ours.
            throw Problem.badRequest("The body broke off.")
        }
        return collected
    }
}

/// What a handler answers.
struct Answer: Sendable {
    var status: HTTPResponse.Status = .ok
    var contentType = "application/json"
    var body: [UInt8]
    /// Beside content type and cache control.
    var headers: HTTPFields = [:]
    /// Facts for the audit row; never a secret.
    var auditDetail: JSONValue = .object([:])

    init(_ json: JSONValue, status: HTTPResponse.Status = .ok, auditDetail: JSONValue = .object([:])) {
        self.status = status
        body = json.bytes
        self.auditDetail = auditDetail
    }

    init(bytes: [UInt8]) { body = bytes }

    init(text: String, contentType: String, status: HTTPResponse.Status = .ok) {
        self.status = status
        self.contentType = contentType
        body = Array(text.utf8)
    }

    var response: Response {
        var fields = headers
        fields[.contentType] = contentType
        fields[.cacheControl] = "no-store"
        return Response(
            status: status, headers: fields,
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: body)))
    }
}
