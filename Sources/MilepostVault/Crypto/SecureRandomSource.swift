// SPDX-License-Identifier: Apache-2.0

internal import COpenSSL

/// Where keys and nonces come from; passed in, so that a run can be replayed in a test.
///
/// Apart from the model's `RandomSource`, because keys must go straight into locked memory and a generator may fail.
public protocol SecureRandomSource: Sendable {
    /// Fills the whole buffer. Any thread.
    func fill(_ buffer: UnsafeMutableRawBufferPointer) throws(VaultError)
}

extension SecureRandomSource {
    /// `count` bytes that are no secret: nonces and ids.
    func bytes(_ count: Int) throws(VaultError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var failure: VaultError?
        unsafe bytes.withUnsafeMutableBytes { buffer in
            do throws(VaultError) { try unsafe fill(buffer) } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }
}

/// libcrypto's generator, seeded by the kernel.
public struct OpenSSLRandomSource: SecureRandomSource {
    public init() {}

    public func fill(_ buffer: UnsafeMutableRawBufferPointer) throws(VaultError) {
        guard buffer.count > 0 else { return }
        guard unsafe RAND_bytes(buffer.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(buffer.count)) == 1
        else {
            throw VaultError(.systemFailure, "libcrypto's RAND_bytes failed: the system has no usable random source")
        }
    }
}
