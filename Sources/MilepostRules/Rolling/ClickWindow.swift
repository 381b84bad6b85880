// SPDX-License-Identifier: Apache-2.0

/// The newest clicks of one contact under one rule, as far as they can still matter.
///
/// At most `capacity` times are kept, the newest. A window only moves forward, so with a capacity of the rule's threshold
/// "at least the threshold" stays exactly decidable for ever, and so does "fell below it"; only how far the count exceeds
/// the threshold is not known. A click in order costs amortised constant time, a late one the number of clicks that
/// overtook it; neither depends on how many clicks the window has seen.
public struct ClickWindow: Sendable, Hashable {
    /// Milliseconds, ascending; those before `head` are gone.
    private var times: [Int64] = []
    private var head = 0

    public init() {}

    public var count: Int { times.count - head }
    public var oldest: Int64? { head < times.count ? times[head] : nil }
    public var newest: Int64? { head < times.count ? times.last : nil }

    /// Forgets clicks at or before `moment`: the window is open at its old end.
    public mutating func expire(through moment: Int64) {
        while head < times.count, times[head] <= moment { head += 1 }
        compact()
    }

    /// Takes a click in its place by time; equal times count each.
    public mutating func insert(_ time: Int64, capacity: Int) {
        if let last = times.last, last > time {
            var low = head
            var high = times.count
            while low < high {
                let middle = (low + high) / 2
                if times[middle] <= time { low = middle + 1 } else { high = middle }
            }
            times.insert(time, at: low)
        } else {
            times.append(time)
        }
        if count > capacity { head += 1 }
        compact()
    }

    private mutating func compact() {
        if head == times.count {
            times.removeAll(keepingCapacity: true)
            head = 0
        } else if head > 16, head > times.count / 2 {
            times.removeFirst(head)
            head = 0
        }
    }

    public static func == (left: Self, right: Self) -> Bool {
        left.times[left.head...] == right.times[right.head...]
    }

    public func hash(into hasher: inout Hasher) { hasher.combine(times[head...]) }
}

// MARK: - Bytes

extension ClickWindow {
    /// The first time and then the distances, each seven bits a byte, lowest first: about four bytes a click.
    public var encoded: [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(count * 4 + 8)
        var previous: Int64 = 0
        for (index, time) in times[head...].enumerated() {
            // The first may lie before 1970; zigzag keeps it short all the same.
            var rest = index == 0 ? UInt64(bitPattern: (time << 1) ^ (time >> 63)) : UInt64(bitPattern: time - previous)
            previous = time
            repeat {
                output.append(UInt8(truncatingIfNeeded: rest & 0x7f) | (rest > 0x7f ? 0x80 : 0))
                rest >>= 7
            } while rest > 0
        }
        return output
    }

    /// - Returns: nil when the bytes are none that `encoded` wrote.
    public init?(encoded bytes: some Collection<UInt8>) {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        var isFirst = true
        var previous: Int64 = 0
        for byte in bytes {
            guard shift < 63 || (shift == 63 && byte <= 1) else { return nil }
            value |= UInt64(byte & 0x7f) << shift
            if byte & 0x80 != 0 {
                shift += 7
                continue
            }
            if isFirst {
                previous = Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
                isFirst = false
            } else {
                guard let distance = Int64(exactly: value) else { return nil }
                let (next, overflows) = previous.addingReportingOverflow(distance)
                guard !overflows else { return nil }
                previous = next
            }
            times.append(previous)
            value = 0
            shift = 0
        }
        guard shift == 0 else { return nil }
    }
}
