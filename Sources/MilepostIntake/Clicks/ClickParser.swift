// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Turns a request body into clicks. Pure: the time comes in, nothing is stored, one line's fault leaves the others alone.
///
/// About 2 µs an event; call it off the event loop for large bodies.
public struct ClickParser: Sendable {
    public enum Kind: Sendable {
        /// One object, or an array of objects.
        case json
        /// One object a line; blank lines are skipped, and counted in line numbers.
        case ndjson
        /// By what the body looks like.
        case auto
    }

    private let limits: IntakeLimits
    private let bots: BotFilter
    private let contactParameter: String
    private let futureTolerance: Duration

    /// - Parameters:
    ///   - bots: decides for events whose shortener has no verdict of its own (EXC-06, decisions 35).
    ///   - contactParameter: the query parameter of `request_url` that holds the contact's id (ING-11).
    ///   - futureTolerance: how far a click may be ahead of the daemon's clock (decisions 14).
    public init(
        limits: IntakeLimits = IntakeLimits(), bots: BotFilter = .standard, contactParameter: String = "eid",
        futureTolerance: Duration = .seconds(300)
    ) {
        self.limits = limits
        self.bots = bots
        self.contactParameter = contactParameter
        self.futureTolerance = futureTolerance
    }

    public func parse(body: [UInt8], kind: Kind, workspace: WorkspaceID, now: Timestamp) -> IntakeBatch {
        var run = ParserRun(
            limits: limits, bots: bots, contactParameter: contactParameter, futureTolerance: futureTolerance,
            workspace: workspace, now: now)
        run.parse(body, kind)
        return run.batch
    }
}

/// What a body held.
public struct IntakeBatch: Sendable, Equatable {
    /// In the order of the body. Two of them may have one identity: the store counts it once.
    public var clicks: [IdentifiedLine] = []
    /// The first rejections, at most `IntakeLimits.describedRejections`.
    public var rejections: [Rejection] = []
    /// All of them.
    public var rejectedCount = 0

    public init() {}
}

/// A click and where it stood.
public struct IdentifiedLine: Sendable, Equatable {
    /// 1-based, as `Rejection.line`.
    public var line: Int
    public var click: Click
    /// The first 16 bytes of SHA-256 of workspace, NUL, event id: what "counts once" is decided by (invariant 2).
    public var identity: [UInt8]

    public init(line: Int, click: Click, identity: [UInt8]) {
        self.line = line
        self.click = click
        self.identity = identity
    }
}

/// The state of one `parse`.
struct ParserRun: ~Copyable {
    private let limits: IntakeLimits
    private let bots: BotFilter
    private let contactParameter: String
    private let latest: Timestamp
    private let futureTolerance: Duration
    private let workspace: [UInt8]
    private let digest = ClickDigest()
    private let reader = EventReader()
    private var tape: JSONTape
    private var buffer: [UInt8] = []
    private(set) var batch = IntakeBatch()

    init(
        limits: IntakeLimits, bots: BotFilter, contactParameter: String, futureTolerance: Duration,
        workspace: WorkspaceID, now: Timestamp
    ) {
        self.limits = limits
        self.bots = bots
        self.contactParameter = contactParameter
        self.futureTolerance = futureTolerance
        self.workspace = Array(workspace.rawValue.utf8) + [0]
        latest = now + futureTolerance
        tape = JSONTape(limits: limits.scan)
        buffer.reserveCapacity(1024)
    }

    mutating func parse(_ body: [UInt8], _ kind: ClickParser.Kind) {
        let all = body.span
        // A byte order mark is no data; files written on Windows begin with one.
        let hasMark = all.count >= 3 && all[0] == 0xef && all[1] == 0xbb && all[2] == 0xbf
        let bytes = hasMark ? all.extracting(3..<all.count) : all
        let start = BodyScan.skipSpace(bytes, from: 0)
        switch kind {
        case .ndjson: lines(bytes)
        case .json where start == bytes.count:
            reject(1, LineFault(code: "empty_body", message: "the body is empty; send an object, an array or NDJSON"))
        case .auto where start == bytes.count: break
        case .json, .auto:
            if bytes[start] == 0x5b {
                array(bytes, from: start + 1)
            } else if kind == .json || BodyScan.isOneValue(bytes, &tape, limits) {
                line(bytes, number: 1)
            } else {
                lines(bytes)
            }
        }
    }

    private mutating func lines(_ bytes: Span<UInt8>) {
        var start = 0
        var number = 0
        while start < bytes.count {
            number += 1
            let end = BodyScan.lineEnd(bytes, from: start)
            line(bytes.extracting(start..<end), number: number)
            start = end + 1
        }
    }

    private mutating func line(_ bytes: Span<UInt8>, number: Int) {
        let start = BodyScan.skipSpace(bytes, from: 0)
        guard start < bytes.count else { return }
        guard bytes.count <= limits.lineBytes else { return reject(number, .lineTooLong(limits.lineBytes)) }
        do throws(JSONFault) {
            try tape.scanText(bytes)
        } catch {
            return reject(number, LineFault(error))
        }
        take(bytes, number)
    }

    /// An element whose fault is one of size only is skipped. After any other, nobody knows where the next one begins, so
    /// the rest is refused with it; what came before is kept.
    private mutating func array(_ bytes: Span<UInt8>, from first: Int) {
        var number = 0
        var position = BodyScan.skipSpace(bytes, from: first)
        if position < bytes.count, bytes[position] == 0x5d { return arrayEnd(bytes, after: position, number) }
        while true {
            number += 1
            let window = bytes.extracting(position..<min(bytes.count, position + limits.lineBytes))
            do throws(JSONFault) {
                position += try tape.scanValue(window)
                take(window, number)
            } catch {
                // An element that passes the limit breaks off at the window's end, perhaps inside an escape or a word.
                let isCut = position + window.count < bytes.count && error.offset + Self.longestToken >= window.count
                reject(number, isCut ? .lineTooLong(limits.lineBytes) : LineFault(error))
                guard isCut || error.isOfSizeOnly, let end = BodyScan.valueEnd(bytes, from: position) else {
                    return restRefused(after: number)
                }
                position = end
            }
            position = BodyScan.skipSpace(bytes, from: position)
            guard position < bytes.count, bytes[position] == 0x2c else { break }
            position = BodyScan.skipSpace(bytes, from: position + 1)
        }
        guard position < bytes.count, bytes[position] == 0x5d else {
            let fault = LineFault(
                code: "invalid_json", message: "the array has no end or no comma after element \(number)")
            reject(number + 1, fault)
            return
        }
        arrayEnd(bytes, after: position, number)
    }

    /// `\\ud83d\\ude00` is twelve bytes, and no other token that breaks off is reported from further back.
    private static let longestToken = 12

    private mutating func arrayEnd(_ bytes: Span<UInt8>, after position: Int, _ number: Int) {
        guard BodyScan.skipSpace(bytes, from: position + 1) < bytes.count else { return }
        reject(number + 1, LineFault(code: "trailing_data", message: "something follows the end of the array"))
    }

    private mutating func restRefused(after number: Int) {
        guard let last = batch.rejections.indices.last, batch.rejections[last].line == number else { return }
        batch.rejections[last].message += "; the rest of the array was not read"
    }

    private mutating func take(_ bytes: Span<UInt8>, _ number: Int) {
        do throws(LineFault) {
            let event = try reader.read(tape, bytes)
            guard event.time <= latest else {
                throw LineFault(
                    code: "ts_in_future",
                    message:
                        "ts: \(event.time) is more than \(futureTolerance.wholeMilliseconds / 1000) s ahead of our clock"
                )
            }
            let id = event.id ?? event.derivedID(digest: digest, buffer: &buffer)
            let click = event.click(id: id, bots: bots, contactParameter: contactParameter)
            batch.clicks.append(IdentifiedLine(line: number, click: click, identity: identity(of: id)))
        } catch {
            reject(number, error)
        }
    }

    private mutating func identity(of id: String) -> [UInt8] {
        buffer.removeAll(keepingCapacity: true)
        buffer.append(contentsOf: workspace)
        buffer.append(contentsOf: id.utf8)
        return digest.shortHash(buffer.span)
    }

    private mutating func reject(_ line: Int, _ fault: LineFault) {
        batch.rejectedCount += 1
        guard batch.rejections.count < limits.describedRejections else { return }
        batch.rejections.append(Rejection(line: line, code: fault.code, message: fault.message))
    }
}
