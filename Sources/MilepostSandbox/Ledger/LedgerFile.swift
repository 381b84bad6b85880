// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Why a ledger file cannot be used.
public struct LedgerFileError: Error, Hashable, Sendable, CustomStringConvertible {
    public let path: String
    public let detail: String

    public var description: String { "ledger file \(path): \(detail)" }
}

/// Committed objects, one JSON line each, appended; the last line of an object wins.
///
/// Written into the page cache without `fsync`: it survives the sandbox being killed, not the machine losing power, and
/// that is what crash tests of a *client* need.
final class LedgerFile: Sendable {
    private let descriptor: Int32
    private let path: String

    /// Opens the file, makes it if needed, and hands every line in it to `line`.
    init(path: String, line: (JSONValue) -> Bool) throws(LedgerFileError) {
        func failure(_ what: String) -> LedgerFileError {
            LedgerFileError(path: path, detail: "cannot \(what) it: \(unsafe String(cString: strerror(errno)))")
        }
        self.path = path
        descriptor = unsafe open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure("open") }
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let got = unsafe chunk.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
            if got == 0 { break }
            guard got > 0 else { throw failure("read") }
            content += chunk[..<got]
        }
        let lines = content.split(separator: UInt8(ascii: "\n"))
        for (index, bytes) in lines.enumerated() {
            if let value = try? JSONValue(parsing: Array(bytes)), line(value) { continue }
            // A torn last line is what a kill leaves behind; its object was never acknowledged. Cut it off.
            let isTorn = index == lines.count - 1 && content.last != UInt8(ascii: "\n")
            guard isTorn else {
                throw LedgerFileError(
                    path: path, detail: "line \(index + 1) is not a line of the sandbox; name another file")
            }
            guard ftruncate(descriptor, off_t(content.count - bytes.count)) == 0 else { throw failure("mend") }
        }
    }

    deinit { close(descriptor) }

    func append(_ values: [JSONValue]) throws(LedgerFileError) {
        var bytes: [UInt8] = []
        for value in values { bytes += value.bytes + [UInt8(ascii: "\n")] }
        var offset = 0
        while offset < bytes.count {
            let part = bytes[offset...]
            let wrote = unsafe part.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
            if wrote < 0, errno == EINTR { continue }
            guard wrote > 0 else {
                throw LedgerFileError(path: path, detail: "cannot write it: \(unsafe String(cString: strerror(errno)))")
            }
            offset += wrote
        }
    }

    func truncate() { _ = ftruncate(descriptor, 0) }
}
