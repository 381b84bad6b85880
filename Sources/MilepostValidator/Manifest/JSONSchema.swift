// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel

/// The subset of JSON Schema 2020-12 that the published schemas use. Keywords outside it are ignored.
struct JSONSchema {
    let root: JSONValue
    /// Finds a schema of another file, by its name.
    let others: (String) -> JSONValue?

    /// The first place where a value does not fit: JSON pointer and reason. Nil when it fits.
    func problem(of value: JSONValue) -> String? { problem(value, root, at: "", depth: 0) }

    private func problem(_ value: JSONValue, _ schema: JSONValue, at path: String, depth: Int) -> String? {
        guard depth < 64 else { return "\(path) nests too deeply" }
        let place = path.isEmpty ? "the whole" : path
        if let reference = schema["$ref"]?.string {
            guard let target = resolve(reference) else { return "\(place): the schema refers to \(reference)" }
            return target.problem(value, target.root, at: path, depth: depth + 1)
        }
        if let types = schema["type"], !fits(value, types) {
            return "\(place) is \(Self.kind(value)), not \(types.string ?? types.description)"
        }
        if let allowed = schema["enum"]?.array, !allowed.contains(value) { return "\(place) is \(short(value))" }
        if let constant = schema["const"], constant != value { return "\(place) is \(short(value)), not \(constant)" }
        if let banned = schema["not"], problem(value, banned, at: path, depth: depth + 1) == nil {
            return "\(place) is \(short(value)), which is not permitted"
        }
        if let choices = schema["anyOf"]?.array,
            choices.allSatisfy({ problem(value, $0, at: path, depth: depth + 1) != nil })
        {
            return "\(place) fits none of the permitted forms"
        }
        if let condition = schema["if"] {
            let holds = problem(value, condition, at: path, depth: depth + 1) == nil
            if let branch = schema[holds ? "then" : "else"],
                let found = problem(value, branch, at: path, depth: depth + 1)
            {
                return found
            }
        }
        return inText(value, schema, place) ?? inNumber(value, schema, place)
            ?? inArray(value, schema, path, depth) ?? inObject(value, schema, path, depth)
    }

    private func resolve(_ reference: String) -> JSONSchema? {
        if reference.hasPrefix("#/") {
            let target = reference.dropFirst(2).split(separator: "/").reduce(Optional(root)) { $0?[String($1)] }
            // What stands inside may refer to the whole again.
            return target.map { part in
                JSONSchema(root: merged(part), others: others)
            }
        }
        return others(reference).map { JSONSchema(root: $0, others: others) }
    }

    private func merged(_ part: JSONValue) -> JSONValue {
        guard case .object(var members) = part, members["$defs"] == nil, let definitions = root["$defs"] else {
            return part
        }
        members["$defs"] = definitions
        return .object(members)
    }

    private func inText(_ value: JSONValue, _ schema: JSONValue, _ place: String) -> String? {
        guard let text = value.string else { return nil }
        if let longest = schema["maxLength"]?.integer, text.count > longest { return "\(place) is too long" }
        if let shortest = schema["minLength"]?.integer, text.count < shortest { return "\(place) is too short" }
        if let pattern = schema["pattern"]?.string, let regex = try? Regex(pattern), text.firstMatch(of: regex) == nil {
            return "\(place) is \(short(value)), which does not match \(pattern)"
        }
        return nil
    }

    private func inNumber(_ value: JSONValue, _ schema: JSONValue, _ place: String) -> String? {
        guard let number = Self.number(value) else { return nil }
        if let least = schema["minimum"].flatMap(Self.number), number < least { return "\(place) is below \(least)" }
        if let most = schema["maximum"].flatMap(Self.number), number > most { return "\(place) is above \(most)" }
        return nil
    }

    private func inArray(_ value: JSONValue, _ schema: JSONValue, _ path: String, _ depth: Int) -> String? {
        guard let items = value.array else { return nil }
        if let least = schema["minItems"]?.integer, items.count < least { return "\(path) has too few items" }
        if let most = schema["maxItems"]?.integer, items.count > most { return "\(path) has too many items" }
        guard let each = schema["items"] else { return nil }
        for (index, item) in items.enumerated() {
            if let found = problem(item, each, at: "\(path)/\(index)", depth: depth + 1) { return found }
        }
        return nil
    }

    private func inObject(_ value: JSONValue, _ schema: JSONValue, _ path: String, _ depth: Int) -> String? {
        guard let members = value.object else { return nil }
        for name in schema["required"]?.array ?? [] {
            if let name = name.string, members[name] == nil { return "\(path.isEmpty ? "it" : path) lacks '\(name)'" }
        }
        for (name, member) in members.sorted(by: { $0.key < $1.key }) {
            let known = schema["properties"]?[name] ?? schema["additionalProperties"]
            if let known, case .object = known,
                let found = problem(member, known, at: "\(path)/\(name)", depth: depth + 1)
            {
                return found
            }
        }
        return nil
    }

    private func fits(_ value: JSONValue, _ types: JSONValue) -> Bool {
        (types.array ?? [types]).contains { type in
            switch (type.string, value) {
            case ("object", .object), ("array", .array), ("string", .string), ("boolean", .bool), ("null", .null),
                ("integer", .integer), ("number", .integer), ("number", .number):
                true
            default: false
            }
        }
    }

    private func short(_ value: JSONValue) -> String {
        let text = value.description
        return text.count > 80 ? "\(text.prefix(80))…" : text
    }

    private static func number(_ value: JSONValue) -> Double? {
        switch value {
        case .integer(let whole): Double(whole)
        case .number(let number): number
        default: nil
        }
    }

    static func kind(_ value: JSONValue) -> String {
        switch value {
        case .null: "null"
        case .bool: "a boolean"
        case .integer, .number: "a number"
        case .string: "a text"
        case .array: "an array"
        case .object: "an object"
        }
    }
}

/// The schemas of include/milepost/schemas, as they were when this was built.
enum Schemas {
    static func named(_ file: String) -> JSONValue? {
        let bytes: [UInt8]? =
            switch file {
            case "manifest.json": PackageResources.manifest_json
            case "error.json": PackageResources.error_json
            case "configure.result.json": PackageResources.configure_result_json
            case "connect.result.json": PackageResources.connect_result_json
            case "options.result.json": PackageResources.options_result_json
            case "deliver.result.json": PackageResources.deliver_result_json
            case "reconcile.result.json": PackageResources.reconcile_result_json
            case "intercept.result.json": PackageResources.intercept_result_json
            case "webhook.result.json": PackageResources.webhook_result_json
            case "pull.result.json": PackageResources.pull_result_json
            case "payload.deal.json": PackageResources.payload_deal_json
            case "http.event.json": PackageResources.http_event_json
            default: nil
            }
        return bytes.flatMap { try? JSONValue(parsing: $0) }
    }

    /// Nil when the bytes are JSON that fits; else what is wrong.
    static func problem(_ bytes: [UInt8], _ file: String) -> String? {
        let value: JSONValue
        do { value = try JSONValue(parsing: bytes, limits: JSONLimits(bytes: 16 << 20, depth: 64)) } catch {
            return error.detail
        }
        guard let schema = named(file) else { return "there is no schema \(file)" }
        return JSONSchema(root: schema, others: named).problem(of: value)
    }
}
