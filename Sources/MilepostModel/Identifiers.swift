// SPDX-License-Identifier: Apache-2.0

/// A piece of text that names a thing of one kind, so that a link's id cannot be passed where a workspace's is meant.
public protocol TextIdentifier: RawRepresentable, Hashable, Sendable, Codable, CustomStringConvertible, Comparable,
    ExpressibleByStringLiteral
where RawValue == String {
    init(rawValue: String)
}

extension TextIdentifier {
    public init(_ text: String) { self.init(rawValue: text) }
    public init(stringLiteral value: String) { self.init(rawValue: value) }
    public var description: String { rawValue }
    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

    public init(from decoder: any Decoder) throws {
        self.init(rawValue: try decoder.singleValueContainer().decode(String.self))
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }
}

/// A tenant: links, members, rules and connections live in exactly one.
public struct WorkspaceID: TextIdentifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// A short link, as the shortener names it; unique within its workspace.
public struct LinkID: TextIdentifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// A click's identity: two events with the same id in one workspace are one click (invariant 2).
public struct EventID: TextIdentifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// A connection of a workspace to one vendor account, `con_…`. Limits, keys, metrics and history hang on it.
public struct ConnectionID: TextIdentifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// One thing to make happen at a vendor, `dlv_…`; stable over attempts, restarts and replays.
public struct DeliveryID: TextIdentifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// The name of a plugin: file stem, configuration key and REST name at once (decisions 18).
public struct PluginName: TextIdentifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// `{integration}` of REST and command line: `plugin` or `plugin@name` (decisions 17).
public struct IntegrationName: Hashable, Sendable, Codable, CustomStringConvertible {
    public let plugin: PluginName
    /// Empty for the first connection, whose name is the bare plugin's.
    public let name: String

    public init(plugin: PluginName, name: String = "") {
        self.plugin = plugin
        self.name = name
    }

    /// Parses `plugin` or `plugin@name`: lower-case letters, digits, `-` and `_`, at most 64 characters a part.
    public init?(_ text: String) {
        let parts = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard parts.allSatisfy(Self.isValidPart) else { return nil }
        self.init(plugin: PluginName(parts[0]), name: parts.count == 2 ? parts[1] : "")
    }

    public var description: String { name.isEmpty ? plugin.rawValue : "\(plugin.rawValue)@\(name)" }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let value = Self(text) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "'\(text)' is not plugin or plugin@name")
        }
        self = value
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }

    private static func isValidPart(_ part: String) -> Bool {
        (1...64).contains(part.utf8.count)
            && part.utf8.allSatisfy { byte in
                (0x61...0x7a).contains(byte) || (0x30...0x39).contains(byte) || byte == 0x2d || byte == 0x5f
            }
    }
}
