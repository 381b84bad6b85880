// SPDX-License-Identifier: Apache-2.0

/// Tells machines from people (EXC-06).
///
/// A click is a machine's when its request asked for headers only, was a prefetch or a preview, or when its user agent
/// names a known robot, fetcher or library. The list errs towards people: a robot counted as a person moves a total by
/// one, a person taken for a robot is a lead nobody hears of. So an empty, odd or ancient agent is a person, and so is
/// an app's own browser. The shortener's verdict, when it has one, is asked before this filter (decisions 35).
public struct BotFilter: Sendable {
    private let agents: AgentAutomaton
    private let judgesRequests: Bool

    /// The built-in list.
    public static let standard = BotFilter()
    /// Takes every click for a person's.
    public static let off = BotFilter(agents: AgentAutomaton(words: [], exceptions: []), judgesRequests: false)

    /// Most words an operator may add, and the longest of them in bytes; more are left out.
    public static let maximumExtraAgents = 512
    public static let maximumAgentBytes = 64

    /// - Parameter extraAgents: words to look for besides the built-in ones, anywhere in the user agent, case ignored; a
    ///   word that begins with `^` only at its start.
    public init(extraAgents: [String] = []) {
        let extra = extraAgents.filter { $0.utf8.count <= Self.maximumAgentBytes }.prefix(Self.maximumExtraAgents)
        agents = AgentAutomaton(words: KnownAgents.words + extra, exceptions: KnownAgents.exceptions)
        judgesRequests = true
    }

    private init(agents: AgentAutomaton, judgesRequests: Bool) {
        self.agents = agents
        self.judgesRequests = judgesRequests
    }

    /// - Parameters:
    ///   - method: of the request; `HEAD` asks for no page, so nobody is reading.
    ///   - purpose: the request's `Sec-Purpose` or `Purpose` header.
    public func isMachine(userAgent: String?, method: String? = nil, purpose: String? = nil) -> Bool {
        if judgesRequests {
            if let method, method.uppercased() == "HEAD" { return true }
            if let purpose, Self.isFetchedAhead(purpose) { return true }
        }
        guard let userAgent, !userAgent.isEmpty else { return false }
        return agents.matches(userAgent)
    }

    private static func isFetchedAhead(_ purpose: String) -> Bool {
        let words = purpose.lowercased().split { !$0.isLetter }
        return words.contains { $0 == "prefetch" || $0 == "prerender" || $0 == "preview" }
    }
}
