// SPDX-License-Identifier: Apache-2.0

import COpenSSL
import MilepostModel

/// SHA-256 of libcrypto, with one context that is reused: the one-shot call of OpenSSL 3 looks the algorithm up each time.
@safe struct ClickDigest: ~Copyable {
    private let context: OpaquePointer

    init() {
        guard let context = unsafe EVP_MD_CTX_new() else { fatalError("EVP_MD_CTX_new: out of memory") }
        unsafe self.context = context
    }

    deinit { unsafe EVP_MD_CTX_free(context) }

    borrowing func hash(_ bytes: Span<UInt8>) -> InlineArray<32, UInt8> {
        var output = InlineArray<32, UInt8>(repeating: 0)
        var target = output.mutableSpan
        let succeeded = unsafe bytes.withUnsafeBufferPointer { input in
            unsafe target.withUnsafeMutableBufferPointer { target in
                unsafe EVP_DigestInit_ex(context, Self.algorithm.md, nil) == 1
                    && EVP_DigestUpdate(context, input.baseAddress, input.count) == 1
                    && EVP_DigestFinal_ex(context, target.baseAddress, nil) == 1
            }
        }
        precondition(succeeded, "SHA-256 of \(bytes.count) bytes failed in libcrypto")
        return output
    }

    /// The first 16 bytes of the digest.
    borrowing func shortHash(_ bytes: Span<UInt8>) -> [UInt8] {
        let full = hash(bytes)
        return Array(copying: full.span.extracting(0..<16))
    }

    /// The algorithm, fetched once and kept for the life of the process. Immutable after that, and libcrypto's own
    /// reference counting is atomic, so it may be shared between threads.
    @safe private struct Algorithm: @unchecked Sendable {
        let md: OpaquePointer
        init() {
            guard let md = unsafe EVP_MD_fetch(nil, "SHA256", nil) else { fatalError("libcrypto has no SHA-256") }
            unsafe self.md = md
        }
    }
    private static let algorithm = Algorithm()
}
