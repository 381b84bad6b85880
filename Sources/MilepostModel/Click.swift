// SPDX-License-Identifier: Apache-2.0

/// One click on a short link, parsed and normalised; the identity is settled, the content within limits.
public struct Click: Hashable, Sendable {
    /// Given by the sender or derived from the content (decisions 8).
    public var id: EventID
    public var link: LinkID
    /// When it happened, by the shortener's clock.
    public var time: Timestamp
    /// Whether the shortener or the bot filter took it for a machine. Such a click counts in `all`, not in `people`.
    public var isBot: Bool
    /// Where the link led, when the click says so.
    public var url: String?
    public var contactID: String?
    public var googleClickID: String?
    public var facebookClickID: String?
    public var utm: UTM
    public var referrer: String?
    public var country: String?
    public var device: String?
    public var userAgent: String?

    public init(
        id: EventID, link: LinkID, time: Timestamp, isBot: Bool = false, url: String? = nil, contactID: String? = nil,
        googleClickID: String? = nil, facebookClickID: String? = nil, utm: UTM = UTM(), referrer: String? = nil,
        country: String? = nil, device: String? = nil, userAgent: String? = nil
    ) {
        self.id = id
        self.link = link
        self.time = time
        self.isBot = isBot
        self.url = url
        self.contactID = contactID
        self.googleClickID = googleClickID
        self.facebookClickID = facebookClickID
        self.utm = utm
        self.referrer = referrer
        self.country = country
        self.device = device
        self.userAgent = userAgent
    }
}

/// The campaign parameters of a link or a click. Absent parts are nil, never empty text.
public struct UTM: Hashable, Sendable, Codable {
    public var source: String?
    public var medium: String?
    public var campaign: String?
    public var term: String?
    public var content: String?

    public init(
        source: String? = nil, medium: String? = nil, campaign: String? = nil, term: String? = nil,
        content: String? = nil
    ) {
        self.source = source
        self.medium = medium
        self.campaign = campaign
        self.term = term
        self.content = content
    }

    /// Whether source, medium and campaign, the triple that deals are labelled with, are all absent.
    public var hasNoTriple: Bool { source == nil && medium == nil && campaign == nil }
}

/// Clicks counted: of everybody, and of people alone (decisions 13).
public struct ClickTotals: Hashable, Sendable, Codable {
    public var all: Int64
    public var people: Int64

    public init(all: Int64 = 0, people: Int64 = 0) {
        self.all = all
        self.people = people
    }

    public func counted(_ audience: Audience) -> Int64 {
        switch audience {
        case .all: all
        case .people: people
        }
    }
}

/// Whose clicks a threshold looks at.
public enum Audience: String, Sendable, Codable, CaseIterable {
    case all
    case people
}
