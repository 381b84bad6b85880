// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostVault
import Testing

@Suite struct TransientSecretsTests {
    private let reference = CredentialReference(connection: ConnectionID("con_new"), name: "api_token")

    private func read(_ source: any SecretSource, _ reference: CredentialReference) async throws -> String {
        try await unsafe source.withSecret(reference) { unsafe String(decoding: $0, as: UTF8.self) }
    }

    @Test("a transient secret hides the stored one until it is removed")
    func overlay() async throws {
        let directory = try ScratchDirectory()
        let vault = Vault(
            records: MemoryRecords(), keys: try makeFileProvider(directory), random: OpenSSLRandomSource())
        try await vault.store(secret("stored"), for: reference, workspace: WorkspaceID("ws"))
        let transient = TransientSecrets()
        let source = OverlaidSecrets(transient, over: vault)
        #expect(try await read(source, reference) == "stored")
        try transient.insert(secret("fresh"), for: reference)
        #expect(try await read(source, reference) == "fresh")
        transient.remove(reference)
        #expect(try await read(source, reference) == "stored")
    }

    @Test("removing a connection's secrets leaves those of others; what is gone is unknown")
    func removal() async throws {
        let transient = TransientSecrets()
        let other = CredentialReference(connection: ConnectionID("con_other"), name: "api_token")
        try transient.insert(secret("one"), for: reference)
        try transient.insert(secret("two"), for: .init(connection: reference.connection, name: "client_secret"))
        try transient.insert(secret("three"), for: other)
        transient.removeAll(of: reference.connection)
        #expect(transient.count == 1)
        #expect(try await read(transient, other) == "three")
        let error = await failure { _ = try await read(transient, reference) }
        #expect(error?.code == .secretUnknown)
    }

    @Test("their number has a bound, and replacing is no new one")
    func bound() async throws {
        let transient = TransientSecrets()
        for index in 0..<TransientSecrets.maximumCount {
            try transient.insert(secret("x"), for: .init(connection: ConnectionID("con_\(index)"), name: "t"))
        }
        try transient.insert(secret("y"), for: .init(connection: ConnectionID("con_0"), name: "t"))
        let error = await failure { try transient.insert(secret("x"), for: reference) }
        #expect(error?.code == .limitExceeded)
    }
}
