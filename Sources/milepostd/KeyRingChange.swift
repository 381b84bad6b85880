// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostConfiguration
import MilepostModel
import MilepostVault

/// `milepostd --new-key` and `--drop-key`: change the key ring while a daemon runs that was handed a copy of it and may not
/// write it (decisions 33). For root, and for `milepost keys`, which asks the daemon first.
struct KeyRingChange: ParsableArguments {
    @Flag(help: "Add a key to the key ring and end; a daemon takes it up when it is started or reads the ring again.")
    var newKey = false

    @Option(help: "Take a key out of the key ring and end. 'milepost keys drop' asks first whether data need it.")
    var dropKey: String?

    @Option(help: "With these two: change the ring only if this key is its current one.")
    var currentKey: String?

    /// - Returns: the ring as it is now; nil when nothing was asked for.
    func run(_ configuration: Configuration) throws -> JSONValue? {
        guard newKey || dropKey != nil else { return nil }
        let file = KeyRingFile(path: configuration.kms.path)
        let present = try file.read().current.id
        if let currentKey, currentKey != present {
            throw InitialisationError(
                description:
                    "the current key of \(configuration.kms.path) is \(present), the running daemon's is \(currentKey): it has "
                    + "not taken up a change of the ring (systemctl restart milepost), or it works with another ring (--config)"
            )
        }
        let ring =
            if let dropKey {
                try file.dropKey(dropKey)
            } else {
                try file.addKey(createdAt: SystemClock().now, random: OpenSSLRandomSource())
            }
        return [
            "current_key": .string(ring.current.id), "kek": .string(configuration.kms.path),
            "keys": .array(ring.keys.map { .string($0.id) }),
        ]
    }
}
