// SPDX-License-Identifier: Apache-2.0

/// One budget of a vendor: so many requests, or so much cost, in so much time.
///
/// A vendor's rules are a stack of these (Z-01): a burst window per token, a smaller one for search, a daily cost for the
/// whole company. A request is charged to every bucket it names and leaves when all of them have room. Everyone who uses
/// one key shares the bucket (RATE-13); buckets of different keys never wait for each other (RATE-14).
public struct RateBucket: Sendable, Equatable {
    public enum Period: Sendable, Equatable {
        /// No stretch of this length ever holds more than the capacity.
        case rolling(Duration)
        /// From midnight to midnight, see `RateBucket.dayOffset`.
        case day
    }

    public enum Unit: String, Sendable, Codable { case requests, cost }

    /// Names of the response headers with the vendor's own count; compared without case. The reset is in seconds.
    public struct Headers: Sendable, Equatable, Codable {
        public var limit: String?
        public var remaining: String?
        public var resetSeconds: String?
        /// The window's length in milliseconds, by vendors that name no reset: how long a refusal lasts at most.
        public var intervalMilliseconds: String?

        public init(
            limit: String? = nil, remaining: String? = nil, resetSeconds: String? = nil,
            intervalMilliseconds: String? = nil
        ) {
            self.limit = limit
            self.remaining = remaining
            self.resetSeconds = resetSeconds
            self.intervalMilliseconds = intervalMilliseconds
        }

        enum CodingKeys: String, CodingKey {
            case limit, remaining
            case resetSeconds = "reset_seconds"
            case intervalMilliseconds = "interval_milliseconds"
        }
    }

    /// Whose budget this is, e.g. `con_x/default`. Equal keys are one bucket.
    public let key: String
    /// At least 1; corrected by the vendor's limit header.
    public var capacity: Int
    public var period: Period
    public var unit: Unit
    public var headers: Headers
    /// Requests of this key on the wire at once; nil for no limit.
    public var concurrency: Int?
    /// When the vendor's day starts, as an offset east of UTC. Vendors reset at midnight of a server whose zone they do
    /// not always name (crm-apis.md 2.4), so it is a setting.
    public var dayOffset: Duration

    public init(
        key: String, capacity: Int, period: Period, unit: Unit = .requests, headers: Headers = Headers(),
        concurrency: Int? = nil, dayOffset: Duration = .zero
    ) {
        precondition(capacity >= 1, "bucket \(key): capacity \(capacity) would let nothing through, ever")
        self.key = key
        self.capacity = capacity
        self.period = period
        self.unit = unit
        self.headers = headers
        self.concurrency = concurrency
        self.dayOffset = dayOffset
    }
}

/// What one request takes from one bucket.
public struct BucketCharge: Sendable, Equatable {
    public let key: String
    /// In the bucket's unit; a bucket of requests is charged 1 whatever this says.
    public let cost: Int

    public init(key: String, cost: Int = 1) {
        self.key = key
        self.cost = max(1, cost)
    }
}

/// An entry of `rate_limits` in a plugin's manifest, as written there.
public struct RateLimitDeclaration: Sendable, Equatable, Codable {
    /// A named setting of the same bucket: a plain number in the manifest, or an object when the period differs too.
    public struct Preset: Sendable, Equatable, Codable {
        public let capacity: Int
        public let periodMilliseconds: Int64?

        public init(capacity: Int, periodMilliseconds: Int64? = nil) {
            self.capacity = capacity
            self.periodMilliseconds = periodMilliseconds
        }

        enum CodingKeys: String, CodingKey {
            case capacity
            case periodMilliseconds = "period_ms"
        }

        public init(from decoder: any Decoder) throws {
            if let number = try? decoder.singleValueContainer().decode(Int.self) {  // the short form, else the long one
                self.init(capacity: number)
                return
            }
            let container = try decoder.container(keyedBy: CodingKeys.self)
            self.init(
                capacity: try container.decode(Int.self, forKey: .capacity),
                periodMilliseconds: try container.decodeIfPresent(Int64.self, forKey: .periodMilliseconds))
        }

        public func encode(to encoder: any Encoder) throws {
            if periodMilliseconds == nil {
                var container = encoder.singleValueContainer()
                try container.encode(capacity)
                return
            }
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(capacity, forKey: .capacity)
            try container.encodeIfPresent(periodMilliseconds, forKey: .periodMilliseconds)
        }
    }

    public enum Scope: String, Sendable, Codable { case credential, account }

    public var bucket: String
    public var scope: Scope
    public var capacity: Int
    public var periodMilliseconds: Int64?
    public var period: String?
    public var unit: RateBucket.Unit
    public var presets: [String: Preset]?
    public var headers: RateBucket.Headers?
    public var concurrency: Int?

    enum CodingKeys: String, CodingKey {
        case bucket, scope, capacity, period, unit, presets, headers, concurrency
        case periodMilliseconds = "period_ms"
    }

    /// The bucket this entry describes.
    ///
    /// - Parameters:
    ///   - key: the connection or account it belongs to, joined with the bucket's name by the caller.
    ///   - preset: a name from `presets`; nil takes the entry's own numbers.
    ///   - override: the administrator's number, which wins over both (RATE-03: a setting per connection).
    /// - Returns: nil when the preset is unknown, no period is given or a number is not positive.
    public func makeBucket(key: String, preset: String? = nil, capacity override: Int? = nil) -> RateBucket? {
        let chosen: Preset? = if let preset { presets?[preset] } else { Preset(capacity: capacity) }
        guard let chosen, (override ?? chosen.capacity) >= 1 else { return nil }
        let length: RateBucket.Period
        if let milliseconds = chosen.periodMilliseconds ?? periodMilliseconds {
            guard milliseconds > 0 else { return nil }
            length = .rolling(.milliseconds(milliseconds))
        } else if period == "day" {
            length = .day
        } else {
            return nil
        }
        return RateBucket(
            key: key, capacity: override ?? chosen.capacity, period: length, unit: unit,
            headers: headers ?? RateBucket.Headers(), concurrency: concurrency)
    }
}
