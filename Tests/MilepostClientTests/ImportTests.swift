// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostClient
import MilepostModel
import Testing

/// A daemon in memory: counts every id once, and goes away when told to.
final class FakeDaemon: ClientTransport {
    var ids: Set<String> = []
    var requests = 0
    /// Requests that are lost on the way back: the clicks count, the answer does not arrive.
    var lostAnswers: Set<Int> = []
    /// From this request on nobody answers.
    var diesAt = Int.max

    func send(_ request: ClientRequest) throws(ClientError) -> ClientResponse {
        requests += 1
        guard requests < diesAt else { throw ClientError(code: "unreachable", detail: "gone") }
        var accepted: Int64 = 0
        var duplicate: Int64 = 0
        for line in (request.body ?? []).split(separator: 0x0a) {
            let id = (try? JSONValue(parsing: Array(line)))?["id"]?.string ?? "none"
            if ids.insert(id).inserted { accepted += 1 } else { duplicate += 1 }
        }
        if lostAnswers.contains(requests) { throw ClientError(code: "unreachable", detail: "lost") }
        let answer: JSONValue = [
            "accepted": .integer(accepted), "duplicate": .integer(duplicate), "rejected": 0, "rejections": [],
        ]
        return ClientResponse(status: 200, body: answer.bytes)
    }
}

@Suite("import")
struct ImportTests {
    /// Forty clicks of which four are equal, a heartbeat, and a line that is no JSON.
    static let lines =
        (0..<36).map { "{\"link\":\"l1\",\"ts\":\(1_760_000_000 + $0)}" }
        + Array(repeating: "{\"link\":\"l1\",\"ts\":1760000100}", count: 4) + ["not json", ""]

    private func withFile(_ body: (String, [String: String]) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.path + "/milepost-import-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        // Best effort: a folder left behind in the temporary directory harms nobody.
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try Data((Self.lines.joined(separator: "\n") + "\n").utf8).write(to: URL(filePath: folder + "/clicks.ndjson"))
        try body(folder + "/clicks.ndjson", ["XDG_STATE_HOME": folder + "/state"])
    }

    private func options(_ path: String, _ environment: [String: String]) -> ClickImport.Options {
        var options = ClickImport.Options(path: path, format: .milepost, workspace: "default")
        options.batch = 7
        options.attempts = 3
        options.environment = environment
        return options
    }

    @Test("equal lines are clicks of their own, and a second import of the file counts nothing")
    func twice() throws {
        try withFile { path, environment in
            let daemon = FakeDaemon()
            var first = ClickImport(options: options(path, environment), transport: daemon, pause: { _ in })
            let summary = try first.run()
            #expect(summary.clicks == 40)
            #expect(summary.accepted == 40)
            #expect(summary.nonClicks == 1)
            #expect(summary.rejected == 1)
            #expect(summary.rejections.map(\.line) == [41])
            var second = ClickImport(options: options(path, environment), transport: daemon, pause: { _ in })
            let again = try second.run()
            #expect(again.accepted == 0)
            #expect(again.duplicate == 40)
            #expect(daemon.ids.count == 40)
        }
    }

    @Test("a batch whose answer was lost is sent again and counts once")
    func lostAnswer() throws {
        try withFile { path, environment in
            let daemon = FakeDaemon()
            daemon.lostAnswers = [2, 3]
            var pauses = 0
            var waits: [Duration] = []
            var run = ClickImport(
                options: options(path, environment), transport: daemon, pause: { _ in pauses += 1 },
                waiting: { waits.append($1) })
            let summary = try run.run()
            #expect(daemon.ids.count == 40)
            #expect(summary.accepted + summary.duplicate == 40)
            #expect(pauses == 2)
            #expect(waits == [.milliseconds(1500)], "once, with all that may still be waited")
        }
    }

    @Test("after the daemon went away the same command goes on where it stopped", arguments: 1...6)
    func resume(diesAt: Int) throws {
        try withFile { path, environment in
            let daemon = FakeDaemon()
            daemon.diesAt = diesAt
            var first = ClickImport(options: options(path, environment), transport: daemon, pause: { _ in })
            let error = #expect(throws: ClientError.self) { try first.run() }
            #expect(error?.exitStatus == .unreachable)
            let before = daemon.ids.count
            #expect(before == (diesAt - 1) * 7)
            daemon.diesAt = .max
            daemon.requests = 0
            var second = ClickImport(options: options(path, environment), transport: daemon, pause: { _ in })
            let summary = try second.run()
            #expect(daemon.ids.count == 40)
            #expect(daemon.requests == 6 - (diesAt - 1), "what was acknowledged is not sent again")
            #expect(summary.accepted == 40, "totals cover the whole file")
            #expect(summary.duplicate == 0)
        }
    }

    @Test("an import that goes on keeps the rejected lines that it wrote before")
    func resumedRejects() throws {
        try withFile { path, environment in
            let rejects = path + ".rejects"
            // The bad line comes first, and with the first batch.
            let lines = [Self.lines[40]] + Self.lines[..<40]
            try Data((lines.joined(separator: "\n") + "\n").utf8).write(to: URL(filePath: path))
            let daemon = FakeDaemon()
            daemon.diesAt = 3
            for isSecond in [false, true] {
                let chosen = options(path, environment)
                #expect(try ClickImport.resumes(chosen) == isSecond)
                let file = try RejectFile(path: rejects, isResumed: isSecond)
                var run = ClickImport(
                    options: chosen, transport: daemon, pause: { _ in }, rejected: { file.append($0) })
                if isSecond { _ = try run.run() } else { #expect(throws: ClientError.self) { try run.run() } }
                try file.finish()
                daemon.diesAt = .max
            }
            let written = try String(contentsOfFile: rejects, encoding: .utf8).split(separator: "\n")
            #expect(written.count == 1 && written.first?.contains("\"line\":1") == true)
            #expect(try !ClickImport.resumes(options(path, environment)))
        }
    }

    @Test("a file that changed in its acknowledged part is sent again from its beginning")
    func changedFile() throws {
        try withFile { path, environment in
            // The state's name goes by size and beginning, so the change lies behind the first 64 KiB and keeps the size.
            let padding = String(repeating: " ", count: 70_000) + "\n"
            var text = padding + Self.lines.joined(separator: "\n") + "\n"
            try Data(text.utf8).write(to: URL(filePath: path))
            let daemon = FakeDaemon()
            daemon.diesAt = 3
            var first = ClickImport(options: options(path, environment), transport: daemon, pause: { _ in })
            #expect(throws: ClientError.self) { try first.run() }
            text = text.replacing("1760000000", with: "1760000999")
            try Data(text.utf8).write(to: URL(filePath: path))
            daemon.diesAt = .max
            var second = ClickImport(options: options(path, environment), transport: daemon, pause: { _ in })
            let summary = try second.run()
            #expect(daemon.ids.count == 41, "the changed line is a click of its own")
            #expect(summary.accepted + summary.duplicate == 40)
        }
    }

    @Test("a file whose lines end elsewhere since is sent again from its beginning")
    func movedLines() throws {
        try withFile { path, environment in
            // Size and beginning stay, as above: the first click's line grows by what the last one's loses.
            let padding = String(repeating: " ", count: 70_000)
            let between = Array(Self.lines[1..<36])
            func write(_ first: String, _ last: String) throws {
                let ends = [first, last].enumerated().map { "{\"link\":\"\($1)\",\"ts\":176000020\($0)}" }
                let text = ([padding, ends[0]] + between + [ends[1]]).joined(separator: "\n") + "\n"
                try Data(text.utf8).write(to: URL(filePath: path))
            }
            try write("l1", "l1234")
            let daemon = FakeDaemon()
            daemon.diesAt = 3
            var first = ClickImport(options: options(path, environment), transport: daemon, pause: { _ in })
            #expect(throws: ClientError.self) { try first.run() }
            try write("l1234", "l1")
            daemon.diesAt = .max
            var second = ClickImport(options: options(path, environment), transport: daemon, pause: { _ in })
            let summary = try second.run()
            #expect(summary.accepted + summary.duplicate == 37, "all of the file is sent, and not only what follows")
            #expect(daemon.ids.count == 38)
        }
    }

    @Test("rejected lines that cannot be written are an error, not a shorter file")
    func fullDisk() throws {
        try withFile { path, environment in
            let file = try RejectFile(path: "/dev/full")
            var chosen = options(path, environment)
            chosen.isDryRun = true
            var run = ClickImport(
                options: chosen, transport: FakeDaemon(), pause: { _ in }, rejected: { file.append($0) })
            let summary = try run.run()
            #expect(summary.rejected == 1)
            let error = #expect(throws: ClientError.self) { try file.finish() }
            #expect(error?.code == "bad_file" && error?.detail.contains("/dev/full") == true)
        }
    }

    @Test("a dry run judges every line and sends nothing")
    func dryRun() throws {
        try withFile { path, environment in
            let daemon = FakeDaemon()
            var options = options(path, environment)
            options.isDryRun = true
            var rejected: [Int] = []
            var run = ClickImport(
                options: options, transport: daemon, pause: { _ in }, rejected: { rejected.append($0.line) })
            let summary = try run.run()
            #expect(summary.clicks == 40)
            #expect(daemon.requests == 0)
            #expect(rejected == [41])
        }
    }

    @Test("the summary's JSON has the documented members")
    func json() {
        #expect(
            ImportSummary().json
                == [
                    "clicks": 0, "accepted": 0, "duplicate": 0, "non_clicks": 0, "rejected": 0, "links_described": 0,
                    "rejections": [],
                ])
    }
}

/// A daemon that keeps what it hears of links beside the clicks.
private final class DescribedDaemon: ClientTransport {
    var links: [String: JSONValue] = [:]
    var linkRequests = 0
    var clicks = 0
    var order: [String] = []
    var refusesFacts = false

    func send(_ request: ClientRequest) throws(ClientError) -> ClientResponse {
        let body = request.body ?? []
        guard request.target.hasSuffix("/links") else {
            order.append("clicks")
            let count = body.split(separator: 0x0a).count
            clicks += count
            let answer: JSONValue = [
                "accepted": .integer(Int64(count)), "duplicate": 0, "rejected": 0, "rejections": [],
            ]
            return ClientResponse(status: 200, body: answer.bytes)
        }
        linkRequests += 1
        order.append("links")
        if refusesFacts { throw ClientError(code: "forbidden", detail: "this token may not", status: 403) }
        let items = (try? JSONValue(parsing: body))?["links"]?.array ?? []
        for item in items { links[item["id"]?.string ?? "?"] = item }
        let answer: JSONValue = ["changed": .integer(Int64(items.count)), "unchanged": 0]
        return ClientResponse(status: 200, body: answer.bytes)
    }
}

@Suite("import of link facts")
struct ImportFactsTests {
    private func run(
        _ daemon: DescribedDaemon, sendsFacts: Bool = true, isDryRun: Bool = false
    ) throws -> ImportSummary {
        let path = FileManager.default.temporaryDirectory.path + "/milepost-facts-\(UUID().uuidString).ndjson"
        // Best effort: a file left behind in the temporary directory harms nobody.
        defer { try? FileManager.default.removeItem(atPath: path) }
        let lines = (0..<2500).map {
            #"{"g":"l\#($0 % 1200)","t":\#(1_760_000_000 + $0),"u":"https://example.org/?utm_source=s\#($0)","a":"Firefox"}"#
        }
        try Data((lines.joined(separator: "\n") + "\n").utf8).write(to: URL(filePath: path))
        var options = ClickImport.Options(path: path, format: .bitly, workspace: "default")
        options.sendsFacts = sendsFacts
        options.isDryRun = isDryRun
        var run = ClickImport(options: options, transport: daemon, pause: { _ in })
        return try run.run()
    }

    @Test("each link is described once, before its clicks, as the first line about it says")
    func described() throws {
        let daemon = DescribedDaemon()
        let summary = try run(daemon)
        #expect(summary.linksDescribed == 1200)
        #expect(daemon.links.count == 1200)
        #expect(daemon.links["l7"]?["destination"] == "https://example.org/?utm_source=s7")
        #expect(daemon.linkRequests == 2, "at most 1,000 links a request")
        #expect(daemon.order == ["links", "links", "clicks"])
        #expect(daemon.clicks == 2500)
    }

    @Test("a token for intake alone still brings the clicks, and the summary says what is missing")
    func forbidden() throws {
        let daemon = DescribedDaemon()
        daemon.refusesFacts = true
        let summary = try run(daemon)
        #expect(summary.accepted == 2500)
        #expect(summary.factsRefused == "this token may not")
        #expect(daemon.linkRequests == 1, "not asked again")
    }

    @Test("with --no-facts and in a dry run nothing is said about links")
    func withoutFacts() throws {
        let daemon = DescribedDaemon()
        #expect(try run(daemon, sendsFacts: false).linksDescribed == 0)
        #expect(try run(daemon, isDryRun: true).linksDescribed == 0)
        #expect(daemon.links.isEmpty)
    }
}
