// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostModel
import MilepostStore
import Testing

@Suite("The ledger of clicks")
struct LedgerTests {
    @Test(
        "totals equal a recount over random streams with repeats, bots, lateness and failing calls (ING-15)",
        arguments: 1...6)
    func totalsEqualARecount(seed: UInt64) async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open(SQLiteConfiguration(retentionChunk: 50, cachedLinks: 7))
        _ = try await store.ensureWorkspace(.acme, at: .start)
        var random = Seeded(state: seed)
        var expected: [LinkID: ClickTotals] = [:]
        var seen: Set<EventID> = []
        for _ in 0..<30 {
            // Each round: calls that arrive together, one in four with a click that the file refuses.
            var calls: [[IdentifiedClick]] = []
            for _ in 0..<4 {
                var clicks = (0..<Int.random(in: 1...20, using: &random)).map { _ in
                    let id = "e\(Int.random(in: 0..<600, using: &random))"
                    let lateness = Duration.seconds(Int.random(in: 0..<90_000, using: &random))
                    // What a click says follows from its id, so that a repeat is one in everything.
                    var made = click(
                        id, on: "l\(id.utf8.reduce(0) { $0 &+ Int($1) } % 11)", isBot: id.hasSuffix("3"),
                        at: .start - lateness)
                    made.identity = identity(id)
                    return made
                }
                if Int.random(in: 0..<4, using: &random) == 0 { clicks[clicks.count - 1].identity = [] }
                calls.append(clicks)
            }
            let receivedAt = Timestamp.start + .seconds(Int.random(in: 0..<400_000, using: &random))
            await withTaskGroup(of: ([IdentifiedClick], [Bool]?).self) { group in
                for clicks in calls {
                    group.addTask {
                        (clicks, try? await store.append(clicks, workspace: .acme, receivedAt: receivedAt))
                    }
                }
                for await (clicks, areNew) in group {
                    #expect((areNew == nil) == clicks.contains { $0.identity.isEmpty }, "seed \(seed)")
                    for (identified, isNew) in zip(clicks, areNew ?? []) where isNew {
                        #expect(seen.insert(identified.click.id).inserted, "seed \(seed)")
                        expected[identified.click.link, default: ClickTotals()].all += 1
                        if !identified.click.isBot { expected[identified.click.link]?.people += 1 }
                    }
                }
            }
        }
        #expect(try await store.auditTotals() == [])
        for (link, totals) in expected {
            #expect(try await store.link(link, workspace: .acme)?.totals == totals, "seed \(seed), \(link)")
        }
        let result = try await store.enforceRetention(
            clicksBefore: .start + .seconds(86_400 * 2), dedupeBefore: .start - .seconds(86_400),
            deliveriesBefore: .start)
        #expect(result.daysDropped >= 1)
        #expect(try await store.auditTotals() == [], "days that went are carried")
        let all = try await store.links(workspace: .acme, folder: nil, cursor: nil, limit: 100).items
        #expect(all.reduce(0) { $0 + $1.totals.all } == Int64(seen.count))
        await store.close()
    }

    @Test("a recount notices a total that was tampered with")
    func recountNotices() async throws {
        let directory = try TemporaryDirectory()
        var store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        try await store.click("a", times: 5, tag: "x")
        await store.close()
        try sqlite(directory.database, "UPDATE link_totals SET clicks = clicks + 1")
        store = try directory.open()
        let mismatch = try await store.auditTotals()
        #expect(mismatch.map(\.stored.all) == [6])
        #expect(mismatch.map(\.recounted.all) == [5])
        await store.close()
    }

    @Test("an id counts once in a call, over calls and after a restart, until its day is pruned (invariant 2, ING-14)")
    func idCountsOnce() async throws {
        let directory = try TemporaryDirectory()
        var store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        let one = click("e1", on: "a")
        #expect(try await store.append([one, one], workspace: .acme, receivedAt: .start) == [true, false])
        await store.close()
        store = try directory.open()
        let nextDay = Timestamp.start + .seconds(86_400)
        #expect(try await store.append([one], workspace: .acme, receivedAt: nextDay) == [false])
        let result = try await store.enforceRetention(
            clicksBefore: nextDay, dedupeBefore: nextDay, deliveriesBefore: .start)
        #expect(result == RetentionResult(daysDropped: 1, identitiesDropped: 1))
        #expect(try await store.append([one], workspace: .acme, receivedAt: nextDay) == [true])
        #expect(try await store.link(LinkID("a"), workspace: .acme)?.totals.all == 2)
        #expect(try await store.auditTotals() == [])
        await store.close()
    }

    @Test("days of receipt are stored apart: one goes at once, the others and the totals stay (ING-08, decisions 24)")
    func daysApart() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        let day = Duration.seconds(86_400)
        for (number, count) in [3, 5, 7].enumerated() {
            _ = try await store.append(
                (0..<count).map { click("d\(number)-\($0)", on: "a") }, workspace: .acme,
                receivedAt: .start + day * number)
        }
        let result = try await store.enforceRetention(
            clicksBefore: .start + day, dedupeBefore: .start - day, deliveriesBefore: .start)
        #expect(result.daysDropped == 1)
        #expect(try await store.link(LinkID("a"), workspace: .acme)?.totals.all == 15, "totals are for ever")
        #expect(try await store.auditTotals() == [])
        await store.close()
        let tables = "SELECT group_concat(n) FROM (SELECT count(*) AS n FROM click_days)"
        #expect(try sqliteValue(directory.database, tables) == "2")
    }

    @Test("a credential is stored sealed, in a table of its own, beside the wrapped data key (SEC-04, SEC-02)")
    func credentialColumns() async throws {
        let directory = try TemporaryDirectory()
        await (try directory.open()).close()
        func columns(_ table: String) throws -> Set<Substring> {
            let names = try sqliteValue(
                directory.database, "SELECT group_concat(name) FROM pragma_table_info('\(table)')")
            return Set((names ?? "").split(separator: ","))
        }
        let sealed = try columns("integration_credentials")
        #expect(sealed.isSuperset(of: ["ciphertext", "nonce", "tag", "key_id", "version", "workspace"]))
        // Nowhere to put one in clear.
        #expect(sealed.isDisjoint(with: ["secret", "token", "value", "plaintext"]))
        #expect(try columns("data_keys") == ["id", "kek_id", "workspace", "wrapped"])
    }

    @Test("a page of changed links never ends between two links of one transaction (invariant 10)")
    func changedLinksPages() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        _ = try await store.append(
            (0..<5).map { click("x\($0)", on: "l\($0)") }, workspace: .acme, receivedAt: .start)
        _ = try await store.append([click("y", on: "m")], workspace: .acme, receivedAt: .start)
        var cursor: Int64 = 0
        var names: [String] = []
        for _ in 0..<10 {
            let page = try await store.changedLinks(workspace: .acme, after: cursor, limit: 2)
            #expect(page.through > cursor)
            cursor = page.through
            names += page.links.map(\.id.rawValue)
            if !page.hasMore { break }
        }
        #expect(names == ["l0", "l1", "l2", "l3", "l4", "m"])
        #expect(try await store.currentSequence() == cursor)
        #expect(try await store.changedLinks(workspace: .acme, after: cursor, limit: 2).links == [])
        var change = LinkChange()
        change.title = "Title"
        _ = try await store.changeLink(LinkID("l3"), workspace: .acme, change: change, at: .start)
        #expect(
            try await store.changedLinks(workspace: .acme, after: cursor, limit: 2).links.map(\.title) == ["Title"])
        await store.close()
    }

    @Test("the campaign that most clicks carried is counted for all and for people (decisions 12)")
    func mostFrequentCampaign() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        let (mail, post) = (UTM(source: "mail", campaign: "may"), UTM(source: "post"))
        _ = try await store.append(
            [
                click("1", on: "a", isBot: true, utm: post), click("2", on: "a", isBot: true, utm: post),
                click("3", on: "a", utm: mail), click("4", on: "b", utm: mail), click("5", on: "b"),
            ], workspace: .acme, receivedAt: .start)
        let scope = Scope(kind: .link, id: "a")
        #expect(try await store.mostFrequentUTM(workspace: .acme, scope: scope, audience: .all) == post)
        #expect(try await store.mostFrequentUTM(workspace: .acme, scope: scope, audience: .people) == mail)
        #expect(
            try await store.mostFrequentUTM(workspace: .acme, scope: Scope(kind: .link, id: "z"), audience: .all) == nil
        )
        await store.close()
    }

    @Test("an unknown workspace is refused and leaves nothing (decisions 35)")
    func unknownWorkspace() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        let error = await #expect(throws: StoreError.self) {
            try await store.append([click("1", on: "a")], workspace: .acme, receivedAt: .start)
        }
        #expect(error?.code == .notFound)
        #expect(try await store.currentSequence() == 0)
        await store.close()
    }

    @Test("a contact's clicks, forms and payloads can be exported and erased; totals stay (PRV-01, PRV-02)")
    func contactIsErased() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        let ada = "ada@example.org"
        try await store.prepareDeliveries(1)
        for day in 0..<3 {
            _ = try await store.append(
                [click("c\(day)", on: "a", contact: ada), click("d\(day)", on: "a", contact: "bob")], workspace: .acme,
                receivedAt: .start + .seconds(86_400 * day))
        }
        let form = FormSubmission(id: EventID("f"), time: .start, email: ada)
        #expect(try await store.appendForms([form, form], workspace: .acme, receivedAt: .start) == [true, false])
        #expect(try await store.forms(workspace: .acme, contact: ada, limit: 5) == [form])
        let first = try await store.clicks(workspace: .acme, contact: ada, cursor: nil, limit: 2)
        let second = try await store.clicks(workspace: .acme, contact: ada, cursor: first.next, limit: 2)
        #expect((first.items + second.items).map(\.id.rawValue) == ["c0", "c1", "c2"])

        let result = try await store.eraseContact(workspace: .acme, contact: ada)
        #expect(result == ErasureResult(clicks: 3, deliveries: 1, forms: 1))
        #expect(try await store.clicks(workspace: .acme, contact: ada, cursor: nil, limit: 9).items == [])
        #expect(try await store.delivery("dlv_0", workspace: .acme)?.payload["contact"] == "[erased]")
        #expect(try await store.link(LinkID("a"), workspace: .acme)?.totals.all == 6)
        #expect(try await store.auditTotals() == [])
        await store.close()
        let bytes = try Data(contentsOf: URL(fileURLWithPath: directory.database))
        #expect(bytes.range(of: Data(ada.utf8)) == nil, "no copy is left in the file")
    }

    @Test(
        "PRV-02: an address is erased however it was written, and by the id that a form gives it",
        arguments: [true, false])
    func addressIsErased(byID: Bool) async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        try await store.prepareDeliveries(1)
        let written = ["ada@example.org", "Ada@Example.org"].enumerated().map { number, address in
            FormSubmission(id: EventID("f\(number)"), time: .start, contactID: "c-1", email: address)
        }
        _ = try await store.appendForms(written, workspace: .acme, receivedAt: .start)
        let result = try await store.eraseContact(workspace: .acme, contact: byID ? "c-1" : "ada@example.org")
        #expect(result == ErasureResult(clicks: 0, deliveries: 1, forms: 2))
        await store.close()
        let bytes = try Data(contentsOf: URL(fileURLWithPath: directory.database))
        for form in written {
            #expect(bytes.range(of: Data((form.email ?? "").utf8)) == nil, "no copy is left in the file")
        }
    }

    @Test("erasing leaves no copy in pages that retention freed, in plugins' values nor in the audit log (PRV-02)")
    func erasureReachesFreePages() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        let ada = "ada@example.org"
        try await store.prepareDeliveries(0)
        let clicks = (0..<2000).map { number in
            var one = click("c\(number)", on: "a", contact: ada)
            one.identity = identity("c\(number)")
            return one
        }
        _ = try await store.append(clicks, workspace: .acme, receivedAt: .start)
        _ = try await store.setPluginValue(
            connection: "con_1", key: "person/\(ada)", value: Array("7".utf8), expecting: 0, expiresAt: nil, at: .start)
        _ = try await store.setPluginValue(
            connection: "con_1", key: "last", value: Array(#"{"at":1,"who":"\#(ada)"}"#.utf8), expecting: 0,
            expiresAt: nil, at: .start)
        try await store.audit(
            AuditEntry(
                at: .start, actor: "ops", action: "contacts.export",
                target: "/v1/workspaces/acme/contacts/ada%40example.org/export"))
        let later = Timestamp.start + .seconds(86_400)
        _ = try await store.enforceRetention(clicksBefore: later, dedupeBefore: .start, deliveriesBefore: .start)
        _ = try await store.quickCheck()  // also: the log is not cut by chance alone

        _ = try await store.eraseContact(workspace: .acme, contact: ada)
        #expect(try await store.pluginKeys(connection: "con_1", prefix: "", at: .start) == ["last"])
        let kept = try await store.pluginValue(connection: "con_1", key: "last", at: .start)
        #expect(kept?.value == Array(#"{"at":1,"who":"[erased]"}"#.utf8))
        #expect(kept?.version == 2, "who read it before cannot overwrite it")
        for name in ["milepost.db", "milepost.db-wal"] {
            let bytes = try Data(contentsOf: URL(fileURLWithPath: directory.path + "/" + name))
            for text in [ada, "ada%40example.org"] {
                #expect(bytes.range(of: Data(text.utf8)) == nil, "\(text) in \(name)")
            }
        }
        #expect(try await store.auditTotals() == [])
        #expect(try await store.quickCheck() == [])
        await store.close()
    }

    @Test("forms go with the clicks of their day; a plugin's expired values too")
    func formsAreRetained() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        try await store.prepareDeliveries(0)
        for day in 0..<3 {
            let form = FormSubmission(id: EventID("f\(day)"), time: .start, contactID: "ada")
            _ = try await store.appendForms(
                [form], workspace: .acme, receivedAt: .start + .seconds(86_400 * day))
        }
        _ = try await store.setPluginValue(
            connection: "con_1", key: "k", value: [1], expecting: 0, expiresAt: .start - .seconds(86_400), at: .start)
        let result = try await store.enforceRetention(
            clicksBefore: .start + .seconds(86_400 * 2), dedupeBefore: .start, deliveriesBefore: .start)
        #expect(result.formsDropped == 2)
        #expect(try await store.forms(workspace: .acme, contact: "ada", limit: 5).map(\.id.rawValue) == ["f2"])
        await store.close()
        #expect(try sqliteValue(directory.database, "SELECT count(*) FROM plugin_kv") == "0")
    }
}
