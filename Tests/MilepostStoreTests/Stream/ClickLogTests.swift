// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore
import Testing

@Suite("The log of clicks for readers with a cursor")
struct ClickLogTests {
    private func identified(_ id: String, on link: String = "a", contact: String? = nil) -> IdentifiedClick {
        var made = click(id, on: link, contact: contact)
        made.identity = identity(id)
        return made
    }

    private func ids(_ store: SQLiteStore, after position: ClickPosition) async throws -> [String] {
        try await store.clicks(after: position, workspace: .acme, limit: 1000).map(\.click.id.rawValue)
    }

    @Test("clicks come in order of receipt, also over days and when the clock steps back (ING-03, ING-04)")
    func order() async throws {
        let directory = try TemporaryDirectory()
        var store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        let days: [Int64] = [0, 1, 2, 0, 1, -3, 2]
        var expected: [String] = []
        for (round, day) in days.enumerated() {
            let names = (0..<3).map { "e\(round)-\($0)" }
            _ = try await store.append(
                names.map { identified($0) }, workspace: .acme, receivedAt: .start + .seconds(day * 86_400))
            expected += names
        }
        #expect(try await ids(store, after: .start) == expected)

        // A reader that takes two at a time sees each once, whatever day it lies in.
        var cursor = ClickPosition.start
        var read: [String] = []
        while true {
            let page = try await store.readClicks(after: cursor, workspace: .acme, limit: 2)
            read += page.clicks.map(\.click.id.rawValue)
            #expect(page.through >= cursor)
            cursor = page.through
            if !page.hasMore { break }
        }
        #expect(read == expected)
        #expect(try await store.newestClickPosition() == cursor)

        await store.close()
        store = try directory.open()
        _ = try await store.append([identified("late")], workspace: .acme, receivedAt: .start - .seconds(86_400 * 9))
        #expect(try await ids(store, after: cursor) == ["late"])
        await store.close()
    }

    @Test("a position is never given again, not after retention took the newest click, nor after an erasure (ING-04)")
    func positionsOnlyGrow() async throws {
        let directory = try TemporaryDirectory()
        var store = try directory.open(SQLiteConfiguration(retentionChunk: 2))
        _ = try await store.ensureWorkspace(.acme, at: .start)
        _ = try await store.append(
            (0..<5).map { identified("e\($0)", contact: "ada@example.org") }, workspace: .acme, receivedAt: .start)
        let newest = try await store.newestClickPosition()
        _ = try await store.eraseContact(workspace: .acme, contact: "ada@example.org")
        #expect(try await store.newestClickPosition() == newest)
        let far = Timestamp.start + .seconds(86_400 * 10)
        #expect(
            try await store.enforceRetention(clicksBefore: far, dedupeBefore: far, deliveriesBefore: far).daysDropped
                == 1)
        #expect(try await store.clicks(after: .start, workspace: nil, limit: 10).isEmpty)
        #expect(try await store.newestClickPosition() == newest)
        await store.close()
        store = try directory.open()
        _ = try await store.append([identified("after")], workspace: .acme, receivedAt: .start)
        #expect(try await ids(store, after: newest) == ["after"])
        await store.close()
    }

    @Test("a call that fails takes no position from the calls beside it")
    func failedCalls() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        var broken = identified("broken")
        broken.identity = []
        let calls = [[identified("a")], [identified("b"), broken], [identified("c")]]
        await withTaskGroup(of: Void.self) { group in
            for clicks in calls {
                group.addTask { _ = try? await store.append(clicks, workspace: .acme, receivedAt: .start) }
            }
        }
        #expect(try await Set(ids(store, after: .start)) == ["a", "c"])
        let newest = try await store.newestClickPosition()
        _ = try await store.append([identified("d")], workspace: .acme, receivedAt: .start)
        #expect(try await ids(store, after: newest) == ["d"])
        await store.close()
    }

    @Test("clicks of other workspaces are passed over, and the cursor with them")
    func workspaces() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        _ = try await store.ensureWorkspace("other", at: .start)
        _ = try await store.append([identified("mine")], workspace: .acme, receivedAt: .start)
        _ = try await store.append((0..<50).map { identified("o\($0)") }, workspace: "other", receivedAt: .start)
        let page = try await store.readClicks(after: .start, workspace: .acme, limit: 10)
        #expect(page.clicks.map(\.click.id) == ["mine"])
        #expect(page.through == (try await store.newestClickPosition()))
        #expect(!page.hasMore)
        #expect(try await store.clicks(after: .start, workspace: nil, limit: 100).count == 51)
        await store.close()
    }

    @Test("a stored click carries its link's facts of now and is found by its id and by its position")
    func facts() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        _ = try await store.append([identified("x"), identified("y", on: "b")], workspace: .acme, receivedAt: .start)
        var change = LinkChange()
        change.title = "Sheet"
        change.tags = ["sales"]
        change.flags = [.test]
        _ = try await store.changeLink("a", workspace: .acme, change: change, at: .start)
        let found = try #require(await store.storedClick("x", workspace: .acme, identity: identity("x")))
        #expect(found.link.title == "Sheet")
        #expect(found.link.tags == ["sales"])
        #expect(found.link.flags == [.test])
        #expect(try await store.clicks(at: [found.position]) == [found])
        #expect(try await store.storedClick("x", workspace: "other", identity: identity("x")) == nil)
        #expect(try await store.storedClick("z", workspace: .acme, identity: identity("z")) == nil)
        await store.close()
    }

    @Test("days that an older schema left keep their order and are followed by what comes")
    func migration() async throws {
        let directory = try TemporaryDirectory()
        var store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        for day in 0..<3 {
            _ = try await store.append(
                (0..<2).map { identified("d\(day)-\($0)") }, workspace: .acme,
                receivedAt: .start + .seconds(Int64(day) * 86_400))
        }
        await store.close()
        try sqlite(
            directory.database,
            """
            ALTER TABLE click_days DROP COLUMN base; DELETE FROM counters WHERE name = 'clicks';
            DROP INDEX forms_gclid; DROP INDEX forms_fbclid; DROP TABLE streams; DROP TABLE stream_gaps;
            DROP TABLE stream_counters; DROP TABLE stream_exclusions; DROP TABLE stream_deliveries; DROP TABLE held_clicks; DROP TABLE contact_touches;
            DELETE FROM grdb_migrations WHERE identifier = '0005-streams'; PRAGMA user_version = 2;
            """)
        store = try directory.open()
        _ = try await store.append(
            [identified("today")], workspace: .acme, receivedAt: .start + .seconds(2 * 86_400))
        #expect(try await ids(store, after: .start) == ["d0-0", "d0-1", "d1-0", "d1-1", "d2-0", "d2-1", "today"])
        #expect(try await store.auditTotals() == [])
        await store.close()
    }

    @Test("RES-04: forms lie between clicks; those from before places were kept came before every click")
    func formsBetweenClicks() async throws {
        let directory = try TemporaryDirectory()
        var store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        func form(_ id: EventID) async throws {
            _ = try await store.appendForms(
                [FormSubmission(id: id, time: .start, contactID: "c", googleClickID: "g")], workspace: .acme,
                receivedAt: .start)
        }
        try await form("old")
        await store.close()
        try sqlite(
            directory.database,
            """
            DROP INDEX forms_log; ALTER TABLE forms DROP COLUMN number; ALTER TABLE forms DROP COLUMN position;
            DELETE FROM counters WHERE name = 'forms'; ALTER TABLE rule_cursors DROP COLUMN form;
            ALTER TABLE rules DROP COLUMN filled_form; DROP TABLE rule_waiting;
            DELETE FROM grdb_migrations WHERE identifier = '0010-identities'; PRAGMA user_version = 9;
            """)
        store = try directory.open()
        _ = try await store.append([identified("a")], workspace: .acme, receivedAt: .start)
        try await form("new")
        try await form("new")
        _ = try await store.append([identified("b")], workspace: .acme, receivedAt: .start)
        try await form("last")
        let end = try await store.newestClickPosition()
        func found(_ first: ClickPosition, after: Int64 = 0, last: Int64? = nil) async throws -> [EventID] {
            try await store.loggedForms(workspace: .acme, in: first...end, after: after, last: last, limit: 10)
                .map(\.form.id)
        }
        #expect(try await found(.start) == ["old", "new", "last"])
        #expect(try await found(ClickPosition(1)) == ["new", "last"])
        #expect(try await found(.start, after: 1, last: 2) == ["new"])
        let all = try await store.loggedForms(workspace: .acme, in: .start...end, after: 0, last: nil, limit: 10)
        #expect(all.map(\.position) == [.start, ClickPosition(1), end])
        await store.close()
    }

    @Test("no wake-up is lost: a reader that waits after each look sees every click (ING-04)")
    func signal() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        let subscription = store.arrivals.subscribe(to: .workspace(.acme))
        let elsewhere = store.arrivals.subscribe(to: .workspace("other"))
        let total = 300
        let reader = Task { () -> [String] in
            var cursor = ClickPosition.start
            var read: [String] = []
            while read.count < total {
                let page = try await store.readClicks(after: cursor, workspace: .acme, limit: 7)
                read += page.clicks.map(\.click.id.rawValue)
                cursor = page.through
                if page.clicks.isEmpty, !page.hasMore { _ = try await subscription.next() }
            }
            return read
        }
        for number in 0..<total {
            _ = try await store.append([identified("s\(number)")], workspace: .acme, receivedAt: .start)
        }
        #expect(try await reader.value == (0..<total).map { "s\($0)" })
        #expect(elsewhere.take().isEmpty)
        _ = subscription.take()
        _ = try await store.append([identified("s1")], workspace: .acme, receivedAt: .start)
        #expect(subscription.take().isEmpty, "a duplicate is no arrival")
        await store.close()
    }

    @Test("ING-01: clicks of workspaces that a reader did not ask for leave it asleep; those it listens to wake it")
    func interest() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        let chosen = store.arrivals.subscribe(to: .clicksOf(["other"]))
        let forms = store.arrivals.subscribe(to: .forms)
        let connections = store.arrivals.subscribe(to: .connections)
        _ = try await store.ensureWorkspace(.acme, at: .start)
        _ = try await store.append([identified("a")], workspace: .acme, receivedAt: .start)
        #expect(chosen.take().isEmpty)
        chosen.listen(to: .acme)
        forms.listen(to: .acme)
        _ = try await store.append([identified("b")], workspace: .acme, receivedAt: .start)
        #expect(chosen.take().clicks == [.acme])
        #expect(forms.take().isEmpty)
        #expect(connections.take().isEmpty)
        let form = FormSubmission(id: "f", time: .start, contactID: "1", googleClickID: "g")
        _ = try await store.appendForms([form], workspace: .acme, receivedAt: .start)
        #expect(forms.take().forms[.acme]?.google == ["g"])
        store.arrivals.raiseConnections(of: "third")
        #expect(chosen.take().connections == ["third"])
        #expect(connections.take().connections == ["third"])
        await store.close()
    }

    @Test("a reader of the log sees every field that a click came with, as a look-up by position does")
    func fields() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        var full = Click(id: "full", link: "a", time: .start - .seconds(5), isBot: true, contactID: "501")
        full.url = "https://example.org/?x=1"
        full.googleClickID = "g"
        full.facebookClickID = "f"
        full.utm = UTM(source: "s", medium: "m", campaign: "c", term: "t", content: "n")
        full.referrer = "https://example.com"
        full.country = "DE"
        full.device = "phone"
        full.userAgent = "agent"
        let bare = Click(id: "bare", link: "b", time: .start)
        _ = try await store.append(
            [full, bare].map { IdentifiedClick(click: $0, identity: identity($0.id.rawValue)) }, workspace: .acme,
            receivedAt: .start)
        var change = LinkChange()
        change.tags = ["one", "two"]
        change.flags = [.test]
        _ = try await store.changeLink("a", workspace: .acme, change: change, at: .start)
        let page = try await store.readClicks(after: .start, workspace: .acme, limit: 10)
        #expect(page.clicks.map(\.click) == [full, bare])
        #expect(page.clicks.map(\.link.tags) == [["one", "two"], []])
        #expect(try await store.clicks(at: page.clicks.map(\.position)) == page.clicks)
        #expect(try await store.readClicks(after: .start, workspace: nil, limit: 10) == page)
        await store.close()
    }

    @Test("a wait that is cancelled ends, and a nudge before the wait is kept")
    func waits() async throws {
        let signal = ArrivalSignal()
        let nudged = signal.subscribe()
        nudged.nudge()
        #expect(try await nudged.next().isEmpty)
        let waiting = Task { try await nudged.next() }
        waiting.cancel()
        await #expect(throws: CancellationError.self) { try await waiting.value }
    }
}
