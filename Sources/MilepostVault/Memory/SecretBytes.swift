// SPDX-License-Identifier: Apache-2.0

internal import COpenSSL

/// Bytes nobody else may see: locked into memory, left out of dumps, wiped when the last holder lets go (decisions 38).
///
/// Prints as `<secret>` wherever it is put, is not `Codable`, and never becomes a `String` here. Immutable after `init`.
@safe
public final class SecretBytes: @unchecked Sendable {  // The slot is written in init and deinit only, read in between.
    /// The most a secret may have; a private-app or JWT token is below 4 KiB.
    public static let maximumCount = 64 * 1024

    public let count: Int
    private let slot: LockedPool.Slot
    private let pool: LockedPool

    /// Room for `count` bytes, filled by `fill`, which receives them zeroed.
    ///
    /// - Throws: `.limitExceeded` for 0 or more than `maximumCount` bytes, `.memoryNotLockable`, or what `fill` throws.
    public convenience init(
        count: Int, filledBy fill: (UnsafeMutableRawBufferPointer) throws(VaultError) -> Void
    ) throws(VaultError) {
        try unsafe self.init(count: count, pool: .shared, filledBy: fill)
    }

    package init(
        count: Int, pool: LockedPool, filledBy fill: (UnsafeMutableRawBufferPointer) throws(VaultError) -> Void
    ) throws(VaultError) {
        guard (1...Self.maximumCount).contains(count) else {
            throw VaultError(
                .limitExceeded, "a secret has 1 to \(Self.maximumCount) bytes, this one \(count): send the token alone")
        }
        let slot = try pool.take(count)
        self.count = count
        self.slot = slot
        self.pool = pool
        try unsafe fill(UnsafeMutableRawBufferPointer(rebasing: slot.bytes[..<count]))
    }

    /// Copies; wiping the source is its owner's duty.
    public convenience init(copying source: UnsafeRawBufferPointer) throws(VaultError) {
        try unsafe self.init(count: source.count) { room in unsafe room.copyMemory(from: source) }
    }

    /// Takes the bytes over: `source` is wiped and emptied, also when this throws. Copies that the array shared its
    /// storage with stay where they are.
    public convenience init(wiping source: inout [UInt8]) throws(VaultError) {
        defer {
            unsafe source.withUnsafeMutableBytes { unsafe OPENSSL_cleanse($0.baseAddress, $0.count) }
            source = []
        }
        try unsafe self.init(count: source.count) { room in
            unsafe source.withUnsafeBytes { unsafe room.copyMemory(from: $0) }
        }
    }

    /// `count` fresh random bytes.
    public convenience init(count: Int, random: any SecureRandomSource) throws(VaultError) {
        try unsafe self.init(count: count) { room throws(VaultError) in try unsafe random.fill(room) }
    }

    deinit { pool.giveBack(slot) }

    /// Lends the bytes; the pointer is dead when `body` returns.
    public func withBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(self) {} }
        return try unsafe body(UnsafeRawBufferPointer(rebasing: slot.bytes[..<count]))
    }

    /// Compares in a time that depends on the lengths only.
    public func isEqual(to other: SecretBytes) -> Bool {
        guard count == other.count else { return false }
        return unsafe withBytes { mine in
            unsafe other.withBytes { unsafe CRYPTO_memcmp(mine.baseAddress, $0.baseAddress, mine.count) == 0 }
        }
    }
}

extension SecretBytes: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "<secret>" }
    public var debugDescription: String { "<secret>" }
    /// No children, so that `dump` and test failures show nothing.
    public var customMirror: Mirror { Mirror(self, children: []) }
}
