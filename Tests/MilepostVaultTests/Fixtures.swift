// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostModel
import MilepostVault
import Synchronization
import Testing

/// A token that must turn up nowhere.
let marker = "MARKER-7f3a-token-that-must-not-leak"
let someTime = Timestamp(seconds: 1_795_000_000)

func secret(_ text: String = marker) throws -> SecretBytes {
    var bytes = Array(text.utf8)
    return try SecretBytes(wiping: &bytes)
}

func text(_ secret: SecretBytes) -> String {
    unsafe secret.withBytes { unsafe String(decoding: $0, as: UTF8.self) }
}

func bytes(hex: String) -> [UInt8] {
    let digits = Array(hex.utf8)
    return stride(from: 0, to: digits.count, by: 2).map {
        UInt8(String(decoding: digits[$0...$0 + 1], as: UTF8.self), radix: 16)!
    }
}

/// Repeatable bytes, so that a failing run can be repeated from its seed.
final class SeededRandom: SecureRandomSource {
    private let state: Mutex<UInt64>
    init(_ seed: UInt64) { state = Mutex(seed) }

    func next() -> UInt64 {
        state.withLock { state in  // SplitMix64
            state &+= 0x9e37_79b9_7f4a_7c15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
            return mixed ^ (mixed >> 31)
        }
    }

    func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

    func fill(_ buffer: UnsafeMutableRawBufferPointer) throws(VaultError) {
        for index in buffer.indices { unsafe buffer[index] = UInt8(truncatingIfNeeded: next()) }
    }
}

/// The store's part, in memory.
actor MemoryRecords: VaultRecords {
    private(set) var dataKeys: [WorkspaceID: WrappedDataKey] = [:]
    private(set) var credentials: [CredentialReference: SealedCredential] = [:]
    private var isSwapRefused = false
    private var stale: WrappedDataKey?

    func dataKey(_ workspace: WorkspaceID) -> WrappedDataKey? {
        defer { stale = nil }
        return stale ?? dataKeys[workspace]
    }

    func insertDataKey(_ key: WrappedDataKey) -> WrappedDataKey {
        if let winner = dataKeys[key.workspace] { return winner }
        dataKeys[key.workspace] = key
        return key
    }

    func replaceDataKey(_ new: WrappedDataKey, ifKekIs old: String) -> Bool {
        guard !isSwapRefused, let row = dataKeys[new.workspace], row.id == new.id, row.kekID == old else {
            return false
        }
        dataKeys[new.workspace] = new
        return true
    }

    func dataKeysNotWrapped(by kekID: String, limit: Int) -> [WrappedDataKey] {
        Array(dataKeys.values.filter { $0.kekID != kekID }.sorted { $0.workspace < $1.workspace }.prefix(limit))
    }

    func dataKeyCount(wrappedBy kekID: String) -> Int { dataKeys.values.count { $0.kekID == kekID } }

    func credential(_ reference: CredentialReference) -> SealedCredential? { credentials[reference] }

    func storeCredential(_ credential: SealedCredential) { credentials[credential.reference] = credential }

    // What somebody who can write to the database could do.
    func put(_ credential: SealedCredential, at reference: CredentialReference) { credentials[reference] = credential }
    func put(_ key: WrappedDataKey, at workspace: WorkspaceID) { dataKeys[workspace] = key }
    func removeDataKey(_ workspace: WorkspaceID) { dataKeys[workspace] = nil }
    /// The next read answers `key`, as if it had been a moment before a re-wrap.
    func answerOnce(_ key: WrappedDataKey) { stale = key }
    func refuseSwaps() { isSwapRefused = true }
}

/// A key service as Vault transit or a cloud KMS is: remote, asynchronous, at times unavailable.
actor FakeKeyService: KeyProvider {
    private var keys: [(id: String, key: SecretBytes)] = []
    private var failuresLeft = 0
    private var isLying = false

    init() throws {
        keys.append(("remote/1", try SecretBytes(count: 32, random: OpenSSLRandomSource())))
    }

    func rotate() throws {
        keys.append(("remote/\(keys.count + 1)", try SecretBytes(count: 32, random: OpenSSLRandomSource())))
    }
    func drop(_ id: String) { keys.removeAll { $0.id == id } }
    func failNext(_ count: Int) { failuresLeft = count }
    func lie() { isLying = true }

    private func arrive() async throws(VaultError) {
        await Task.yield()
        guard failuresLeft == 0 else {
            failuresLeft -= 1
            throw VaultError(.keyServiceUnavailable, "the key service answered 503: wait, or see its own status")
        }
    }

    func currentKeyID() async throws(VaultError) -> String {
        try await arrive()
        return keys[keys.count - 1].id
    }

    func keyIDs() async throws(VaultError) -> [String] {
        try await arrive()
        return keys.map(\.id)
    }

    func wrap(
        _ dataKey: SecretBytes, context: KeyContext
    ) async throws(VaultError) -> (keyID: String, wrapped: [UInt8]) {
        try await arrive()
        let (id, key) = keys[keys.count - 1]
        var nonce = [UInt8](repeating: 0, count: 12)
        for index in nonce.indices { nonce[index] = .random(in: 0...255) }
        let wrappedKey = isLying ? try SecretBytes(count: 32, random: OpenSSLRandomSource()) : dataKey
        let sealed = try unsafe wrappedKey.withBytes { (bytes: UnsafeRawBufferPointer) throws(VaultError) in
            try unsafe AuthenticatedCipher.seal(bytes, key: key, nonce: nonce, associatedData: associated(context))
        }
        return (id, nonce + sealed.ciphertext + sealed.tag)
    }

    func unwrap(_ wrapped: [UInt8], keyID: String, context: KeyContext) async throws(VaultError) -> SecretBytes {
        try await arrive()
        guard let key = keys.first(where: { $0.id == keyID })?.key else {
            throw VaultError(.keyUnknown, "the key service has no key \(keyID)")
        }
        guard wrapped.count == 60 else { throw VaultError(.recordTampered, "not a wrapped key") }
        let sealed = AuthenticatedCipher.Sealed(ciphertext: Array(wrapped[12..<44]), tag: Array(wrapped[44...]))
        guard
            let dataKey = try AuthenticatedCipher.open(
                sealed, key: key, nonce: Array(wrapped[..<12]), associatedData: associated(context))
        else { throw VaultError(.recordTampered, "the wrapped key does not open") }
        return dataKey
    }

    func health() async -> KeyProviderHealth {
        KeyProviderHealth(isHealthy: failuresLeft == 0, detail: failuresLeft == 0 ? "fake service" : "answers 503")
    }

    private nonisolated func associated(_ context: KeyContext) -> [UInt8] {
        Array("\(context.workspace)\u{0}\(context.dataKeyID)".utf8)
    }
}

/// A directory of its own, removed at the end of the test.
final class ScratchDirectory: Sendable {
    let path: String

    init() throws {
        var template = Array("\(NSTemporaryDirectory())/milepost-vault-XXXXXX".utf8CString)
        let isMade = unsafe template.withUnsafeMutableBufferPointer { unsafe mkdtemp($0.baseAddress!) != nil }
        try #require(isMade)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }  // What is left lies in the temporary directory.

    func file(_ name: String) -> String { "\(path)/\(name)" }
}

func write(_ text: String, to path: String, mode: mode_t = 0o600) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    let status = unsafe chmod(path, mode)
    try #require(status == 0)
}

func makeFileProvider(_ directory: ScratchDirectory) throws -> FileKeyProvider {
    let file = KeyRingFile(path: directory.file("kek"))
    _ = try file.create(createdAt: someTime, random: OpenSSLRandomSource())
    return try FileKeyProvider(file: file, random: OpenSSLRandomSource())
}

/// The code of the `VaultError` that `body` throws; nil when it throws none.
func failure(_ body: () async throws -> Void) async -> VaultError? {
    do {
        try await body()
        return nil
    } catch let error as VaultError {
        return error
    } catch {
        Issue.record("threw \(error), which is no VaultError")
        return nil
    }
}
