// SPDX-License-Identifier: Apache-2.0

internal import FoundationEssentials
public import MilepostModel

/// What a plugin says about itself in `<name>.json`, read before any of its code runs.
///
/// Unknown keys are ignored, missing optional ones have the defaults given here.
public struct PluginManifest: Sendable, Hashable, Codable {
    public struct ABI: Sendable, Hashable, Codable {
        public let major: UInt32
        public let minHostMinor: UInt32
        enum CodingKeys: String, CodingKey {
            case major
            case minHostMinor = "min_host_minor"
        }
    }
    public struct Endpoint: Sendable, Hashable, Codable {
        public let `default`: String
        public let title: String?
    }
    public struct EgressRule: Sendable, Hashable, Codable {
        public let hosts: [String]
        public let ports: [UInt16]?
        public let methods: [String]?
    }
    public struct AuthField: Sendable, Hashable, Codable {
        public let name: String
        public let title: String?
        public let help: String?
        public let secret: Bool?
    }
    public struct Placement: Sendable, Hashable, Codable {
        public let name: String
        /// `header`, `query`, `basic`, `body`, …: egress knows the kinds.
        public let `in`: String
        public let header: String?
        public let parameter: String?
        public let template: String?
    }
    public struct Auth: Sendable, Hashable, Codable {
        public let scheme: String
        public let credential: String
        public let fields: [AuthField]?
        public let placements: [Placement]?
        /// The whole object, for keys of one scheme only (OAuth URLs, scopes, signing).
        public let raw: JSONValue

        enum CodingKeys: String, CodingKey { case scheme, credential, fields, placements }
        public init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: CodingKeys.self)
            scheme = try container.decode(String.self, forKey: .scheme)
            credential = try container.decodeIfPresent(String.self, forKey: .credential) ?? scheme
            fields = try container.decodeIfPresent([AuthField].self, forKey: .fields)
            placements = try container.decodeIfPresent([Placement].self, forKey: .placements)
            raw = try JSONValue(from: decoder)
        }
        public func encode(to encoder: any Encoder) throws { try raw.encode(to: encoder) }
    }
    public struct Batch: Sendable, Hashable, Codable {
        public let maxRecords: Int
        enum CodingKeys: String, CodingKey { case maxRecords = "max_records" }
    }
    public struct Action: Sendable, Hashable, Codable {
        public enum Idempotency: String, Sendable, Codable { case search, natural, key, none }
        public let name: String
        public let title: String?
        public let trigger: String?
        public let batch: Batch?
        public let idempotency: Idempotency?
        public let readLagMilliseconds: UInt64?
        public let reconcile: Bool?
        /// `contact`: queued clicks of one contact become one record.
        public let coalesce: String?
        /// A boolean setting of the connection that switches the action on or off; on when it is not set. For the
        /// triggers click and threshold.
        public let enabledBy: String?
        /// `optional`: a click action that takes clicks of nobody known, too.
        public let contact: String?
        /// Of an action whose trigger is `event`: what it takes.
        public let topics: [String]?
        /// Other names by which rules call the action.
        public let aliases: [String]?
        enum CodingKeys: String, CodingKey {
            case name, title, trigger, batch, idempotency, reconcile, coalesce, aliases, contact, topics
            case enabledBy = "enabled_by"
            case readLagMilliseconds = "read_lag_ms"
        }
        /// Records in one `deliver`: 1 unless declared.
        public var maxRecords: Int { batch?.maxRecords ?? 1 }
        public var readLag: Duration { .milliseconds(Int64(readLagMilliseconds ?? 0)) }
    }
    public struct Picker: Sendable, Hashable, Codable {
        public let id: String
        public let depends: [String]?
    }
    public struct RateLimit: Sendable, Hashable, Codable {
        public let bucket: String
        public let scope: String?
        public let unit: String?
        public let capacity: Double?
        public let periodMilliseconds: UInt64?
        public let period: String?
        public let presets: [String: Double]?
        public let headers: [String: String]?
        enum CodingKeys: String, CodingKey {
            case bucket, scope, unit, capacity, period, presets, headers
            case periodMilliseconds = "period_ms"
        }
    }
    public struct Limits: Sendable, Hashable, Codable {
        public let memoryMegabytes: Int?
        public let threads: Int?
        enum CodingKeys: String, CodingKey {
            case memoryMegabytes = "memory_mb"
            case threads
        }
    }
    public struct Metric: Sendable, Hashable, Codable {
        public let name: String
        public let kind: String?
        public let unit: String?
        public let labels: [String: [String]]?
    }

    public let id: String
    public let name: PluginName
    public let title: String
    public let version: String
    public let vendor: String?
    public let license: String?
    public let documentation: String?
    public let maturity: String?
    public let abi: ABI
    public let kinds: [String]
    public let endpoints: [String: Endpoint]?
    public let egress: [EgressRule]?
    public let auth: [Auth]?
    public let actions: [Action]?
    /// JSON Schema 2020-12 subset with `x-mp-*` hints; the core only hands it on.
    public let configSchema: JSONValue?
    public let pickers: [Picker]?
    public let rateLimits: [RateLimit]?
    public let limits: Limits?
    public let metrics: [Metric]?
    /// The whole document, unknown keys included: what `encode` writes.
    public let raw: JSONValue

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        id = try container.decode(String.self, forKey: .id)
        name = try container.decode(PluginName.self, forKey: .name)
        title = try container.decode(String.self, forKey: .title)
        version = try container.decode(String.self, forKey: .version)
        vendor = try container.decodeIfPresent(String.self, forKey: .vendor)
        license = try container.decodeIfPresent(String.self, forKey: .license)
        documentation = try container.decodeIfPresent(String.self, forKey: .documentation)
        maturity = try container.decodeIfPresent(String.self, forKey: .maturity)
        abi = try container.decode(ABI.self, forKey: .abi)
        kinds = try container.decode([String].self, forKey: .kinds)
        endpoints = try container.decodeIfPresent([String: Endpoint].self, forKey: .endpoints)
        egress = try container.decodeIfPresent([EgressRule].self, forKey: .egress)
        auth = try container.decodeIfPresent([Auth].self, forKey: .auth)
        actions = try container.decodeIfPresent([Action].self, forKey: .actions)
        configSchema = try container.decodeIfPresent(JSONValue.self, forKey: .configSchema)
        pickers = try container.decodeIfPresent([Picker].self, forKey: .pickers)
        rateLimits = try container.decodeIfPresent([RateLimit].self, forKey: .rateLimits)
        limits = try container.decodeIfPresent(Limits.self, forKey: .limits)
        metrics = try container.decodeIfPresent([Metric].self, forKey: .metrics)
        raw = try JSONValue(from: decoder)
    }

    public func encode(to encoder: any Encoder) throws { try raw.encode(to: encoder) }

    enum CodingKeys: String, CodingKey {
        case id, name, title, version, vendor, license, documentation, maturity, abi, kinds, endpoints, egress, auth
        case actions, pickers, limits, metrics
        case configSchema = "config_schema"
        case rateLimits = "rate_limits"
    }

    /// 256 MiB unless declared.
    public var memoryMegabytes: Int { limits?.memoryMegabytes ?? 256 }
    /// 16 unless declared.
    public var threads: Int { limits?.threads ?? 16 }
    /// The names by which requests refer to credentials, in manifest order.
    public var credentialNames: [String] { (auth ?? []).map(\.credential) }
}

extension PluginManifest {
    /// A manifest is a page of text; a schema with every field of a large CRM stays below.
    static let maximumBytes = 256 * 1024
    static let maximumDepth = 32

    /// Parses and checks a manifest.
    ///
    /// - Parameters:
    ///   - bytes: the file's content, hostile.
    ///   - name: the file's stem, which the manifest must agree with (decisions 18).
    /// - Throws: `manifestInvalid`, or `abiMajorMismatch` and `hostTooOld` by what it declares.
    public init(parsing bytes: [UInt8], name: PluginName) throws(PluginLoadError) {
        func refuse(_ detail: String, _ code: PluginLoadError.Code = .manifestInvalid) -> PluginLoadError {
            PluginLoadError(code: code, plugin: name, detail: "\(name).json \(detail)")
        }
        guard bytes.count <= Self.maximumBytes else {
            throw refuse("has \(bytes.count) bytes, more than \(Self.maximumBytes); it is not a manifest")
        }
        guard ManifestText.depth(bytes) <= Self.maximumDepth else {
            throw refuse("nests deeper than \(Self.maximumDepth) levels; flatten it")
        }
        do {
            self = try JSONDecoder().decode(Self.self, from: Data(bytes))
        } catch let error as DecodingError {
            throw refuse(Self.explain(error))
        } catch {
            throw refuse("cannot be read as JSON: \(error)")
        }
        if let problem = firstProblem(stem: name) { throw refuse(problem) }
        guard abi.major == 1 else {
            throw refuse(
                "asks for ABI \(abi.major), this Milepost has ABI 1; install the plugin's build for it",
                .abiMajorMismatch)
        }
        guard abi.minHostMinor <= hostABIMinor else {
            throw refuse(
                "needs ABI 1.\(abi.minHostMinor), this Milepost has 1.\(hostABIMinor); upgrade milepostd", .hostTooOld)
        }
    }

    private func firstProblem(stem: PluginName) -> String? {
        if name != stem { return "says its name is '\(name)'; file stem and name must be the same" }
        if id.isEmpty || id.utf8.count > 128 || !id.contains(".") { return "has no reverse-DNS id" }
        if version.isEmpty || version.utf8.count > 64 { return "has no version" }
        if kinds.isEmpty { return "names no kind" }
        if !(8...8192).contains(memoryMegabytes) { return "asks for \(memoryMegabytes) MiB; 8 to 8192 are possible" }
        if !(1...256).contains(threads) { return "asks for \(threads) threads; 1 to 256 are possible" }
        for action in actions ?? [] {
            if !(1...10_000).contains(action.maxRecords) {
                return "gives action '\(action.name)' batches of \(action.maxRecords) records; 1 to 10000 are possible"
            }
            if action.trigger == "click", action.idempotency != .natural {
                return
                    "gives action '\(action.name)' the trigger click without idempotency natural; clicks are sent again "
                    + "after a crash, so the vendor must take the same one twice as one"
            }
            if let coalesce = action.coalesce, coalesce != "contact" || action.trigger != "click" {
                return "lets action '\(action.name)' coalesce '\(coalesce)'; a click action may coalesce by contact"
            }
            if (action.readLagMilliseconds ?? 0) > 86_400_000 {
                return "gives action '\(action.name)' a read lag of more than a day"
            }
        }
        return hookProblem() ?? authProblem()
    }

    private static func explain(_ error: DecodingError) -> String {
        func path(_ context: DecodingError.Context) -> String {
            "/" + context.codingPath.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: "/")
        }
        switch error {
        case .keyNotFound(let key, let context): return "lacks '\(key.stringValue)' at \(path(context))"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            return "has a value of the wrong type at \(path(context))"
        case .dataCorrupted(let context): return "is not valid JSON at \(path(context))"
        @unknown default: return "cannot be read"
        }
    }
}

/// The minor of the ABI that this build offers (`MP_ABI_MINOR`).
let hostABIMinor: UInt32 = 0
