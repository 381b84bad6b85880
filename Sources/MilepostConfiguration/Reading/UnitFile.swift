// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

/// What an installed systemd unit says: the first file that systemd would take, then its drop-ins in name order, whatever
/// their folders; one hides another of its name in a later folder (systemd.unit(5)).
package struct UnitFile {
    package static let folders = [
        "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ]

    private let texts: [String]

    /// - Parameter folders: where to look, first match wins.
    package init(name unit: String, folders: [String] = Self.folders) {
        let main = folders.lazy.compactMap { Self.read("\($0)/\(unit)") }.first
        var dropIns: [String: String] = [:]
        for folder in folders.reversed() {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: "\(folder)/\(unit).d")) ?? []
            for name in names where name.hasSuffix(".conf") { dropIns[name] = "\(folder)/\(unit).d/\(name)" }
        }
        let inOrder = dropIns.sorted { $0.key < $1.key }.compactMap { Self.read($0.value) }
        texts = main.map { [$0] + inOrder } ?? []
    }

    /// Every value of a list setting, in order; an empty assignment forgets those before it.
    package func settings(_ key: String) -> [String] {
        var values: [String] = []
        for line in texts.flatMap({ $0.split(separator: "\n") }) where line.hasPrefix("\(key)=") {
            let value = Self.trim(line.dropFirst(key.count + 1))
            if value.isEmpty { values = [] } else { values.append(value) }
        }
        return values
    }

    private static func trim(_ text: Substring) -> String {
        let start = text.drop { $0 == " " || $0 == "\t" }
        let end = start.lastIndex { $0 != " " && $0 != "\t" }
        return end.map { String(start[...$0]) } ?? ""
    }

    /// Nil when it is not there or larger than any unit file.
    private static func read(_ path: String) -> String? {
        guard let status = FileStatus(path: path), status.isRegular, status.size <= 1 << 18 else { return nil }
        return try? String(contentsOfFile: path, encoding: .utf8)
    }
}
