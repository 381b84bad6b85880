// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux

/// A payload to send; `channel.h` has the format.
struct FrameWriter {
    private(set) var bytes: [UInt8]

    init(scalars: [UInt64] = [], views: [[UInt8]?] = []) {
        let size = views.reduce(8 + 8 * (scalars.count + views.count)) { $0 + ($1?.count ?? 0) }
        bytes = unsafe [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            let target = UnsafeMutableRawBufferPointer(buffer)
            unsafe target.storeBytes(of: UInt32(scalars.count), as: UInt32.self)
            unsafe target.storeBytes(of: UInt32(views.count), toByteOffset: 4, as: UInt32.self)
            var offset = 8
            for scalar in scalars {
                unsafe target.storeBytes(of: scalar, toByteOffset: offset, as: UInt64.self)
                offset += 8
            }
            for view in views {
                unsafe target.storeBytes(
                    of: view.map { UInt64($0.count) } ?? .max, toByteOffset: offset, as: UInt64.self)
                offset += 8
            }
            for case let view? in views where !view.isEmpty {
                unsafe UnsafeMutableRawBufferPointer(rebasing: target[offset...]).copyBytes(from: view)
                offset += view.count
            }
            count = size
        }
    }
}

/// A payload that came from a worker: hostile, copied and checked before anything is believed.
struct FrameReader {
    let scalars: [UInt64]
    let views: [[UInt8]?]

    /// Nil when the bytes break the format.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= 8 else { return nil }
        let scalarCount = Int(unsafe bytes.loadUnaligned(fromByteOffset: 0, as: UInt32.self))
        let viewCount = Int(unsafe bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        guard scalarCount <= Int(MILEPOST_FRAME_SCALARS_MAX), viewCount <= Int(MILEPOST_FRAME_VIEWS_MAX) else {
            return nil
        }
        var offset = 8 + 8 * (scalarCount + viewCount)
        guard offset <= bytes.count else { return nil }
        var scalars: [UInt64] = []
        scalars.reserveCapacity(scalarCount)
        for index in 0..<scalarCount {
            scalars.append(unsafe bytes.loadUnaligned(fromByteOffset: 8 + 8 * index, as: UInt64.self))
        }
        var views: [[UInt8]?] = []
        views.reserveCapacity(viewCount)
        for index in 0..<viewCount {
            let length = unsafe bytes.loadUnaligned(fromByteOffset: 8 + 8 * (scalarCount + index), as: UInt64.self)
            if length == .max {
                views.append(nil)
                continue
            }
            guard length <= UInt64(bytes.count - offset) else { return nil }
            views.append(unsafe Array(bytes[offset..<offset + Int(length)]))
            offset += Int(length)
        }
        guard offset == bytes.count else { return nil }
        self.scalars = scalars
        self.views = views
    }

    /// Zero when the frame has fewer.
    func scalar(_ index: Int) -> UInt64 { index < scalars.count ? scalars[index] : 0 }
    func int32(_ index: Int) -> Int32 { Int32(truncatingIfNeeded: scalar(index)) }
    func uint32(_ index: Int) -> UInt32 { UInt32(truncatingIfNeeded: scalar(index)) }
    func view(_ index: Int) -> [UInt8]? { index < views.count ? views[index] : nil }
    func bytes(_ index: Int) -> [UInt8] { view(index) ?? [] }
}
