// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostVault
import Synchronization
import Testing

/// SEC-10, SEC-11
@Suite struct RotationTests {
    private let records = MemoryRecords()
    private let directory: ScratchDirectory
    private let keys: FileKeyProvider
    private let vault: Vault

    init() throws {
        directory = try ScratchDirectory()
        keys = try makeFileProvider(directory)
        vault = Vault(records: records, keys: keys, random: OpenSSLRandomSource())
    }

    private static func reference(_ index: Int) -> CredentialReference {
        CredentialReference(connection: ConnectionID("con_\(index)"), name: "api_token")
    }

    private func fill(_ count: Int, with vault: Vault) async throws {
        for index in 0..<count {
            try await vault.store(
                secret("token \(index)"), for: Self.reference(index), workspace: WorkspaceID("ws\(index)"))
        }
    }

    private func readAll(_ count: Int, with vault: Vault) async throws {
        for index in 0..<count {
            let value = try await unsafe vault.withSecret(Self.reference(index)) {
                unsafe String(decoding: $0, as: UTF8.self)
            }
            #expect(value == "token \(index)")
        }
    }

    @Test("SEC-11: keys rotate, re-wrap and go while secrets are used: no call fails", .timeLimit(.minutes(10)))
    func underLoad() async throws {
        let count = 250  // Three chunks.
        try await fill(count, with: vault)
        let before = await records.credentials
        let load = Load()
        let vault = vault
        try await withThrowingTaskGroup { group in
            for reader in 0..<4 {
                group.addTask {
                    var index = reader
                    while !load.isDone || index < count {
                        let wanted = index % count
                        let value = try await unsafe vault.withSecret(Self.reference(wanted)) {
                            unsafe String(decoding: $0, as: UTF8.self)
                        }
                        #expect(value == "token \(wanted)")
                        load.countCall()
                        index += 1
                    }
                }
            }
            for _ in 0..<5 {
                let old = try await keys.currentKeyID()
                let new = try keys.addKey(createdAt: someTime)
                let progress = try await vault.rewrapAll()
                #expect(progress.rewrapped == count && progress.failures.isEmpty)
                try await vault.checkUnused(old)
                try keys.dropKey(old)
                #expect(try await vault.status().dataKeyCounts == [new: count])
            }
            load.end()
            try await group.waitForAll()
        }
        #expect(load.calls >= count)
        #expect(await records.credentials == before, "a re-wrap touches no credential")
    }

    @Test("SEC-11: a call that read its data key just before the old key went reads it again")
    func overtaken() async throws {
        try await fill(1, with: vault)
        let before = try #require(await records.dataKey(WorkspaceID("ws0")))
        try keys.addKey(createdAt: someTime)
        try await vault.rewrapAll()
        try keys.dropKey(before.kekID)
        await records.answerOnce(before)
        try await readAll(1, with: vault)
    }

    @Test("two re-wraps at once do no harm and share the work")
    func twoAtOnce() async throws {
        try await fill(150, with: vault)
        try keys.addKey(createdAt: someTime)
        async let first = vault.rewrapAll()
        async let second = vault.rewrapAll()
        let total = try await first.rewrapped + second.rewrapped
        #expect(total == 150)
        try await readAll(150, with: vault)
    }

    @Test("a data key that does not open is reported and stops no other, over several chunks")
    func damagedRow() async throws {
        try await fill(120, with: vault)
        for index in 0..<110 {
            var row = try #require(await records.dataKey(WorkspaceID("ws\(index)")))
            row.wrapped[20] ^= 1
            await records.put(row, at: row.workspace)
        }
        try keys.addKey(createdAt: someTime)
        let reports = Load()
        let progress = try await vault.rewrapAll { _ in reports.countCall() }
        #expect(progress.rewrapped == 10)
        #expect(progress.failures.count == 110)
        #expect(progress.failures[WorkspaceID("ws0")]?.code == .recordTampered)
        #expect(reports.calls == 2)
    }

    @Test("a row that never lets itself be swapped ends the walk as failed", .timeLimit(.minutes(10)))
    func neverSwapped() async throws {
        try await fill(1, with: vault)
        try keys.addKey(createdAt: someTime)
        await records.refuseSwaps()
        let progress = try await vault.rewrapAll()
        #expect(progress.rewrapped == 0 && progress.failures.count == 1)
    }

    @Test("a key that still wraps something is in use, and one that is missing shows in the status")
    func statusTells() async throws {
        try await fill(3, with: vault)
        let old = try await keys.currentKeyID()
        let new = try keys.addKey(createdAt: someTime)
        let inUse = await failure { try await vault.checkUnused(old) }
        #expect(inUse?.code == .keyInUse)
        #expect(try await vault.status().dataKeyCounts == [old: 3, new: 0])
        try keys.dropKey(old)  // Against the vault's word.
        #expect(try await vault.status().missingKeyIDs == [old])
        let error = await failure { try await readAll(1, with: vault) }
        #expect(error?.code == .keyUnknown)
        #expect(error?.detail.contains(old) == true)
        let progress = try await vault.rewrapAll()
        #expect(progress.failures.count == 3 && progress.failures.values.allSatisfy { $0.code == .keyUnknown })
    }

    @Test("SEC-10: moving to a key service re-wraps and re-encrypts nothing; afterwards the file can go")
    func changeOfProvider() async throws {
        try await fill(5, with: vault)
        let before = await records.credentials
        let service = try FakeKeyService()
        let both = Vault(
            records: records, keys: MigratingKeyProvider(to: service, from: keys), random: OpenSSLRandomSource())
        try await readAll(5, with: both)
        #expect(try await both.rewrapAll().rewrapped == 5)
        #expect(await records.credentials == before)
        try await readAll(5, with: Vault(records: records, keys: service, random: OpenSSLRandomSource()))
    }

    @Test("SEC-10: while the key service is away calls fail as transient, and a re-wrap can be repeated")
    func serviceAway() async throws {
        let service = try FakeKeyService()
        let vault = Vault(records: records, keys: service, random: OpenSSLRandomSource())
        try await fill(4, with: vault)
        await service.failNext(1)
        let error = await failure { try await readAll(1, with: vault) }
        #expect(error?.code == .keyServiceUnavailable && error?.isTransient == true)
        try await readAll(4, with: vault)
        try await service.rotate()
        await service.failNext(1)
        let interrupted = await failure { _ = try await vault.rewrapAll() }
        #expect(interrupted?.code == .keyServiceUnavailable)
        #expect(try await vault.rewrapAll().rewrapped == 4)
        await service.drop("remote/1")
        try await readAll(4, with: vault)
    }

    @Test("a key service that gives back another key than it got changes nothing")
    func lyingService() async throws {
        let service = try FakeKeyService()
        let vault = Vault(records: records, keys: service, random: OpenSSLRandomSource())
        try await fill(2, with: vault)
        let before = await records.dataKeys
        try await service.rotate()
        await service.lie()
        let error = await failure { _ = try await vault.rewrapAll() }
        #expect(error?.code == .keyServiceRefused)
        #expect(await records.dataKeys == before)
    }
}

/// What the readers of a test share.
private final class Load: Sendable {
    private let state = Mutex((isDone: false, calls: 0))
    var isDone: Bool { state.withLock { $0.isDone } }
    var calls: Int { state.withLock { $0.calls } }
    func end() { state.withLock { $0.isDone = true } }
    func countCall() { state.withLock { $0.calls += 1 } }
}
