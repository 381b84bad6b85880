// SPDX-License-Identifier: Apache-2.0

import Foundation
import HTTPTypes
import MilepostModel
import MilepostServer
import Testing

@Suite("OpenAPI")
struct OpenAPITests {
    @Test("EXT-09: the document has every route and no other, is whole in its references, and says each scope")
    func document() async throws {
        try await World.run { world in
            let answer = try await world.send("GET", "/openapi.json")
            #expect(answer.status == 200 && answer.json["openapi"]?.string == "3.1.0")
            let document = answer.json
            var described: Set<String> = []
            var ids: [String] = []
            for (path, item) in document["paths"]?.object ?? [:] {
                for (method, operation) in item.object ?? [:] {
                    described.insert("\(method.uppercased()) \(path)")
                    ids.append(operation["operationId"]?.string ?? "")
                    check(operation, path)
                }
            }
            #expect(described == Set(MilepostServer.routes.map { "\($0.method.rawValue) \($0.path)" }))
            #expect(Set(ids).count == ids.count && !ids.contains(""))
            for reference in references(document) {
                let found = reference.split(separator: "/").dropFirst().reduce(document as JSONValue?) {
                    $0?[String($1)]
                }
                #expect(reference.hasPrefix("#/") && found != nil, "\(reference)")
            }
        }
    }

    @Test("OBS-07: what a route says about itself is what the server does with an unknown path parameter")
    func everyRouteIsServed() async throws {
        try await World.run { world in
            for route in MilepostServer.routes where route.access != .open {
                let path = route.path.replacingOccurrences(of: "{", with: "").replacingOccurrences(of: "}", with: "")
                let answer = try await world.send(route.method.rawValue, path)
                #expect(answer.status == 401 && answer.code == "unauthenticated", "\(route.method) \(path)")
                #expect(answer.headers["www-authenticate"]?.hasPrefix("Bearer") == true)
            }
        }
    }

    private func check(_ operation: JSONValue, _ path: String) {
        let named = (operation["parameters"]?.array ?? []).filter { $0["in"]?.string == "path" }.compactMap {
            $0["name"]?.string
        }
        let inPath = path.split(separator: "/").filter { $0.hasPrefix("{") }.map { String($0.dropFirst().dropLast()) }
        #expect(named == inPath, "\(path)")
        #expect(operation["responses"]?["2XX"]?["content"]?.object?.isEmpty == false)
        #expect(operation["responses"]?["4XX"]?["$ref"] != nil)
        let isOpen = operation["security"]?.array?.isEmpty == true
        #expect(isOpen != (operation["x-milepost-scope"]?.string != nil), "\(path)")
    }

    private func references(_ value: JSONValue) -> [String] {
        switch value {
        case .object(let members): (members["$ref"]?.string.map { [$0] } ?? []) + members.values.flatMap(references)
        case .array(let items): items.flatMap(references)
        default: []
        }
    }
}

@Suite("command line")
struct CommandCoverageTests {
    /// Routes that a command needs no line of its own for: what it says is in another's answer, or meant for machines.
    private static let machines: Set<String> = ["healthz", "readyz", "openapi", "metrics", "oauth.callback"]

    @Test("EXT-10: every route has a command that calls it")
    func everyRouteHasACommand() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Sources")
        var calls: Set<String> = []
        for folder in ["milepost", "MilepostClient"] {
            let files = try #require(FileManager.default.enumerator(atPath: root.appending(path: folder).path))
            for case let name as String in files where name.hasSuffix(".swift") {
                let text = try String(contentsOf: root.appending(path: folder).appending(path: name), encoding: .utf8)
                calls.formUnion(Self.calls(in: text))
            }
        }
        for route in MilepostServer.routes where !Self.machines.contains(route.operationID) {
            let shape = route.path.split(separator: "/").map { $0.hasPrefix("{") ? "*" : String($0) }.joined(
                separator: "/")
            #expect(
                calls.contains("\(route.method.rawValue) \(shape)"), "no command calls \(route.method) \(route.path)")
        }
    }

    /// Calls as `"GET", "/v1/admin/keys/\(id)"`, `"GET", session.path("links", link)`, `ClientRequest.path("v1", …)`.
    private static func calls(in text: String) -> Set<String> {
        let flat = text.replacing(#/\s+/#, with: " ")
        var found: Set<String> = []
        for match in flat.matches(of: #/"(GET|POST|PUT|PATCH|DELETE)", ?"(\/v1[^"]*(?:\\\([a-z]+\))?)"/#) {
            let path = match.2.replacing(#/\\\([^)]*\)/#, with: "*")
            found.insert("\(match.1) \(path.split(separator: "/").joined(separator: "/"))")
        }
        for match in flat.matches(of: #/"(GET|POST|PUT|PATCH|DELETE)", ?([A-Za-z.]*path)\(([^)]*)\)/#) {
            let parts = match.3.split(separator: ",").map { part in
                let part = part.drop { $0 == " " }
                return part.hasPrefix("\"") ? String(part.dropFirst().prefix { $0 != "\"" }) : "*"
            }
            let prefix = match.2.hasSuffix("session.path") ? ["v1", "workspaces", "*"] : []
            found.insert("\(match.1) \((prefix + parts).joined(separator: "/"))")
        }
        return found
    }
}
