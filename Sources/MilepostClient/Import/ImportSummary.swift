// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What became of a file's lines.
public struct ImportSummary: Sendable, Equatable {
    public struct RejectedLine: Sendable, Equatable {
        /// 1 for the file's first line.
        public var line: Int
        public var code: String
        public var message: String

        var json: JSONValue {
            .object(["line": .integer(Int64(line)), "code": .string(code), "message": .string(message)])
        }
    }

    /// Lines that hold a click, rejected ones not included.
    public var clicks = 0
    public var accepted = 0
    public var duplicate = 0
    public var nonClicks = 0
    public var rejected = 0
    /// Links that the daemon knew less about than the file.
    public var linksDescribed = 0
    /// Why the daemon takes no link facts from this token; nil when it does.
    public var factsRefused: String?
    /// The first of the rejected lines; `--rejects` receives all of them.
    public var rejections: [RejectedLine] = []
    /// Bytes and lines of the file that the daemon has acknowledged.
    public var offset = 0
    public var lines = 0
    /// Hash of those lines, to notice a file that changed between two runs.
    var prefixHash = ImportState.emptyHash

    /// Rejections kept for the summary.
    static let listed = 20

    public init() {}

    mutating func reject(_ line: RejectedLine) {
        rejected += 1
        if rejections.count < Self.listed { rejections.append(line) }
    }

    /// The answer of `milepost import clicks --json`.
    public var json: JSONValue {
        .object([
            "clicks": .integer(Int64(clicks)), "accepted": .integer(Int64(accepted)),
            "duplicate": .integer(Int64(duplicate)),
            "non_clicks": .integer(Int64(nonClicks)), "rejected": .integer(Int64(rejected)),
            "links_described": .integer(Int64(linksDescribed)), "rejections": .array(rejections.map(\.json)),
        ])
    }

    var state: JSONValue {
        guard case .object(var members) = json else { return json }
        members["offset"] = .integer(Int64(offset))
        members["lines"] = .integer(Int64(lines))
        members["hash"] = .string(String(prefixHash, radix: 16))
        return .object(members)
    }

    init?(state: JSONValue) {
        func count(_ name: String) -> Int? { state[name]?.integer.flatMap { $0 >= 0 ? Int($0) : nil } }
        guard let offset = count("offset"), let lines = count("lines"), let clicks = count("clicks"),
            let accepted = count("accepted"), let duplicate = count("duplicate"), let nonClicks = count("non_clicks"),
            let rejected = count("rejected"), let hash = state["hash"]?.string.flatMap({ UInt64($0, radix: 16) })
        else { return nil }
        (self.offset, self.lines, self.clicks, self.accepted) = (offset, lines, clicks, accepted)
        (self.duplicate, self.nonClicks, self.rejected) = (duplicate, nonClicks, rejected)
        linksDescribed = count("links_described") ?? 0
        prefixHash = hash
        rejections = (state["rejections"]?.array ?? []).prefix(Self.listed).compactMap { item in
            guard let line = item["line"]?.integer, let code = item["code"]?.string else { return nil }
            return RejectedLine(line: Int(line), code: code, message: item["message"]?.string ?? "")
        }
    }
}
