// SPDX-License-Identifier: Apache-2.0

/// Whom a click or a touch belongs to.
public struct ClickContact: Sendable, Decodable {
    /// The vendor's id of the contact, when it is known.
    public var id: String?
    /// The e-mail address of a form, when there is no id.
    public var email: String?
    /// "click": the id stood on the click; "form": a form carried the same advertisement click id.
    public var via: String
}

/// A link as clicks name it.
public struct ClickedLink: Sendable, Decodable {
    public var id: String
    public var slug: String?
    public var short_url: String?
    public var destination: String?
    public var title: String?
    public var folder: String?
    public var tags: [String]?
    public var owner: String?
}

/// The campaign parameters of a click.
public struct ClickCampaign: Sendable, Decodable {
    public var source: String?
    public var medium: String?
    public var campaign: String?
    public var term: String?
    public var content: String?

    /// Whether none of the five is there.
    public var isEmpty: Bool {
        source == nil && medium == nil && campaign == nil && term == nil && content == nil
    }
}

/// The payload of an action whose trigger is "click": one click of a contact that is known.
public struct ResolvedClick: Sendable, Decodable {
    public struct Click: Sendable, Decodable {
        public var id: String
        /// When it happened, RFC 3339 with milliseconds; not when it is sent.
        public var at: String
        public var url: String?
        public var referrer: String?
        public var country: String?
        public var device: String?
        public var user_agent: String?
        public var is_bot: Bool?
    }

    public var workspace: String
    /// 32 hexadecimal digits, the same over all retries, unique for connection, action and click.
    public var key: String
    public var click: Click
    public var utm: ClickCampaign
    public var link: ClickedLink
    public var contact: ClickContact
}

/// The payload of an action whose trigger is "click" and which coalesces by contact: what the clicks that were queued for
/// one contact leave behind.
public struct ContactTouch: Sendable, Decodable {
    public var workspace: String
    /// 32 hexadecimal digits, the same over all retries.
    public var key: String
    public var contact: ClickContact
    /// When the last of the clicks happened, RFC 3339 with milliseconds.
    public var at: String
    /// What is to be written; a part that is nil stays as it is.
    public var utm: ClickCampaign
    /// How many clicks were put together.
    public var clicks: Int64
    /// The last click's id.
    public var last_click: String
    /// The last click's link.
    public var link: ClickedLink
}
