// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostValidator
import Testing

/// The reader of ELF headers takes files from anybody.
@Suite("ELF headers")
struct ElfImageTests {
    @Test(
        "EXT-04: what is no ELF file is refused with a sentence",
        arguments: [[], [0x7f, 0x45], Array("#!/bin/sh\n".utf8)])
    func refusesOthers(bytes: [UInt8]) {
        #expect(throws: ElfError.self) { try ElfImage(parsing: bytes) }
    }

    @Test("EXT-04: a shared object's headers, names and flags are read")
    func reads() throws {
        let image = try ElfImage(parsing: TinyLibrary.bytes())
        #expect(image.isSharedObject && image.machine == 62)
        #expect(image.stackIsExecutable == false && image.hasReadOnlyRelocations && image.bindsNow)
        #expect(image.needed == ["libc.so.6"] && image.searchPaths == ["/opt/lib"])
        #expect(image.symbols.map(\.name) == ["milepost_plugin_v1", "malloc"])
        #expect(image.symbols.map(\.isDefined) == [true, false])
        #expect(!image.hasTextRelocations && image.hasStaticTLS)
    }

    @Test("EXT-04: no truncation of a file and no changed byte crashes the reader")
    func survivesMutations() {
        let whole = TinyLibrary.bytes()
        for length in whole.indices { _ = try? ElfImage(parsing: Array(whole.prefix(length))) }
        var random = Generator(state: 42)
        for _ in 0..<20_000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
            }
            _ = try? ElfImage(parsing: bytes)
        }
    }

    @Test("EXT-04: counts and offsets past the file are refused, not followed")
    func refusesLies() {
        var bytes = TinyLibrary.bytes()
        bytes[56] = 0xff  // program headers
        bytes[57] = 0xff
        #expect(throws: ElfError.self) { try ElfImage(parsing: bytes) }
        bytes = TinyLibrary.bytes()
        for index in 32..<40 { bytes[index] = 0xff }  // where they are
        #expect(throws: ElfError.self) { try ElfImage(parsing: bytes) }
    }
}

private struct Generator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state ^ state >> 29
    }
}

/// The smallest shared object with everything that the reader looks at.
private enum TinyLibrary {
    static func bytes() -> [UInt8] {
        let strings = Array("\0libc.so.6\0/opt/lib\0milepost_plugin_v1\0malloc\0".utf8)
        let headers = 64 + 4 * 56
        let stringsAt = headers
        let symbolsAt = (stringsAt + strings.count + 7) & ~7
        let hashAt = symbolsAt + 3 * 24
        let dynamicAt = hashAt + 16
        let entries: [(UInt64, UInt64)] = [
            (1, 1), (29, 11), (5, UInt64(stringsAt)), (10, UInt64(strings.count)), (6, UInt64(symbolsAt)),
            (4, UInt64(hashAt)), (30, 8 | 16), (0, 0),
        ]
        let size = dynamicAt + entries.count * 16
        var bytes: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9)
        bytes +=
            little(3, 2) + little(62, 2) + little(1, 4) + little(0, 8) + little(64, 8) + little(0, 8) + little(0, 4)
        bytes += little(64, 2) + little(56, 2) + little(4, 2) + little(0, 6)
        for (type, flags, at, length) in [
            (UInt64(1), UInt64(5), 0, size), (2, 6, dynamicAt, entries.count * 16), (0x6474_e551, 6, 0, 0),
            (0x6474_e552, 4, 0, 0),
        ] {
            bytes += little(type, 4) + little(flags, 4) + little(UInt64(at), 8) + little(UInt64(at), 8)
            bytes += little(UInt64(at), 8) + little(UInt64(length), 8) + little(UInt64(length), 8) + little(8, 8)
        }
        bytes += strings
        bytes += [UInt8](repeating: 0, count: symbolsAt - bytes.count)
        bytes += [UInt8](repeating: 0, count: 24)
        bytes += little(20, 4) + [0x12, 0] + little(7, 2) + little(0x1000, 8) + little(8, 8)
        bytes += little(39, 4) + [0x12, 0] + little(0, 2) + little(0, 8) + little(0, 8)
        bytes += little(1, 4) + little(3, 4) + little(0, 8)
        for (tag, value) in entries { bytes += little(tag, 8) + little(value, 8) }
        return bytes
    }

    private static func little(_ value: UInt64, _ width: Int) -> [UInt8] {
        (0..<width).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
    }
}
