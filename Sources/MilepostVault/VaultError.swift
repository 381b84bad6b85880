// SPDX-License-Identifier: Apache-2.0

/// Why a secret could not be sealed, opened or kept. `code` is stable: it appears in the API, in logs and in metrics.
public struct VaultError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: String, Sendable, CaseIterable {
        /// No such credential is stored.
        case secretUnknown
        /// A record does not open under its key: flipped bits, another row's ciphertext, or another schema.
        case recordTampered
        /// The credential names a data key that its workspace does not have.
        case dataKeyMissing
        /// The key provider does not hold the key-encryption key that a data key needs.
        case keyUnknown
        /// The key provider cannot answer now; the same call may succeed later.
        case keyServiceUnavailable
        /// The key provider answered and refused; trying again changes nothing.
        case keyServiceRefused
        /// The key ring cannot be read or written.
        case keyRingUnreadable
        /// The daemon holds a copy of the key ring that it cannot change: root changes the original.
        case keyRingReadOnly
        /// The key ring's owner or mode would let others read it.
        case keyRingUntrusted
        /// A line of the key ring is not what it should be.
        case keyRingMalformed
        /// The key ring exists where a new one should be created, or another change of it is under way.
        case keyRingBusy
        /// The key ring lies inside the data directory, so that a backup would carry it away with the data.
        case keyInsideDataDirectory
        /// The key is still needed: it is the current one, or data keys are wrapped by it.
        case keyInUse
        /// A secret or an identifier is longer than the vault takes, empty, or there are too many.
        case limitExceeded
        /// The kernel refused to lock memory for a secret.
        case memoryNotLockable
        /// libcrypto or the kernel failed where it never should.
        case systemFailure
        /// The store failed.
        case storeFailed
    }

    public let code: Code
    /// For the operator: what happened, to which thing, why, what to do. Never a secret, never a key.
    public let detail: String

    public init(_ code: Code, _ detail: String) {
        self.code = code
        self.detail = detail
    }

    public var description: String { "\(code.rawValue): \(detail)" }

    /// Whether the same call may succeed later with nobody doing anything.
    public var isTransient: Bool {
        switch code {
        case .keyServiceUnavailable, .memoryNotLockable, .storeFailed: true
        case .secretUnknown, .recordTampered, .dataKeyMissing, .keyUnknown, .keyServiceRefused, .keyRingUnreadable,
            .keyRingReadOnly, .keyRingUntrusted, .keyRingMalformed, .keyRingBusy, .keyInsideDataDirectory, .keyInUse,
            .limitExceeded,
            .systemFailure:
            false
        }
    }
}
