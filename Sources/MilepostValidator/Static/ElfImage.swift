// SPDX-License-Identifier: Apache-2.0

/// What a shared object says about itself in its ELF headers: segments, dynamic entries and dynamic symbols.
///
/// The bytes are hostile: every read is checked, counts are bounded, and sections, which a stripped file may lack, are
/// not used.
public struct ElfImage: Sendable, Equatable {
    public struct Symbol: Sendable, Equatable {
        public let name: String
        public let isDefined: Bool
        public let isWeak: Bool
        public let isLocal: Bool
        /// The entry in the version table names a version, so that the linker knew a library that has it.
        public let isVersioned: Bool
    }

    public internal(set) var isSharedObject = false
    public internal(set) var machine: UInt16 = 0
    /// Nil without PT_GNU_STACK, which the loader takes for an executable one.
    public internal(set) var stackIsExecutable: Bool?
    public internal(set) var hasReadOnlyRelocations = false
    public internal(set) var bindsNow = false
    public internal(set) var hasTextRelocations = false
    public internal(set) var hasStaticTLS = false
    public internal(set) var needed: [String] = []
    /// RPATH and RUNPATH, as written.
    public internal(set) var searchPaths: [String] = []
    public internal(set) var symbols: [Symbol] = []

    public init(parsing bytes: [UInt8]) throws(ElfError) {
        var reader = ElfReader(bytes: bytes)
        self = try reader.read()
    }

    /// EM_X86_64 or EM_AARCH64 of the machine that this was compiled for.
    public static var ownMachine: UInt16 {
        #if arch(x86_64)
            62
        #elseif arch(arm64)
            183
        #else
            0
        #endif
    }
}

/// Why a file is no shared object that can be looked at.
public struct ElfError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
}

private struct ElfReader {
    let bytes: [UInt8]
    private var segments: [(type: UInt32, flags: UInt32, offset: UInt64, address: UInt64, size: UInt64)] = []
    private var image: ElfImage

    /// Enough for every name of a real library; a symbol table that claims more is a lie.
    static let mostSymbols = 1 << 20
    static let mostSegments = 512
    static let mostEntries = 4096
    static let longestName = 4096

    init(bytes: [UInt8]) {
        self.bytes = bytes
        image = ElfImage()
    }

    mutating func read() throws(ElfError) -> ElfImage {
        guard bytes.count >= 64, bytes[0..<4].elementsEqual([0x7f, 0x45, 0x4c, 0x46]) else {
            throw ElfError(description: "it is no ELF file")
        }
        guard bytes[4] == 2, bytes[5] == 1 else {
            throw ElfError(description: "it is not a 64-bit little-endian ELF file")
        }
        image.isSharedObject = try number(16, 2) == 3
        image.machine = UInt16(truncatingIfNeeded: try number(18, 2))
        let table = try number(32, 8)
        let width = try number(54, 2)
        let count = try number(56, 2)
        guard width >= 56, count <= Self.mostSegments else {
            throw ElfError(description: "its program headers have an impossible size or number")
        }
        for index in 0..<count {
            let at = try sum(table, try product(index, width))
            segments.append(
                (
                    UInt32(truncatingIfNeeded: try number(at, 4)), UInt32(truncatingIfNeeded: try number(at + 4, 4)),
                    try number(at + 8, 8), try number(at + 16, 8), try number(at + 32, 8)
                ))
        }
        for segment in segments {
            switch segment.type {
            case 0x6474_e551: image.stackIsExecutable = segment.flags & 1 != 0
            case 0x6474_e552: image.hasReadOnlyRelocations = true
            default: break
            }
        }
        guard let dynamic = segments.first(where: { $0.type == 2 }) else {
            throw ElfError(description: "it has no dynamic section: it was linked statically or is no shared object")
        }
        try readDynamic(offset: dynamic.offset, size: dynamic.size)
        return image
    }

    private mutating func readDynamic(offset: UInt64, size: UInt64) throws(ElfError) {
        var entries: [(tag: UInt64, value: UInt64)] = []
        for index in 0..<min(size / 16, UInt64(Self.mostEntries)) {
            let at = try sum(offset, index * 16)
            let tag = try number(at, 8)
            if tag == 0 { break }
            entries.append((tag, try number(at + 8, 8)))
        }
        func value(_ tag: UInt64) -> UInt64? { entries.last { $0.tag == tag }?.value }
        let strings = try value(5).map { address throws(ElfError) in try fileOffset(address) }
        let stringBytes = value(10) ?? 0
        func text(_ index: UInt64) throws(ElfError) -> String {
            guard let strings, index < stringBytes else {
                throw ElfError(description: "a name lies outside its string table")
            }
            return try name(at: try sum(strings, index))
        }
        for entry in entries {
            switch entry.tag {
            case 1: image.needed.append(try text(entry.value))
            case 15, 29: image.searchPaths.append(try text(entry.value))
            case 22: image.hasTextRelocations = true
            case 24: image.bindsNow = true
            case 30:
                image.bindsNow = image.bindsNow || entry.value & 8 != 0
                image.hasTextRelocations = image.hasTextRelocations || entry.value & 4 != 0
                image.hasStaticTLS = image.hasStaticTLS || entry.value & 16 != 0
            case 0x6fff_fffb: image.bindsNow = image.bindsNow || entry.value & 1 != 0
            default: break
            }
        }
        guard let symbols = value(6) else { return }
        let count = try symbolCount(gnu: value(0x6fff_fef5), classic: value(4))
        let versions = try value(0x6fff_fff0).map { address throws(ElfError) in try fileOffset(address) }
        let table = try fileOffset(symbols)
        for index in 1..<max(1, count) {
            let at = try sum(table, index * 24)
            let info = try number(at + 4, 1)
            let section = try number(at + 6, 2)
            var version: UInt64 = 1
            if let versions { version = try number(try sum(versions, index * 2), 2) & 0x7fff }
            image.symbols.append(
                ElfImage.Symbol(
                    name: try text(try number(at, 4)), isDefined: section != 0, isWeak: info >> 4 == 2,
                    isLocal: info >> 4 == 0, isVersioned: version > 1))
        }
    }

    /// The dynamic table does not say how many symbols there are; its hash tables do.
    private func symbolCount(gnu: UInt64?, classic: UInt64?) throws(ElfError) -> UInt64 {
        if let classic {
            let count = try number(try fileOffset(classic) + 4, 4)
            guard count <= Self.mostSymbols else { throw ElfError(description: "it claims \(count) symbols") }
            return count
        }
        guard let gnu else { return 0 }
        let at = try fileOffset(gnu)
        let buckets = try number(at, 4)
        let first = try number(at + 4, 4)
        let bloom = try number(at + 8, 4)
        guard buckets <= Self.mostSymbols, bloom <= Self.mostSymbols, first <= Self.mostSymbols else {
            throw ElfError(description: "its hash table has an impossible size")
        }
        let bucketTable = try sum(at, 16 + bloom * 8)
        var last: UInt64 = 0
        for index in 0..<buckets { last = max(last, try number(try sum(bucketTable, index * 4), 4)) }
        guard last >= first, last > 0 else { return first }
        let chains = try sum(bucketTable, buckets * 4)
        while try number(try sum(chains, (last - first) * 4), 4) & 1 == 0 {
            last += 1
            guard last <= Self.mostSymbols else { throw ElfError(description: "its hash table does not end") }
        }
        return last + 1
    }

    // MARK: Checked reading

    private func fileOffset(_ address: UInt64) throws(ElfError) -> UInt64 {
        for segment in segments where segment.type == 1 {
            if address >= segment.address, address - segment.address < segment.size {
                return try sum(segment.offset, address - segment.address)
            }
        }
        throw ElfError(description: "an address lies in no loaded segment of the file")
    }

    private func number(_ offset: UInt64, _ width: Int) throws(ElfError) -> UInt64 {
        guard offset <= UInt64(bytes.count), UInt64(bytes.count) - offset >= UInt64(width) else {
            throw ElfError(description: "a table reaches past the end of the file")
        }
        var value: UInt64 = 0
        for index in (0..<width).reversed() { value = value << 8 | UInt64(bytes[Int(offset) + index]) }
        return value
    }

    private func name(at offset: UInt64) throws(ElfError) -> String {
        guard offset < UInt64(bytes.count) else { throw ElfError(description: "a name lies past the end of the file") }
        let rest = bytes[Int(offset)...].prefix(Self.longestName)
        guard let end = rest.firstIndex(of: 0) else { throw ElfError(description: "a name does not end") }
        return String(decoding: rest[..<end], as: UTF8.self)
    }

    private func sum(_ left: UInt64, _ right: UInt64) throws(ElfError) -> UInt64 {
        let (value, overflow) = left.addingReportingOverflow(right)
        // Room above for the small constants that are added to it.
        guard !overflow, value < 1 << 62 else { throw ElfError(description: "an offset is impossibly large") }
        return value
    }

    private func product(_ left: UInt64, _ right: UInt64) throws(ElfError) -> UInt64 {
        let (value, overflow) = left.multipliedReportingOverflow(by: right)
        guard !overflow else { throw ElfError(description: "an offset is impossibly large") }
        return value
    }
}

extension ElfImage { fileprivate init() {} }
