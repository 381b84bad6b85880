// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import Synchronization

/// Who uses a plugin now. All connections of a plugin share one worker, so a crash is charged to the records of all that
/// were in flight. One that was charged before is tried again with nothing else of the plugin in flight: its second
/// crash then convicts nobody else (decisions 20).
///
/// First come, first served, so that a record that must be alone is not overtaken for ever. A turn must not be taken
/// within a turn.
public final class PluginTurns: Sendable {
    private struct Line {
        var sharing = 0
        var isAlone = false
        var waiting: [(wantsToBeAlone: Bool, continuation: CheckedContinuation<Void, Never>)] = []

        var isEmpty: Bool { sharing == 0 && !isAlone && waiting.isEmpty }

        mutating func admit(alone: Bool) -> Bool {
            guard !isAlone, !alone || sharing == 0 else { return false }
            if alone { isAlone = true } else { sharing += 1 }
            return true
        }
    }
    private let lines = Mutex<[PluginName: Line]>([:])

    public init() {}

    /// Waiting ends with the operations before it, each of which has a deadline; cancelling does not end it earlier.
    public func take<Value>(of plugin: PluginName, alone: Bool, _ body: () async throws -> Value) async rethrows
        -> Value
    {
        await enter(plugin, alone: alone)
        defer { leave(plugin, alone: alone) }
        return try await body()
    }

    /// How many wait for the plugin.
    public func waiting(for plugin: PluginName) -> Int { lines.withLock { $0[plugin]?.waiting.count ?? 0 } }

    private func enter(_ plugin: PluginName, alone: Bool) async {
        await withCheckedContinuation { continuation in
            let isAdmitted = lines.withLock { lines in
                if lines[plugin, default: Line()].waiting.isEmpty, lines[plugin, default: Line()].admit(alone: alone) {
                    return true
                }
                lines[plugin, default: Line()].waiting.append((alone, continuation))
                return false
            }
            if isAdmitted { continuation.resume() }
        }
    }

    private func leave(_ plugin: PluginName, alone: Bool) {
        let next = lines.withLock { lines -> [CheckedContinuation<Void, Never>] in
            guard var line = lines[plugin] else { return [] }
            if alone { line.isAlone = false } else { line.sharing -= 1 }
            var admitted: [CheckedContinuation<Void, Never>] = []
            while let first = line.waiting.first, line.admit(alone: first.wantsToBeAlone) {
                admitted.append(line.waiting.removeFirst().continuation)
            }
            lines[plugin] = line.isEmpty ? nil : line
            return admitted
        }
        for continuation in next { continuation.resume() }
    }
}
