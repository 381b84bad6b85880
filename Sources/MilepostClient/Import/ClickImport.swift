// SPDX-License-Identifier: Apache-2.0

import MilepostIntake
import MilepostModel

/// Sends a file of clicks to the daemon in batches.
///
/// A batch may be sent again after a lost connection, and a file may be imported again: ids come from the lines, so
/// that what arrived before is a duplicate. Memory holds one batch and the hashes that tell equal lines apart.
public struct ClickImport {
    public enum Format: String, Sendable, CaseIterable { case milepost, bitly, dub, shlink }

    public struct Options: Sendable {
        /// `-` for standard input, which cannot be resumed.
        public var path: String
        public var format: Format
        public var workspace: String
        /// Clicks of one request.
        public var batch = 5000
        /// Reads and judges every line, and sends nothing.
        public var isDryRun = false
        public var environment: [String: String] = [:]
        /// Names the daemon in the resume state, so that another daemon gets the file from its beginning.
        public var destination = ""
        /// Tells the daemon what the lines say about their links (destination, slug), where it knows nothing yet.
        public var sendsFacts = true
        /// Sends of one batch while the daemon does not answer.
        public var attempts = 8

        public init(path: String, format: Format, workspace: String) {
            self.path = path
            self.format = format
            self.workspace = workspace
        }
    }

    public struct Progress: Sendable {
        public var summary: ImportSummary
        public var bytesRead: Int
        /// Nil for standard input.
        public var bytesTotal: Int?
    }

    /// Bytes of one request, below the daemon's default of 32 MiB.
    static let maximumBody = 8 << 20

    private let options: Options
    private let transport: any ClientTransport
    private let pause: (Duration) -> Void
    private let progress: (Progress) -> Void
    private let rejected: (ImportSummary.RejectedLine) -> Void
    private let waiting: (ClientError, Duration) -> Void
    private var isWaitTold = false
    private var summary = ImportSummary()
    private var facts = LinkFactsQueue()
    private var body: [UInt8] = []
    /// The file's line of each line in `body`.
    private var lines: [Int] = []

    /// - Parameters:
    ///   - pause: waits before a batch is sent again.
    ///   - progress: called after each batch.
    ///   - rejected: called for every line that is refused, here or by the daemon.
    ///   - waiting: called once, when a batch is not taken for the first time: with why, and how long it is tried at most.
    public init(
        options: Options, transport: any ClientTransport, pause: @escaping (Duration) -> Void,
        progress: @escaping (Progress) -> Void = { _ in },
        rejected: @escaping (ImportSummary.RejectedLine) -> Void = { _ in },
        waiting: @escaping (ClientError, Duration) -> Void = { _, _ in }
    ) {
        precondition(options.batch > 0 && options.attempts > 0, "batch and attempts must be positive")
        self.options = options
        self.transport = transport
        self.pause = pause
        self.progress = progress
        self.rejected = rejected
        self.waiting = waiting
    }

    /// Imports the file from where an earlier run stopped.
    ///
    /// - Throws: when the file cannot be read, or when the daemon refuses or stays away; what was acknowledged until then
    ///   is remembered, and the same command goes on from there.
    public mutating func run() throws(ClientError) -> ImportSummary {
        let source = try LineSource(path: options.path)
        let start = try source.peek(64 << 10)
        guard !start.starts(with: [0x1f, 0x8b]) else {
            throw ClientError(
                code: "bad_file", detail: "\(options.path) is compressed",
                advice: "run: gzip -dc \(options.path) | milepost import clicks - --format \(options.format.rawValue)")
        }
        let state = Self.resumeState(options, size: source.size, start: Array(start))
        if let earlier = Self.earlier(state, size: source.size) { summary = earlier }
        return try read(source, state: state)
    }

    /// Whether a run with these options goes on where an earlier one was cut short. Never for standard input, which is not
    /// touched.
    ///
    /// - Throws: when the file cannot be read.
    public static func resumes(_ options: Options) throws(ClientError) -> Bool {
        guard options.path != "-" else { return false }
        let source = try LineSource(path: options.path)
        let state = resumeState(options, size: source.size, start: Array(try source.peek(64 << 10)))
        return earlier(state, size: source.size) != nil
    }

    private static func earlier(_ state: ImportState?, size: Int?) -> ImportSummary? {
        guard let earlier = state?.load(), earlier.offset <= size ?? 0 else { return nil }
        return earlier
    }

    private mutating func read(_ source: LineSource, state: ImportState?) throws(ClientError) -> ImportSummary {
        guard var reader = ImportFormat(rawValue: options.format.rawValue).map({ ImportReader(format: $0) }) else {
            throw ClientError(code: "bad_input", detail: "format \(options.format.rawValue) is not known")
        }
        // Lines that were acknowledged are read again, because the ids of equal lines depend on those before them.
        let acknowledged = summary.offset
        let expected = summary.prefixHash
        summary.prefixHash = ImportState.emptyHash
        var isSameFile = acknowledged == 0
        var line = 0
        while let bytes = try source.next() {
            line += 1
            let result = reader.next(line: bytes)
            ImportState.extend(&summary.prefixHash, with: bytes)
            if source.offset < acknowledged { continue }
            if source.offset == acknowledged, summary.prefixHash == expected {
                isSameFile = true
                continue
            }
            guard isSameFile else {
                // The file was changed since, be it that no line ends there any more: clicks before it were never sent.
                summary = ImportSummary()
                return try read(LineSource(path: options.path), state: state)
            }
            take(result, line: line)
            if options.sendsFacts, let known = reader.linkFacts { facts.add(known) }
            if facts.isFull { try describeLinks() }
            if lines.count >= options.batch || body.count >= Self.maximumBody {
                try flush(offset: source.offset, line: line, state: state)
                progress(Progress(summary: summary, bytesRead: source.offset, bytesTotal: source.size))
            }
        }
        try flush(offset: source.offset, line: line, state: state)
        progress(Progress(summary: summary, bytesRead: source.offset, bytesTotal: source.size))
        state?.remove()
        return summary
    }

    private static func resumeState(_ options: Options, size: Int?, start: [UInt8]) -> ImportState? {
        guard let size, !options.isDryRun else { return nil }
        let names = "\(size) \(options.format.rawValue) \(options.destination) \(options.workspace) "
        return ImportState(environment: options.environment, identity: Array(names.utf8) + start)
    }

    private mutating func take(_ result: ImportedLine, line: Int) {
        switch result {
        case .click(let json):
            summary.clicks += 1
            body += json
            body.append(0x0a)
            lines.append(line)
        case .notAClick:
            summary.nonClicks += 1
        case .rejected(let code, let message):
            reject(ImportSummary.RejectedLine(line: line, code: code, message: message))
        }
    }

    private mutating func reject(_ line: ImportSummary.RejectedLine) {
        summary.reject(line)
        rejected(line)
    }

    private mutating func flush(offset: Int, line: Int, state: ImportState?) throws(ClientError) {
        // Facts first: a tick in between must find the destination's campaign.
        try describeLinks()
        if !lines.isEmpty, !options.isDryRun { try count(send(events)) }
        lines.removeAll(keepingCapacity: true)
        body.removeAll(keepingCapacity: true)
        summary.offset = offset
        summary.lines = line
        state?.save(summary)
    }

    /// The batch.
    private var events: ClientRequest {
        ClientRequest(
            "POST", ClientRequest.path("v1", "workspaces", options.workspace, "events"),
            contentType: "application/x-ndjson", body: body)
    }

    private static func pauseAfter(_ attempt: Int) -> Duration { .milliseconds(250 << min(attempt, 6)) }

    private mutating func describeLinks() throws(ClientError) {
        let links = facts.take()
        guard !links.isEmpty, !options.isDryRun, summary.factsRefused == nil else { return }
        let body: JSONValue = ["links": .array(links), "only_missing": true]
        let request = ClientRequest(
            "POST", ClientRequest.path("v1", "workspaces", options.workspace, "links"), body: body.bytes)
        do {
            let answer = try send(request)
            summary.linksDescribed += Int(answer["changed"]?.integer ?? 0)
        } catch {
            // Clicks matter more than what links are called: a token for intake alone may still bring them.
            guard ["forbidden", "not_found", "method_not_allowed"].contains(error.code) else { throw error }
            summary.factsRefused = error.detail
        }
    }

    /// Sends a request until it is answered. Only silence and "come back later" are tried again.
    private mutating func send(_ request: ClientRequest) throws(ClientError) -> JSONValue {
        var attempt = 1
        while true {
            do {
                return try transport.json(request)
            } catch {
                let passes = ["unreachable", "rate_limited", "standby", "starting"].contains(error.code)
                guard passes, attempt < options.attempts else { throw error }
                if !isWaitTold {
                    isWaitTold = true
                    waiting(error, (attempt..<options.attempts).map(Self.pauseAfter).reduce(.zero, +))
                }
                pause(Self.pauseAfter(attempt))
                attempt += 1
            }
        }
    }

    private mutating func count(_ answer: JSONValue) throws(ClientError) {
        guard let accepted = answer["accepted"]?.integer, let duplicate = answer["duplicate"]?.integer,
            let refused = answer["rejected"]?.integer
        else {
            throw ClientError(
                code: "bad_answer", detail: "the daemon's answer has no counts: \(answer.cell.prefix(200))")
        }
        summary.accepted += Int(accepted)
        summary.duplicate += Int(duplicate)
        summary.clicks -= Int(refused)
        let described = answer["rejections"]?.array ?? []
        for rejection in described {
            let position = Int(rejection["line"]?.integer ?? 0)
            reject(
                ImportSummary.RejectedLine(
                    line: lines.indices.contains(position - 1) ? lines[position - 1] : 0,
                    code: rejection["code"]?.string ?? "rejected", message: rejection["message"]?.string ?? ""))
        }
        summary.rejected += max(0, Int(refused) - described.count)
    }
}
