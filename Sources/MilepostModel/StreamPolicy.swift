// SPDX-License-Identifier: Apache-2.0

/// The core's own settings for a connection that takes every click.
public struct StreamPolicy: Hashable, Sendable, Codable {
    /// What becomes of clicks that are taken for a machine's (EXC-06).
    public enum Bots: String, Sendable, Codable, CaseIterable { case exclude, include }
    /// What becomes of clicks whose contact the vendor does not know (RES-07).
    public enum UnknownContact: String, Sendable, Codable, CaseIterable { case hold, dead }
    /// What becomes of clicks on test links, internal links and links of members who opted out (EXC-04).
    public enum ExcludedLinks: String, Sendable, Codable, CaseIterable { case skip, send }

    public var bots: Bots
    public var unknownContact: UnknownContact
    public var excludedLinks: ExcludedLinks

    public init(
        bots: Bots = .exclude, unknownContact: UnknownContact = .hold, excludedLinks: ExcludedLinks = .skip
    ) {
        self.bots = bots
        self.unknownContact = unknownContact
        self.excludedLinks = excludedLinks
    }

    enum CodingKeys: String, CodingKey {
        case bots
        case unknownContact = "unknown_contact"
        case excludedLinks = "excluded_links"
    }
}
