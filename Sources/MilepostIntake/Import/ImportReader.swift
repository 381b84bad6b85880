// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// The file formats `milepost import clicks` understands; each holds one JSON object a line.
public enum ImportFormat: String, Sendable, CaseIterable {
    /// Click events as REST takes them.
    case milepost
    /// bitly's click feed: `g`, `t`, `u`, `r`, `c`, `a`.
    case bitly
    /// Dub's `link.clicked` webhook bodies.
    case dub
    /// Shlink's `new-visit` messages.
    case shlink
}

/// One line of an import file.
public enum ImportedLine: Sendable, Equatable {
    /// A whole REST event, `id` included: sent twice, it counts once.
    case click(json: [UInt8])
    /// Well-formed, but nothing was clicked; the reason is for a person.
    case notAClick(reason: String)
    /// As the codes and messages of `Rejection`.
    case rejected(code: String, message: String)
}

/// What a line says about the link that was clicked, for `PUT …/links/{link}`.
public struct ImportedLinkFacts: Sendable, Equatable {
    public var link: LinkID
    public var slug: String?
    public var shortURL: String?
    public var destination: String?
    public var title: String?
    public var folder: String?
    public var tags: [String] = []

    public init(link: LinkID) { self.link = link }
}

/// Reads a file of clicks line by line.
///
/// Lines without an id get the one that REST would derive; of lines with equal content the second, third and so on are
/// clicks of their own and take their ordinal into the id (decisions 8), so the same file imported again changes nothing.
/// What has been seen is kept as 16-byte hashes, a million to two million of them (about 100 MB at most): of equal lines
/// further apart than that, the later one counts as the earlier, never the other way round.
public struct ImportReader: Sendable {
    /// What the last line that was a click said about its link; nil when it said nothing.
    public private(set) var linkFacts: ImportedLinkFacts?

    private let format: ImportFormat
    private let limits: IntakeLimits
    private var ordinals: OrdinalMemory
    private var tape: JSONTape
    private var buffer: [UInt8] = []
    private var isAtStart = true

    public init(format: ImportFormat, limits: IntakeLimits = IntakeLimits()) {
        self.init(format: format, limits: limits, rememberedLines: OrdinalMemory.standardCapacity)
    }

    package init(format: ImportFormat, limits: IntakeLimits = IntakeLimits(), rememberedLines: Int) {
        self.format = format
        self.limits = limits
        ordinals = OrdinalMemory(capacity: rememberedLines)
        tape = JSONTape(limits: limits.scan)
    }

    /// - Parameter line: without its line feed; a byte order mark before the first line and a carriage return at the end are skipped.
    public mutating func next(line: [UInt8]) -> ImportedLine {
        linkFacts = nil
        let hasMark = isAtStart && line.starts(with: [0xef, 0xbb, 0xbf])
        isAtStart = false
        let bytes = line.span.extracting((hasMark ? 3 : 0)..<line.count)
        guard BodyScan.skipSpace(bytes, from: 0) < bytes.count else { return .notAClick(reason: "blank line") }
        guard bytes.count <= limits.lineBytes else { return .rejected(.lineTooLong(limits.lineBytes)) }
        do throws(JSONFault) {
            try tape.scanText(bytes)
        } catch {
            return .rejected(LineFault(error))
        }
        do throws(LineFault) {
            switch try read(bytes) {
            case .nothing(let reason): return .notAClick(reason: reason)
            case .click(var event, let facts):
                linkFacts = facts
                if event.id == nil { event.id = deriveID(event) }
                return .click(json: event.json.bytes)
            }
        } catch {
            return .rejected(error)
        }
    }

    private func read(_ bytes: Span<UInt8>) throws(LineFault) -> ImportedEvent {
        switch format {
        case .milepost: .click(try EventReader().read(tape, bytes), nil)
        case .bitly: try BitlyLine.read(ImportedObject(tape: tape), bytes)
        case .dub: try DubLine.read(ImportedObject(tape: tape), bytes)
        case .shlink: try ShlinkLine.read(ImportedObject(tape: tape), bytes)
        }
    }

    private mutating func deriveID(_ event: EventFields) -> String {
        let digest = ClickDigest()
        let identity = format == .shlink ? ShlinkLine.identifying(event) : event
        let first = identity.derivedID(digest: digest, buffer: &buffer)
        let ordinal = ordinals.next(of: digest.shortHash(buffer.span))
        return ordinal == 1 ? first : identity.derivedID(ordinal: ordinal, digest: digest, buffer: &buffer)
    }
}

extension ImportedLine {
    fileprivate static func rejected(_ fault: LineFault) -> Self { .rejected(code: fault.code, message: fault.message) }
}

/// What a format makes of a line.
enum ImportedEvent {
    case click(EventFields, ImportedLinkFacts?)
    case nothing(reason: String)
}

/// Counts how often a hash has been seen, in bounded memory: when the young half is full it becomes the old one, and
/// what was old is forgotten.
struct OrdinalMemory: Sendable {
    static let standardCapacity = 1 << 20

    private struct Key: Hashable {
        let high: UInt64
        let low: UInt64
    }
    private let capacity: Int
    private var young: [Key: UInt32] = [:]
    private var old: [Key: UInt32] = [:]

    init(capacity: Int) { self.capacity = max(1, capacity) }

    /// 1 for a hash that is new.
    mutating func next(of hash: [UInt8]) -> Int {
        let key = Key(
            high: hash.prefix(8).reduce(0) { $0 << 8 | UInt64($1) },
            low: hash.suffix(8).reduce(0) { $0 << 8 | UInt64($1) })
        let count = (young[key] ?? old[key] ?? 0) + 1
        if young[key] == nil, young.count >= capacity {
            old = young
            young = [:]
        }
        young[key] = count
        return Int(count)
    }
}
