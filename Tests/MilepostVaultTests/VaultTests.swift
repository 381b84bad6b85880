// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostVault
import Testing

@Suite struct VaultTests {
    /// SEC-10: the same tests run against both kinds of provider.
    enum Provider: CaseIterable, Sendable { case file, service }

    /// A vault with what it stands on.
    struct House {
        let directory: ScratchDirectory
        let records = MemoryRecords()
        let keys: any KeyProvider
        let vault: Vault

        init(_ provider: Provider = .file) throws {
            directory = try ScratchDirectory()
            keys = provider == .file ? try makeFileProvider(directory) : try FakeKeyService()
            vault = Vault(records: records, keys: keys, random: OpenSSLRandomSource())
        }

        func read(_ reference: CredentialReference) async throws -> String {
            try await unsafe vault.withSecret(reference) { unsafe String(decoding: $0, as: UTF8.self) }
        }
    }

    private let workspace = WorkspaceID("acme")
    private let reference = CredentialReference(connection: ConnectionID("con_1"), name: "api_token")

    @Test("SEC-01, SEC-02: a stored secret comes back; its record holds none of it", arguments: Provider.allCases)
    func roundTrip(provider: Provider) async throws {
        let house = try House(provider)
        let sealed = try await house.vault.store(secret(), for: reference, workspace: workspace, version: 7)
        #expect(try await house.read(reference) == marker)
        #expect(await house.records.credential(reference) == sealed)
        let key = try #require(await house.records.dataKey(workspace))
        #expect(sealed.keyID == key.id && sealed.version == 7 && sealed.workspace == workspace)
        #expect(sealed.nonce.count == 12 && sealed.tag.count == 16)
        let stored = sealed.ciphertext + sealed.nonce + sealed.tag + key.wrapped + Array("\(sealed)\(key)".utf8)
        #expect(!String(decoding: stored, as: UTF8.self).contains(marker))
        #expect(stored.firstRange(of: Array(marker.utf8)) == nil)
    }

    @Test("SEC-02: two workspaces have two data keys, two sealings two nonces", arguments: Provider.allCases)
    func separateKeys(provider: Provider) async throws {
        let house = try House(provider)
        let other = CredentialReference(connection: ConnectionID("con_2"), name: "api_token")
        let first = try await house.vault.store(secret(), for: reference, workspace: workspace)
        let again = try await house.vault.seal(secret(), for: reference, workspace: workspace)
        let second = try await house.vault.store(secret(), for: other, workspace: WorkspaceID("globex"))
        #expect(first.keyID == again.keyID && first.nonce != again.nonce && first.ciphertext != again.ciphertext)
        #expect(first.keyID != second.keyID)
        #expect(await house.records.dataKeys.count == 2)
    }

    @Test("PCON-12: sealing stores no credential, so that the caller can in its own transaction")
    func sealOnly() async throws {
        let house = try House()
        let sealed = try await house.vault.seal(secret(), for: reference, workspace: workspace)
        #expect(await house.records.credentials.isEmpty)
        await house.records.storeCredential(sealed)
        #expect(try await house.read(reference) == marker)
    }

    @Test("SEC-13: a record copied into another row, tenant or version is refused")
    func pasted() async throws {
        let house = try House()
        let victim = CredentialReference(connection: ConnectionID("con_2"), name: "api_token")
        let sealed = try await house.vault.store(secret("stolen"), for: reference, workspace: workspace)
        try await house.vault.store(secret("mine"), for: victim, workspace: WorkspaceID("globex"))
        let globexKey = try #require(await house.records.dataKey(WorkspaceID("globex")))
        func refusal(of change: (inout SealedCredential) -> Void, at row: CredentialReference) async -> VaultError.Code?
        {
            var copy = sealed
            change(&copy)
            await house.records.put(copy, at: row)
            return await failure { _ = try await house.read(row) }?.code
        }
        #expect(await refusal(of: { _ in }, at: victim) == .recordTampered)
        #expect(await refusal(of: { $0.connection = victim.connection }, at: victim) == .recordTampered)
        #expect(await refusal(of: { $0.workspace = WorkspaceID("globex") }, at: victim) == .dataKeyMissing)
        #expect(
            await refusal(
                of: {
                    $0.workspace = WorkspaceID("globex")
                    $0.keyID = globexKey.id
                }, at: victim) == .recordTampered)
        let renamed = CredentialReference(connection: reference.connection, name: "client_secret")
        #expect(await refusal(of: { $0.name = renamed.name }, at: renamed) == .recordTampered)
        #expect(await refusal(of: { $0.version += 1 }, at: reference) == .recordTampered)
        #expect(await refusal(of: { _ in }, at: reference) == nil, "the untouched record opens")
    }

    @Test("SEC-13: a data key copied into another workspace is refused", arguments: Provider.allCases)
    func pastedDataKey(provider: Provider) async throws {
        let house = try House(provider)
        try await house.vault.store(secret(), for: reference, workspace: workspace)
        var key = try #require(await house.records.dataKey(workspace))
        key.workspace = WorkspaceID("globex")
        await house.records.put(key, at: key.workspace)
        let error = await failure {
            _ = try await house.vault.seal(secret(), for: reference, workspace: WorkspaceID("globex"))
        }
        #expect(error?.code == .recordTampered)
    }

    @Test("SEC-03: random damage to any part of the records never opens", arguments: [1, 2, 3] as [UInt64])
    func tampered(seed: UInt64) async throws {
        let random = SeededRandom(seed)
        let house = try House()
        let sealed = try await house.vault.store(secret(), for: reference, workspace: workspace)
        let key = try #require(await house.records.dataKey(workspace))
        for round in 0..<300 {
            var (credential, dataKey) = (sealed, key)
            func damage(_ bytes: inout [UInt8]) {
                switch random.below(4) {
                case 0: bytes[random.below(bytes.count)] ^= UInt8(1 + random.below(255))
                case 1: bytes.removeLast(1 + random.below(bytes.count))
                case 2: bytes.append(UInt8(random.below(256)))
                default: bytes.insert(UInt8(random.below(256)), at: 0)
                }
            }
            switch random.below(4) {
            case 0: damage(&credential.ciphertext)
            case 1: damage(&credential.nonce)
            case 2: damage(&credential.tag)
            default: damage(&dataKey.wrapped)
            }
            await house.records.put(credential, at: reference)
            await house.records.put(dataKey, at: workspace)
            let error = await failure { _ = try await house.read(reference) }
            #expect(error?.code == .recordTampered, "seed \(seed), round \(round)")
        }
    }

    @Test("SEC-06: no error shows the secret, and each names its thing")
    func errors() async throws {
        let house = try House()
        var seen: [VaultError] = []
        seen.append(try #require(await failure { _ = try await house.read(reference) }))
        #expect(seen.last?.code == .secretUnknown)
        let sealed = try await house.vault.store(secret(), for: reference, workspace: workspace)
        var broken = sealed
        broken.tag[0] ^= 1
        await house.records.put(broken, at: reference)
        seen.append(try #require(await failure { _ = try await house.read(reference) }))
        await house.records.put(sealed, at: reference)
        await house.records.removeDataKey(workspace)
        seen.append(try #require(await failure { _ = try await house.read(reference) }))
        #expect(seen.last?.code == .dataKeyMissing)
        let long = CredentialReference(connection: reference.connection, name: String(repeating: "n", count: 1025))
        let tooLong = await failure { _ = try await house.vault.seal(secret(), for: long, workspace: workspace) }
        #expect(tooLong?.code == .limitExceeded)
        #expect(await house.records.dataKeys.isEmpty, "a refused sealing left a data key")
        for error in seen {
            #expect(!"\(error)".contains(marker))
            #expect(error.detail.contains("acme") || error.detail.contains("con_1"))
        }
    }

    @Test("SEC-05: the plaintext is gone from where it lay when the call has ended")
    func wiped() async throws {
        let house = try House()
        let unique = "token of this test alone, for slots are used again by others"
        try await house.vault.store(secret(unique), for: reference, workspace: workspace)
        let address = try await unsafe house.vault.withSecret(reference) { UInt(bitPattern: $0.baseAddress) }
        // The slot stays mapped in the pool, so looking is allowed.
        let left = unsafe UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: address), count: unique.utf8.count)
        let isGone = unsafe !left.elementsEqual(unique.utf8)
        #expect(isGone)
    }

    @Test("what the body throws comes through")
    func bodyThrows() async throws {
        struct Stop: Error {}
        let house = try House()
        try await house.vault.store(secret(), for: reference, workspace: workspace)
        await #expect(throws: Stop.self) {
            try await unsafe house.vault.withSecret(reference) { _ in throw Stop() }
        }
    }

    @Test("many first secrets at once share one data key, and all open", arguments: Provider.allCases)
    func firstSecretsRace(provider: Provider) async throws {
        let house = try House(provider)
        try await withThrowingTaskGroup { group in
            for index in 0..<32 {
                group.addTask {
                    try await house.vault.store(
                        secret("token \(index)"), for: .init(connection: ConnectionID("con_\(index)"), name: "t"),
                        workspace: WorkspaceID("acme"))
                }
            }
            try await group.waitForAll()
        }
        #expect(await house.records.dataKeys.count == 1)
        for index in 0..<32 {
            #expect(
                try await house.read(.init(connection: ConnectionID("con_\(index)"), name: "t")) == "token \(index)")
        }
    }
}
