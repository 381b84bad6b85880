// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

/// Vendors' examples and real data that are kept outside the repository.
enum SharedFiles {
    /// `MILEPOST_SHARED`, or `shared` beside the repository.
    static let folder: String = {
        if let folder = ProcessInfo.processInfo.environment["MILEPOST_SHARED"] { return folder }
        let parts = #filePath.split(separator: "/").dropLast(5)
        return "/" + parts.joined(separator: "/") + "/shared"
    }()

    static var areHere: Bool { read("data/usagov-bitly-clicks.jsonl") != nil }

    static func read(_ path: String) -> [UInt8]? {
        (try? Data(contentsOf: URL(filePath: "\(folder)/\(path)"))).map { Array($0) }
    }
}
