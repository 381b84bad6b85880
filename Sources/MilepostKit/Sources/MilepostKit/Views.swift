// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin

// Views are valid until the called function returns, so everything here either copies or stays inside a closure.

extension mp_view {
    /// A copy of the bytes; nil when absent. A length without a pointer is absent, too.
    @safe var copied: [UInt8]? {
        guard let ptr = unsafe ptr else { return nil }
        guard let count = unsafe Int(exactly: len) else { return nil }
        return unsafe [UInt8](UnsafeBufferPointer(start: ptr, count: count))
    }

    @safe static var absent: mp_view { unsafe mp_view(ptr: nil, len: 0) }
}

/// Calls `body` with a view of the bytes. An empty array is an empty view, not an absent one.
func withView<Result>(_ bytes: [UInt8], _ body: (mp_view) -> Result) -> Result {
    unsafe bytes.withUnsafeBufferPointer { buffer in
        guard let base = buffer.baseAddress, !buffer.isEmpty else {
            return unsafe withUnsafePointer(to: UInt8(0)) { unsafe body(mp_view(ptr: $0, len: 0)) }
        }
        return unsafe body(mp_view(ptr: base, len: UInt64(buffer.count)))
    }
}

func withView<Result>(_ text: String, _ body: (mp_view) -> Result) -> Result {
    unsafe withView(Array(text.utf8), body)
}

/// Keeps the bytes of several views alive for one call into the host; freed together with the arena.
@safe final class ViewArena {
    private var chunks: [UnsafeMutableBufferPointer<UInt8>] = unsafe []

    deinit { unsafe chunks.forEach { unsafe $0.deallocate() } }

    func view(_ bytes: [UInt8]?) -> mp_view {
        guard let bytes else { return .absent }
        // One byte at least: an empty view has a pointer, only an absent one has none.
        let chunk = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: max(1, bytes.count))
        _ = unsafe chunk.initialize(from: bytes)
        unsafe chunks.append(chunk)
        return unsafe mp_view(ptr: UnsafePointer(chunk.baseAddress), len: UInt64(bytes.count))
    }

    func view(_ text: String?) -> mp_view { unsafe view(text.map { Array($0.utf8) }) }
}

/// Copies a sized struct of the other side: no more than it declares, the rest zero.
/// - Returns: nil when it declares less than `minimum`.
@safe func sizedCopy<Value: BitwiseCopyable>(
    of pointer: UnsafePointer<Value>?, minimum: Int, zero: Value
) -> Value? {
    guard let pointer = unsafe pointer else { return nil }
    let declared = unsafe Int(UnsafeRawPointer(pointer).load(as: UInt32.self))
    guard declared >= minimum else { return nil }
    var copy = zero
    unsafe withUnsafeMutableBytes(of: &copy) { target in
        let count = min(declared, target.count)
        unsafe target.copyMemory(from: UnsafeRawBufferPointer(start: UnsafeRawPointer(pointer), count: count))
    }
    return copy
}
