// SPDX-License-Identifier: Apache-2.0

/// The payload of an action whose trigger is "threshold": the clicks of a link or of a folder crossed a number.
public struct ThresholdCrossing: Sendable, Decodable {
    public struct Scope: Sendable, Decodable {
        /// "link" or "folder"
        public var kind: String
        public var id: String
        public var name: String?
    }
    public struct Link: Sendable, Decodable {
        public var id: String
        public var slug: String?
        public var short_url: String?
        public var destination: String?
        public var title: String?
        public var folder: String?
        public var tags: [String]?
        public var owner: JSONValue?
    }
    public struct Total: Sendable, Decodable {
        public var all: Int64
        public var people: Int64?
    }
    public struct Utm: Sendable, Decodable {
        public var source: String?
        public var medium: String?
        public var campaign: String?
    }
    public struct TopLink: Sendable, Decodable {
        public var id: String
        public var slug: String?
        public var clicks: Int64?
    }

    /// What a hook wants to be different from the settings; each part may be absent.
    public struct Deal: Sendable, Decodable {
        public var title: String?
        /// The vendor's own ids, as the pickers list them.
        public var pipeline: JSONValue?
        public var stage: JSONValue?
    }

    public var workspace: String?
    public var scope: Scope
    /// Absent when the scope is a folder.
    public var link: Link?
    public var threshold: Int64
    public var arming: Int64?
    public var total: Total
    /// "all" or "people": which clicks the threshold looks at.
    public var count: String?
    public var crossed_at: String?
    public var utm: Utm?
    public var analytics_url: String?
    /// Folder only, three at most.
    public var top_links: [TopLink]?
    /// Custom fields by label or key, beside those of the settings.
    public var fields: JSONValue?
    public var deal: Deal?

    /// The name that a person knows the scope by.
    public var displayName: String {
        let slug = link?.slug ?? ""
        if !slug.isEmpty { return slug }
        let name = scope.name ?? ""
        return name.isEmpty ? scope.id : name
    }
}
