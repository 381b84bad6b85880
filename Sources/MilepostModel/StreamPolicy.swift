// SPDX-License-Identifier: Apache-2.0

/// The core's own settings for a connection that takes every click.
public struct StreamPolicy: Hashable, Sendable, Codable {
    /// What becomes of clicks that are taken for a machine's (EXC-06).
    public enum Bots: String, Sendable, Codable, CaseIterable { case exclude, include }
    /// What becomes of clicks whose contact the vendor does not know (RES-07).
    public enum UnknownContact: String, Sendable, Codable, CaseIterable { case hold, dead }
    /// What becomes of clicks on test links, internal links and links of members who opted out (EXC-04).
    public enum ExcludedLinks: String, Sendable, Codable, CaseIterable { case skip, send }

    /// What becomes of clicks of nobody known, where the plugin has a use for them.
    public enum AnonymousClicks: String, Sendable, Codable, CaseIterable { case hold, send }

    public var bots: Bots
    public var unknownContact: UnknownContact
    public var excludedLinks: ExcludedLinks
    /// Only clicks on links with one of these tags or in one of `onlyFolders`, so that each of several accounts of one
    /// vendor gets its own (HCON-07). Both nil: clicks on every link.
    public var onlyTags: [String]?
    public var onlyFolders: [String]?
    /// Nil: they are held until somebody knows whose they are.
    public var anonymousClicks: AnonymousClicks?

    public init(
        bots: Bots = .exclude, unknownContact: UnknownContact = .hold, excludedLinks: ExcludedLinks = .skip,
        onlyTags: [String]? = nil, onlyFolders: [String]? = nil, anonymousClicks: AnonymousClicks? = nil
    ) {
        self.bots = bots
        self.unknownContact = unknownContact
        self.excludedLinks = excludedLinks
        self.onlyTags = onlyTags
        self.onlyFolders = onlyFolders
        self.anonymousClicks = anonymousClicks
    }

    enum CodingKeys: String, CodingKey {
        case bots
        case unknownContact = "unknown_contact"
        case excludedLinks = "excluded_links"
        case onlyTags = "only_tags"
        case onlyFolders = "only_folders"
        case anonymousClicks = "anonymous_clicks"
    }

    /// Whether clicks on a link with these facts are this connection's.
    public func takes(tags: [String], folder: String?) -> Bool {
        if onlyTags == nil, onlyFolders == nil { return true }
        return onlyTags?.contains(where: tags.contains) ?? false
            || folder.map { onlyFolders?.contains($0) ?? false } ?? false
    }
}
