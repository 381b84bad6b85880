// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// The shapes of handed-in events (HOOK-08).
enum VendorEventSchemas {
    private static let optionalText: JSONValue = ["type": ["string", "null"]]
    private static let time: JSONValue = ["type": "string", "format": "date-time"]
    private static let topic: JSONValue = [
        "type": "string", "enum": .array(VendorEvent.Topic.allCases.map { .string($0.rawValue) }),
    ]
    private static let reference: JSONValue = ["$ref": "#/components/schemas/VendorEvent"]

    static let all: [String: JSONValue] = [
        "DealStageChange": [
            "type": "object", "additionalProperties": false, "required": ["dealId", "newStage"],
            "properties": [
                "dealId": ["type": "string", "maxLength": 256], "dealTitle": optionalText,
                "previousStage": optionalText, "newStage": ["type": "string", "maxLength": 256],
                "personId": optionalText,
                "value": [
                    "type": ["string", "null"], "pattern": "^-?[0-9]{1,18}(\\.[0-9]{1,8})?$",
                    "description": "Decimal text, so that no cent is lost.",
                ],
                "currency": [
                    "type": ["string", "null"], "pattern": "^[A-Z]{3}$", "description": "ISO 4217; with every value.",
                ],
            ],
        ],
        "VendorEventRequest": [
            "type": "object", "additionalProperties": false, "required": ["topic", "data"],
            "description": "id (or the header Idempotency-Key), or at, must be there.",
            "properties": [
                "topic": topic, "id": ["type": "string", "minLength": 1, "maxLength": 256], "at": time,
                "data": ["$ref": "#/components/schemas/DealStageChange"],
            ],
        ],
        "VendorEvent": [
            "type": "object", "required": ["id", "integration", "topic", "at", "received_at", "data", "deliveries"],
            "properties": [
                "id": ["type": "string"], "integration": ["type": "string"], "topic": topic, "at": time,
                "received_at": time, "data": ["$ref": "#/components/schemas/DealStageChange"],
                "duplicate": ["type": "boolean", "description": "In the answer to a POST: it was there already."],
                "deliveries": [
                    "type": "array",
                    "items": [
                        "type": "object", "required": ["id", "integration", "state"],
                        "properties": [
                            "id": ["type": "string"], "integration": ["type": "string"], "state": ["type": "string"],
                        ],
                    ],
                ],
            ],
        ],
    ]

    static let request: [String: JSONValue] = [
        "integrations.events.post": ["$ref": "#/components/schemas/VendorEventRequest"]
    ]

    static let answer: [String: JSONValue] = [
        "integrations.events.post": reference,
        "integrations.events.list": [
            "type": "object", "required": ["events", "next"],
            "properties": ["events": ["type": "array", "items": reference], "next": optionalText],
        ],
    ]
}
