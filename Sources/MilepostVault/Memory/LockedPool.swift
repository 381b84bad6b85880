// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux
internal import COpenSSL
internal import Glibc
internal import Synchronization

/// Locked memory, cut into slots.
///
/// A secret lives for the length of one call, so mapping, locking and unmapping a page for each would cost three
/// system calls and a TLB flush a request, and a page of the lock limit (8 MiB under systemd) for 40 bytes. Slots come
/// back wiped and are used again; pages are never returned, so the pool's size is the most that was in use at once.
@safe
package final class LockedPool: Sendable {
    /// Slot sizes: keys; API tokens; OAuth tokens; signed tokens and ring files. More gets a mapping of its own.
    private static let slotSizes = [64, 256, 1024, 4096]

    /// A piece of locked, zeroed memory. Whoever holds it gives it back once.
    @safe
    struct Slot: @unchecked Sendable {  // An address and a size; what lies there is its holder's alone.
        let start: UnsafeMutableRawPointer
        let capacity: Int
        var bytes: UnsafeMutableRawBufferPointer { unsafe .init(start: start, count: capacity) }
    }

    private let free = Mutex<[Int: [Slot]]>([:])

    package static let shared = LockedPool()

    package init() {}

    /// - Throws: `.memoryNotLockable` with the cure.
    func take(_ count: Int) throws(VaultError) -> Slot {
        guard let size = Self.slotSizes.first(where: { count <= $0 }) else {
            let page = mp_memory_page_size()
            return try Self.map((count + page - 1) / page * page)
        }
        if let slot = free.withLock({ $0[size]?.popLast() }) { return slot }
        let page = try Self.map(mp_memory_page_size())
        var slots: [Slot] = []
        for offset in stride(from: 0, through: page.capacity - size, by: size) {
            unsafe slots.append(Slot(start: page.start + offset, capacity: size))
        }
        let first = slots.removeLast()
        free.withLock { $0[size, default: []].append(contentsOf: slots) }
        return first
    }

    func giveBack(_ slot: Slot) {
        unsafe OPENSSL_cleanse(slot.start, slot.capacity)
        if Self.slotSizes.contains(slot.capacity) {
            free.withLock { $0[slot.capacity, default: []].append(slot) }
        } else {
            unsafe mp_memory_unmap_locked(slot.start, slot.capacity)
        }
    }

    private static func map(_ length: Int) throws(VaultError) -> Slot {
        guard let start = unsafe mp_memory_map_locked(length) else {
            let reason = errno
            throw VaultError(
                .memoryNotLockable,
                "\(length) bytes for a secret could not be locked (\(describe(errno: reason))): raise the limit of "
                    + "locked memory (LimitMEMLOCK=8M in the unit, ulimit -l, or --ulimit memlock in a container)")
        }
        return unsafe Slot(start: start, capacity: length)
    }
}

/// The system's text for an error number, e.g. "Permission denied".
func describe(errno number: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: 128)
    let isKnown = unsafe buffer.withUnsafeMutableBufferPointer {
        unsafe strerror_r(number, $0.baseAddress!, $0.count) == 0
    }
    guard isKnown else { return "errno \(number)" }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
