// SPDX-License-Identifier: Apache-2.0

// A plugin as an outsider's Swift makes it: static standard library, FoundationEssentials, concurrency. Built by the tests.

import CMilepostABI
import FoundationEssentials

struct Answer: Codable {
    var words: [String]
    var day: String
    var identifier: Int
}

final class Plugin: @unchecked Sendable {
    nonisolated(unsafe) let host: UnsafePointer<mp_host>
    let instance: UInt64
    init(host: UnsafePointer<mp_host>, instance: UInt64) {
        self.host = host
        self.instance = instance
    }

    func complete(_ operation: UInt64, _ body: Data) {
        _ = [UInt8](body).withUnsafeBufferPointer {
            host.pointee.op_complete(instance, operation, 0, mp_view(ptr: $0.baseAddress, len: UInt64($0.count)))
        }
    }
}

actor Counter {
    var count = 0
    func next() -> Int {
        count += 1
        return count
    }
}

let counter = Counter()
let manifest: UnsafeBufferPointer<UInt8> = {
    let text = Array(MANIFEST.utf8)
    let place = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.count)
    _ = place.initialize(from: text)
    return UnsafeBufferPointer(place)
}()

func query(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    guard let pointer, let op else { return MP_PLUGIN_BUG }
    let plugin = Unmanaged<Plugin>.fromOpaque(pointer).takeUnretainedValue()
    let operation = op.pointee.id
    let body = Data(UnsafeBufferPointer(start: op.pointee.body.ptr, count: Int(op.pointee.body.len)))
    Task {
        let parsed = try? JSONDecoder().decode([String: String].self, from: body)
        let words = await withTaskGroup(of: String.self) { group in
            for (key, value) in parsed ?? [:] { group.addTask { "\(key)=\(value)" } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        try? await Task.sleep(for: .milliseconds(5))
        _ = UUID()
        let style = Date.ISO8601FormatStyle()
        let day = style.format(Date(timeIntervalSince1970: 0))
        let answer = Answer(words: words.sorted(), day: day, identifier: await counter.next())
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        plugin.complete(operation, (try? encoder.encode(answer)) ?? Data())
    }
    return MP_OK
}

func well(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    guard let pointer, let op else { return MP_PLUGIN_BUG }
    Unmanaged<Plugin>.fromOpaque(pointer).takeUnretainedValue().complete(op.pointee.id, Data("{}".utf8))
    return MP_OK
}

let table: UnsafePointer<mp_plugin> = {
    var table = mp_plugin()
    table.struct_size = UInt32(MemoryLayout<mp_plugin>.size)
    table.describe = { $0?.pointee = mp_view(ptr: manifest.baseAddress, len: UInt64(manifest.count)) }
    table.create = { host, instance, _, place in
        place?.pointee = Unmanaged.passRetained(Plugin(host: host!, instance: instance)).toOpaque()
        return MP_OK
    }
    table.destroy = { Unmanaged<Plugin>.fromOpaque($0!).release() }
    table.query = { query($0, $1) }
    table.ping = { well($0, $1) }
    table.shutdown = { well($0, $1) }
    table.on_event = { _, _ in }
    let place = UnsafeMutablePointer<mp_plugin>.allocate(capacity: 1)
    place.initialize(to: table)
    return UnsafePointer(place)
}()

@_cdecl("milepost_plugin_v1")
public func entry(_ info: UnsafePointer<mp_host_info>?, _ status: UnsafeMutablePointer<Int32>?) -> UnsafePointer<
    mp_plugin
>? {
    table
}
