// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A folder of a test's own. It goes with the object, so also where an error ends the test.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("milepost-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { remove() }

    /// Removes it earlier than that. What cannot be removed harms no later test.
    func remove() { try? FileManager.default.removeItem(atPath: path) }
}
