// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// A secret for the length of one call: locked in memory while it can be, wiped at the end.
///
/// `@unchecked Sendable`: the memory is written in `init` only, and freed when the last owner goes.
@safe final class SecretBytes: @unchecked Sendable {
    private let buffer: UnsafeMutableRawBufferPointer

    init(copying bytes: UnsafeRawBufferPointer) {
        unsafe buffer = .allocate(byteCount: max(1, bytes.count), alignment: 16)
        unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
        unsafe buffer.copyMemory(from: bytes)
        count = bytes.count
        // Past RLIMIT_MEMLOCK this fails; the daemon is non-dumpable all the same (decisions 38).
        _ = unsafe mlock(buffer.baseAddress!, buffer.count)
    }

    deinit {
        unsafe explicit_bzero(buffer.baseAddress!, buffer.count)
        _ = unsafe munlock(buffer.baseAddress!, buffer.count)
        unsafe buffer.deallocate()
    }

    let count: Int

    /// A copy that the caller wipes.
    func copy() -> [UInt8] { unsafe Array(buffer.prefix(count)) }

    /// A copy that C reads as text, and that the caller wipes.
    func terminatedCopy() -> [UInt8] {
        unsafe Array(unsafeUninitializedCapacity: count + 1) { target, initialized in
            unsafe target.baseAddress!.initialize(repeating: 0, count: count + 1)
            unsafe UnsafeMutableRawBufferPointer(target).copyMemory(
                from: UnsafeRawBufferPointer(rebasing: buffer.prefix(count)))
            initialized = count + 1
        }
    }
}

/// Overwrites the array's own storage; useless on a copy-on-write sibling, so callers keep exactly one.
func wipe(_ bytes: inout [UInt8]) {
    unsafe bytes.withUnsafeMutableBytes { raw in
        if let base = raw.baseAddress { unsafe explicit_bzero(base, raw.count) }
    }
    bytes = []
}
