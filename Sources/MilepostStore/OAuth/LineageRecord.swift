// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Which tokens this data directory stored last, and where it lay (docs/decisions/0006).
///
/// A database that was restored knows older ones; a directory that was copied lies elsewhere. No secret: a fingerprint is
/// the beginning of a hash over a random lineage and a random token.
public struct LineageRecord: Sendable, Equatable, Codable {
    public struct Entry: Sendable, Equatable, Codable {
        public var lineage: String
        public var version: Int64
        public var fingerprint: String

        public init(lineage: String, version: Int64, fingerprint: String) {
            self.lineage = lineage
            self.version = version
            self.fingerprint = fingerprint
        }
    }

    /// Machine and directory, as the daemon's wiring tells them.
    public var place: String
    /// By connection.
    public var entries: [String: Entry]

    public init(place: String, entries: [String: Entry] = [:]) {
        self.place = place
        self.entries = entries
    }
}

extension SQLiteStore {
    private static let lineageName = "/oauth-lineage.json"
    /// Room for some hundred thousand connections.
    private static let longestLineage = 64 << 20

    private var lineagePath: String { String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) + Self.lineageName }

    public func lineage() async throws -> LineageRecord? {
        let file = lineagePath
        return try await writer.outside { _, _ in
            // A record that cannot be read proves nothing: it counts as absent, which is the careful side.
            guard let size = Self.fileBytes(file), size <= Self.longestLineage,
                let bytes = try? Data(contentsOf: URL(filePath: file))
            else { return nil }
            return try? JSONDecoder().decode(LineageRecord.self, from: bytes)
        }
    }

    public func storeLineage(_ record: LineageRecord) async throws {
        let bytes = Array(try JSONEncoder().encode(record))
        let file = lineagePath
        try await writer.outside { _, _ in try Self.replace(file, with: bytes) }
    }

    private static func fileBytes(_ path: String) -> Int? {
        var status = stat()
        return unsafe stat(path, &status) == 0 ? Int(status.st_size) : nil
    }

    /// Whole or not at all, also after a power cut; readable by the daemon's user only.
    private static func replace(_ file: String, with bytes: [UInt8]) throws {
        let partial = file + ".partial"
        func failure(_ what: String) -> StoreError {
            StoreError(code: .failed, detail: "cannot \(what) '\(file)': \(unsafe String(cString: strerror(errno)))")
        }
        let descriptor = unsafe Glibc.open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw failure("write") }
        var written = 0
        while written < bytes.count {
            let count = unsafe bytes.withUnsafeBytes { raw in
                unsafe Glibc.write(descriptor, raw.baseAddress! + written, raw.count - written)
            }
            guard count > 0 else {
                Glibc.close(descriptor)
                throw failure("write")
            }
            written += count
        }
        let isSynced = fsync(descriptor) == 0
        Glibc.close(descriptor)
        guard isSynced, unsafe rename(partial, file) == 0 else { throw failure("put in place") }
    }
}
