// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore

/// A stretch of the log as rolling rules read it: clicks, and forms at their places between them.
struct RuleLogPage {
    var clicks: [StoredClick]
    var forms: [LoggedForm]
    /// Everything has been read up to here.
    var through: ClickPosition
    var lastForm: Int64
    var hasMore: Bool

    /// - Parameter bound: where to stop; what is there counts, and so do forms up to its number.
    static func read(
        _ store: any Store, _ resolver: ContactResolver, _ workspace: WorkspaceID, after from: RuleCursor,
        through bound: RuleCursor?, limit: Int
    ) async throws -> RuleLogPage {
        let read = try await store.readClicks(after: from.position, workspace: workspace, limit: limit)
        var page = RuleLogPage(
            clicks: read.clicks, forms: [], through: read.through, lastForm: from.form, hasMore: read.hasMore)
        if let bound {
            if page.through > bound.position {
                page.cut(through: bound.position)
            } else if !page.hasMore {
                // Retention took what lay between.
                page.through = bound.position
            }
        }
        // After the clicks: a form that came before one of them is there by now.
        let limit = min(limit, Self.maximumForms)
        page.forms = try await store.loggedForms(
            workspace: workspace, in: from.position...max(from.position, page.through), after: from.form,
            last: bound?.form, limit: limit)
        page.lastForm = page.forms.last?.number ?? from.form
        if page.forms.count == limit, let last = page.forms.last {
            if last.position < page.through { page.cut(through: last.position) }
            page.hasMore = true
        } else if let bound, page.through >= bound.position {
            page.lastForm = max(page.lastForm, bound.form)
        }
        resolver.note(page.forms, of: workspace)
        return page
    }

    /// Forms read at once.
    private static let maximumForms = 500

    private mutating func cut(through position: ClickPosition) {
        clicks.removeAll { $0.position > position }
        through = position
    }
}
