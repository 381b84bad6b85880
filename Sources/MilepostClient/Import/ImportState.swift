// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostModel

/// How far an interrupted import came: one small file for each pair of source and destination.
///
/// Only a hint that saves time. Ids are derived from the lines, so that sending a part again counts nothing twice.
struct ImportState {
    let path: String

    /// `$XDG_STATE_HOME/milepost/imports/<name>.json`, below `~/.local/state` by default; nil when neither is known.
    ///
    /// The name is a hash of the file's size and beginning, the format, the daemon and the workspace: a file that was
    /// moved resumes, another one under the same name does not.
    init?(environment: [String: String], identity: [UInt8]) {
        let base =
            environment["XDG_STATE_HOME"].flatMap { $0.hasPrefix("/") ? $0 : nil }
            ?? environment["HOME"].map { $0 + "/.local/state" }
        guard let base else { return nil }
        path = "\(base)/milepost/imports/\(Self.hash(identity)).json"
    }

    /// The totals of the part that was acknowledged.
    func load() -> ImportSummary? {
        guard let data = FileManager.default.contents(atPath: path), let value = try? JSONValue(parsing: data) else {
            return nil
        }
        return ImportSummary(state: value)
    }

    /// Losing the state costs time and nothing else, so failing to write it stops no import.
    func save(_ summary: ImportSummary) {
        let directory = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
        try? FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try? PrivateFile.write(summary.state.bytes, to: path)
    }

    func remove() { try? FileManager.default.removeItem(atPath: path) }

    /// FNV-1a over 128 bits names the file; nothing here needs a cryptographic hash.
    static func hash(_ bytes: [UInt8]) -> String {
        var hash: UInt128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d
        for byte in bytes { hash = (hash ^ UInt128(byte)) &* 0x0000_0000_0100_0000_0000_0000_0000_013b }
        let digits = String(hash, radix: 16)
        return String(repeating: "0", count: 32 - digits.count) + digits
    }

    static let emptyHash: UInt64 = 0xcbf2_9ce4_8422_2325

    /// FNV-1a over 64 bits, line by line: tells whether the part sent before is still the file's beginning.
    static func extend(_ hash: inout UInt64, with line: [UInt8]) {
        for byte in line { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        hash = (hash ^ 0x0a) &* 0x0000_0100_0000_01b3
    }
}
