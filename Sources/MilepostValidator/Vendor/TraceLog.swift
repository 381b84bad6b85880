// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// The calls of a check in their order, kept only when somebody asked for them.
public final class TraceLog: Sendable {
    private let lines: Mutex<[String]>
    private let isOn: Bool

    public init(isOn: Bool) {
        self.isOn = isOn
        lines = Mutex([])
    }

    func append(_ line: String) {
        guard isOn else { return }
        lines.withLock { lines in
            // A plugin that calls without end must not fill the memory of the one who looks.
            if lines.count < 5000 { lines.append(line) }
        }
    }

    public var all: [String] { lines.withLock { $0 } }
}
