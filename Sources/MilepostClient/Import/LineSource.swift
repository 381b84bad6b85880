// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Reads a file or standard input line by line in bounded memory.
@safe package final class LineSource {
    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private var start = 0
    private var isAtEnd = false
    /// Bytes taken so far, line feeds included.
    private(set) var offset = 0
    /// Bytes in the file; nil where nobody can say.
    let size: Int?

    /// A line longer than this is passed on cut, which every format refuses.
    static let maximumLine = 1 << 20

    /// - Parameter path: `-` for standard input.
    package init(path: String) throws(ClientError) {
        descriptor = path == "-" ? STDIN_FILENO : unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw ClientError(code: "bad_file", detail: "\(path): \(unsafe String(cString: strerror(errno)))")
        }
        var status = stat()
        let isRegular = unsafe fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        size = isRegular ? Int(status.st_size) : nil
    }

    deinit { if descriptor != STDIN_FILENO { close(descriptor) } }

    /// The first bytes, without taking them; tells a compressed file.
    func peek(_ count: Int) throws(ClientError) -> ArraySlice<UInt8> {
        while buffer.count - start < count, !isAtEnd { try fill() }
        return buffer[start..<min(start + count, buffer.count)]
    }

    /// The next line without its line feed; nil at the end.
    package func next() throws(ClientError) -> [UInt8]? {
        var searched = start
        while true {
            if let end = buffer[searched...].firstIndex(of: 0x0a) {
                let line = Array(buffer[start..<min(end, start + Self.maximumLine)])
                offset += end + 1 - start
                start = end + 1
                return line
            }
            searched = buffer.count
            if isAtEnd {
                guard start < buffer.count else { return nil }
                let line = Array(buffer[start...].prefix(Self.maximumLine))
                offset += buffer.count - start
                start = buffer.count
                return line
            }
            if buffer.count - start > 16 * Self.maximumLine {
                throw ClientError(
                    code: "bad_file",
                    detail: "a line is longer than \(16 * Self.maximumLine >> 20) MiB; is this one object a line?")
            }
            let before = start
            try fill()
            searched -= before - start
        }
    }

    private func fill() throws(ClientError) {
        buffer.removeFirst(start)
        start = 0
        let count = buffer.count
        buffer.append(contentsOf: repeatElement(0, count: 256 << 10))
        var received: Int
        repeat {
            received = unsafe buffer[count...].withUnsafeMutableBytes {
                unsafe read(descriptor, $0.baseAddress, $0.count)
            }
        } while received < 0 && errno == EINTR
        buffer.removeLast(buffer.count - count - max(received, 0))
        guard received >= 0 else {
            throw ClientError(code: "bad_file", detail: "reading failed: \(unsafe String(cString: strerror(errno)))")
        }
        isAtEnd = received == 0
    }
}
