// SPDX-License-Identifier: Apache-2.0

/// A short link with its facts and running totals.
public struct Link: Hashable, Sendable {
    public var workspace: WorkspaceID
    public var id: LinkID
    public var slug: String?
    public var shortURL: String?
    public var destination: String?
    public var title: String?
    public var folder: String?
    public var tags: [String]
    public var flags: Set<Flag>
    /// The member who owns it, for opt-outs.
    public var owner: String?
    public var totals: ClickTotals

    /// Flags that keep a link out of the CRM (EXC-01, EXC-02).
    public enum Flag: String, Sendable, Codable, CaseIterable { case test, `internal` }

    public init(
        workspace: WorkspaceID, id: LinkID, slug: String? = nil, shortURL: String? = nil, destination: String? = nil,
        title: String? = nil, folder: String? = nil, tags: [String] = [], flags: Set<Flag> = [], owner: String? = nil,
        totals: ClickTotals = ClickTotals()
    ) {
        self.workspace = workspace
        self.id = id
        self.slug = slug
        self.shortURL = shortURL
        self.destination = destination
        self.title = title
        self.folder = folder
        self.tags = tags
        self.flags = flags
        self.owner = owner
        self.totals = totals
    }

    /// What a person calls the link: the slug, else the id.
    public var displayName: String { slug ?? id.rawValue }
}

/// A change to a link's facts. A part that is nil stays; `.some(nil)` clears.
public struct LinkChange: Sendable, Equatable {
    public var slug: String??
    public var shortURL: String??
    public var destination: String??
    public var title: String??
    public var folder: String??
    public var tags: [String]?
    public var flags: Set<Link.Flag>?
    public var owner: String??

    public init() {}
}

/// A workspace and the plan it is on.
public struct Workspace: Hashable, Sendable {
    public var id: WorkspaceID
    public var plan: String?
    public var trialStartedAt: Timestamp?
    public var createdAt: Timestamp

    public init(id: WorkspaceID, plan: String? = nil, trialStartedAt: Timestamp? = nil, createdAt: Timestamp) {
        self.id = id
        self.plan = plan
        self.trialStartedAt = trialStartedAt
        self.createdAt = createdAt
    }
}
