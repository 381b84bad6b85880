// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

/// What an installed systemd unit says: the first file that systemd would take, then its drop-ins in name order.
struct UnitFile {
    static let folders = [
        "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ]

    private let texts: [String]

    /// - Parameter folders: where to look, first match wins.
    init(name: String, folders: [String] = Self.folders) {
        let main = folders.lazy.compactMap { Self.read("\($0)/\(name)") }.first
        let dropIns = folders.reversed().flatMap { folder in
            let names = (try? FileManager.default.contentsOfDirectory(atPath: "\(folder)/\(name).d")) ?? []
            return names.filter { $0.hasSuffix(".conf") }.sorted().map { "\(folder)/\(name).d/\($0)" }
        }
        texts = main.map { [$0] + dropIns.compactMap(Self.read) } ?? []
    }

    /// Every value of a list setting, in order; an empty assignment forgets those before it.
    func settings(_ key: String) -> [String] {
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
