// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import MilepostModel

/// The OpenAPI 3.1 description, made from the routes themselves so that it cannot disagree with them.
enum OpenAPIDocument {
    static func make(routes: [Route], version: String) -> JSONValue {
        var paths: [String: [String: JSONValue]] = [:]
        for route in routes { paths[route.path, default: [:]][route.method.rawValue.lowercased()] = operation(route) }
        return [
            "openapi": "3.1.0",
            "info": [
                "title": "Milepost", "version": .string(version),
                "description": "Watches short-link clicks and makes what sales should know happen in the CRM, once.",
                "license": ["name": "Apache-2.0", "identifier": "Apache-2.0"],
            ],
            "servers": [["url": "/"]],
            "security": [["bearer": []]],
            "paths": .object(paths.mapValues(JSONValue.object)),
            "components": [
                "securitySchemes": ["bearer": ["type": "http", "scheme": "bearer"]],
                "schemas": .object(
                    OpenAPISchemas.all.merging(RuleSchemas.all) { $1 }.merging(VendorEventSchemas.all) { $1 }),
                "responses": [
                    "Page": [
                        "description": "A page for the person who came back from the vendor, saying why not",
                        "content": ["text/html": ["schema": ["type": "string"]]],
                    ],
                    "Problem": [
                        "description": "RFC 9457 problem document with a stable code",
                        "content": ["application/problem+json": ["schema": ["$ref": "#/components/schemas/Problem"]]],
                    ],
                ],
            ],
        ]
    }

    private static func operation(_ route: Route) -> JSONValue {
        let pathParameters = route.path.split(separator: "/").filter { $0.hasPrefix("{") }.map {
            $0.dropFirst().dropLast()
        }
        var parameters: [JSONValue] = pathParameters.map {
            [
                "name": .string(String($0)), "in": "path", "required": true,
                "schema": ["type": "string", "maxLength": 256],
            ]
        }
        parameters += route.queryParameters.map {
            ["name": .string($0), "in": "query", "required": false, "schema": ["type": "string"]]
        }
        if route.operationID == "integrations.events.post" {
            parameters.append([
                "name": "Idempotency-Key", "in": "header", "required": false,
                "schema": ["type": "string", "maxLength": 256],
            ])
        }
        var body: [String: JSONValue] = [
            // Generated clients put operations of a subject together by it.
            "tags": [.string(String(route.operationID.prefix { $0 != "." }))],
            "operationId": .string(route.operationID), "summary": .string(route.summary),
            "parameters": .array(parameters),
            "responses": [
                "2XX": [
                    "description": "Success",
                    "content": .object(
                        content(
                            OpenAPISchemas.answer[route.operationID] ?? RuleSchemas.answer[route.operationID]
                                ?? VendorEventSchemas.answer[route.operationID], route)),
                ],
                "4XX": route.operationID == "oauth.callback"
                    ? ["$ref": "#/components/responses/Page"]
                    : ["$ref": "#/components/responses/Problem"],
                "5XX": ["$ref": "#/components/responses/Problem"],
            ],
        ]
        switch route.access {
        case .open: body["security"] = []
        case .scope(let scope): body["x-milepost-scope"] = .string(scope.rawValue)
        }
        if let schema = OpenAPISchemas.request[route.operationID] ?? RuleSchemas.request[route.operationID]
            ?? VendorEventSchemas.request[route.operationID]
        {
            var media: [String: JSONValue] = ["application/json": ["schema": schema]]
            if route.operationID == "events.post" { media["application/x-ndjson"] = ["schema": ["type": "string"]] }
            body["requestBody"] = ["required": true, "content": .object(media)]
        }
        return .object(body)
    }

    private static func content(_ schema: JSONValue?, _ route: Route) -> [String: JSONValue] {
        switch route.operationID {
        case "oauth.callback": ["text/html": ["schema": ["type": "string"]]]
        case "metrics": ["text/plain": ["schema": ["type": "string"]]]
        case "deliveries.export": ["application/x-ndjson": ["schema": ["type": "string"]]]
        default: ["application/json": ["schema": schema ?? ["type": "object"]]]
        }
    }
}
