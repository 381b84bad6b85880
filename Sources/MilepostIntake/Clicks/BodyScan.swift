// SPDX-License-Identifier: Apache-2.0

import MilepostModel

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Finds where lines and elements end, without reading what they say.
enum BodyScan {
    static func skipSpace(_ bytes: Span<UInt8>, from start: Int) -> Int {
        var index = start
        while index < bytes.count {
            let byte = bytes[index]
            guard byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 else { break }
            index += 1
        }
        return index
    }

    /// Offset of the next line feed, or the end.
    static func lineEnd(_ bytes: Span<UInt8>, from start: Int) -> Int {
        unsafe bytes.extracting(start..<bytes.count).withUnsafeBytes { rest in
            guard let base = rest.baseAddress, let found = unsafe memchr(base, 0x0a, rest.count) else {
                return bytes.count
            }
            return start + (unsafe UnsafeRawPointer(found) - base)
        }
    }

    /// Whether the whole body is one value, so that an object over several lines is not taken for NDJSON.
    static func isOneValue(_ bytes: Span<UInt8>, _ tape: inout JSONTape, _ limits: IntakeLimits) -> Bool {
        guard bytes.count <= limits.lineBytes else { return false }
        do throws(JSONFault) {
            try tape.scanText(bytes)
            return true
        } catch {
            // The same bytes are read again, line by line, and the faults reported there.
            return false
        }
    }

    /// Offset after the object, array or text that starts at `start`, by brackets and quotes alone; nil when it has no end
    /// or is none of these.
    static func valueEnd(_ bytes: Span<UInt8>, from start: Int) -> Int? {
        var depth = 0
        var index = start
        while index < bytes.count {
            switch bytes[index] {
            case 0x22:
                index += 1
                while index < bytes.count, bytes[index] != 0x22 { index += bytes[index] == 0x5c ? 2 : 1 }
                if depth == 0 { return index < bytes.count ? index + 1 : nil }
            case 0x7b, 0x5b: depth += 1
            case 0x7d, 0x5d:
                depth -= 1
                if depth <= 0 { return depth == 0 ? index + 1 : nil }
            default:
                if depth == 0 { return nil }
            }
            index += 1
        }
        return nil
    }
}
