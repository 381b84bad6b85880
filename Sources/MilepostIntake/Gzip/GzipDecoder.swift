// SPDX-License-Identifier: Apache-2.0

import CZlib

/// Why a compressed body was not taken. `code` is stable.
public struct GzipError: Error, Hashable, Sendable {
    public enum Code: String, Sendable {
        case bodyTooLarge = "body_too_large"
        case malformed = "invalid_gzip"
    }
    public let code: Code
    public let detail: String

    public init(code: Code, detail: String) {
        self.code = code
        self.detail = detail
    }
}

/// Decodes `Content-Encoding: gzip` bodies within a limit, so that a small body cannot become a huge one.
public enum GzipDecoder {
    /// - Parameters:
    ///   - bytes: one gzip member or several, as RFC 1952 allows; nothing may follow them.
    ///   - limit: most bytes of output; memory stays near it, whatever the input claims.
    public static func decode(_ bytes: [UInt8], limit: Int) throws(GzipError) -> [UInt8] {
        let stream = InflateStream()
        return try stream.decode(bytes.span, limit: limit)
    }
}

/// zlib's inflater for one body. zlib keeps a pointer to the stream, so it lives at one address from init to deinit.
@safe private struct InflateStream: ~Copyable {
    private let stream: UnsafeMutablePointer<z_stream>
    private static let chunkBytes = 64 * 1024
    /// The largest window, and 16 for "a gzip header, and nothing else" (zlib.h, inflateInit2).
    private static let gzipWindowBits: Int32 = 15 + 16

    init() {
        unsafe stream = .allocate(capacity: 1)
        unsafe stream.initialize(to: z_stream())
        let status = unsafe inflateInit2_(stream, Self.gzipWindowBits, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        precondition(
            status == Z_OK, "inflateInit2 answered \(status): out of memory, or another zlib than we were built with")
    }

    deinit {
        unsafe inflateEnd(stream)
        unsafe stream.deinitialize(count: 1)
        unsafe stream.deallocate()
    }

    borrowing func decode(_ bytes: Span<UInt8>, limit: Int) throws(GzipError) -> [UInt8] {
        guard bytes.count <= Int(UInt32.max) else {
            throw GzipError(code: .bodyTooLarge, detail: "\(bytes.count) bytes of gzip, at most 4 GiB are taken")
        }
        var output: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: Self.chunkBytes)
        var consumed = 0
        while true {
            let step = inflateStep(bytes.extracting(consumed..<bytes.count), into: &chunk)
            consumed += step.consumed
            guard output.count + step.produced <= limit else {
                throw GzipError(code: .bodyTooLarge, detail: "the body decodes to more than \(limit) bytes")
            }
            output.append(contentsOf: chunk[..<step.produced])
            switch step.status {
            case Z_STREAM_END:
                guard consumed < bytes.count else { return output }
                guard unsafe inflateReset(stream) == Z_OK else { throw malformed("the next member", consumed) }
            case Z_OK, Z_BUF_ERROR:
                guard step.consumed > 0 || step.produced > 0 else { throw malformed("it ends too early", consumed) }
            default:
                throw malformed(
                    unsafe stream.pointee.msg.map { unsafe String(cString: $0) } ?? "error \(step.status)", consumed)
            }
        }
    }

    private borrowing func inflateStep(
        _ input: Span<UInt8>, into chunk: inout [UInt8]
    ) -> (status: Int32, consumed: Int, produced: Int) {
        unsafe input.withUnsafeBufferPointer { input in
            unsafe chunk.withUnsafeMutableBufferPointer { output in
                // zlib's own signature lacks the const; it only reads.
                unsafe stream.pointee.next_in = unsafe UnsafeMutablePointer(mutating: input.baseAddress)
                unsafe stream.pointee.avail_in = UInt32(input.count)
                unsafe stream.pointee.next_out = output.baseAddress
                unsafe stream.pointee.avail_out = UInt32(output.count)
                let status = unsafe inflate(stream, Z_NO_FLUSH)
                return unsafe (
                    status, input.count - Int(stream.pointee.avail_in), output.count - Int(stream.pointee.avail_out)
                )
            }
        }
    }

    private borrowing func malformed(_ what: String, _ offset: Int) -> GzipError {
        GzipError(code: .malformed, detail: "not gzip at byte \(offset): \(what)")
    }
}
