// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostModel
import MilepostVault
import Testing

/// The checks read what fstat says, so they hold for root too, whom the kernel would let read anything (decisions 40).
@Suite struct KeyRingFileTests {
    private let directory: ScratchDirectory
    private let file: KeyRingFile

    init() throws {
        directory = try ScratchDirectory()
        file = KeyRingFile(path: directory.file("kek"))
    }

    private static let key = Data(repeating: 0x4b, count: 32).base64EncodedString()
    private static let line = "mpkek1 kek-a \(key) 2026-01-31T12:00:00Z\n"

    private func status() throws -> stat {
        var status = stat()
        let isRead = unsafe stat(file.path, &status) == 0
        try #require(isRead)
        return status
    }

    private func create() throws -> KeyRing { try file.create(createdAt: someTime, random: SeededRandom(1)) }

    @Test("a new ring is a file of mode 0600 with one key, whatever the umask, and reads back")
    func creation() throws {
        let ring = try create()
        #expect(try status().st_mode & 0o7777 == 0o600)
        #expect(try file.read().keys.map(\.id) == ring.keys.map(\.id))
        #expect(ring.current.id.hasPrefix("kek-20261118-"))
        #expect(try file.read().current.created == someTime)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["kek"])
    }

    @Test("creating over an existing ring is refused and leaves it alone")
    func noOverwrite() async throws {
        let ring = try create()
        let error = await failure { _ = try file.create(createdAt: someTime, random: SeededRandom(2)) }
        #expect(error?.code == .keyRingBusy)
        #expect(try file.read().current.id == ring.current.id)
    }

    @Test(
        "SEC-09: a ring that others could read or write is refused, with the cure",
        arguments: [0o644, 0o640, 0o660, 0o604, 0o602, 0o620, 0o666, 0o700, 0o4600] as [mode_t])
    func untrustedModes(mode: mode_t) async throws {
        try write(Self.line, to: file.path, mode: mode)
        // Not root's group, so that the allowance for systemd's access lists does not apply.
        if geteuid() == 0 { try #require(unsafe chown(file.path, 0, 65_534) == 0) }
        try #require(unsafe chmod(file.path, mode) == 0)
        let error = await failure { _ = try file.read() }
        #expect(error?.code == .keyRingUntrusted)
        #expect(error?.detail.contains("chmod 0600") == true)
    }

    @Test("modes 0600 and 0400 are taken", arguments: [0o600, 0o400] as [mode_t])
    func trustedModes(mode: mode_t) throws {
        try write(Self.line, to: file.path, mode: mode)
        #expect(try file.read().current.id == "kek-a")
    }

    @Test(
        "a credential that systemd granted by an access list (0440, root's group) is taken",
        .enabled(if: geteuid() == 0))
    func systemdCredential() async throws {
        try write(Self.line, to: file.path, mode: 0o440)
        #expect(try KeyRingFile(path: file.path, ownUID: 4711).read().current.id == "kek-a")
        try #require(unsafe chmod(file.path, 0o444) == 0)
        let error = await failure { _ = try file.read() }
        #expect(error?.code == .keyRingUntrusted)
    }

    @Test("a ring of another user is refused, root's and our own are taken", .enabled(if: geteuid() == 0))
    func owners() async throws {
        try write(Self.line, to: file.path)
        try #require(unsafe chown(file.path, 4711, 4711) == 0)
        #expect(try KeyRingFile(path: file.path, ownUID: 4711).read().current.id == "kek-a")
        let error = await failure { _ = try KeyRingFile(path: file.path, ownUID: 4712).read() }
        #expect(error?.code == .keyRingUntrusted)
    }

    @Test("what is no regular file is refused at once, a FIFO among them")
    func irregular() async throws {
        try #require(unsafe mkfifo(file.path, 0o600) == 0)
        #expect(await failure { _ = try file.read() }?.code == .keyRingUntrusted)
        let folder = KeyRingFile(path: directory.path)
        #expect(await failure { _ = try folder.read() }?.code == .keyRingUntrusted)
    }

    @Test("an absent ring says where to take one from")
    func absent() async {
        let error = await failure { _ = try file.read() }
        #expect(error?.code == .keyRingUnreadable)
        #expect(error?.detail.contains("backup") == true && error?.detail.contains("milepost init") == true)
    }

    static let malformedRings: [String] = [
        "", "\n\n", "# nothing but a comment\n", "mpkek2 kek-a \(key) 2026-01-31T12:00:00Z\n",
        "mpkek1 kek-a \(key)\n", "mpkek1  kek-a \(key) 2026-01-31T12:00:00Z\n",
        "mpkek1 KEK \(key) 2026-01-31T12:00:00Z\n", "mpkek1 ../a \(key) 2026-01-31T12:00:00Z\n",
        "mpkek1 \(String(repeating: "a", count: 65)) \(key) 2026-01-31T12:00:00Z\n",
        "mpkek1 kek-a \(key.dropLast(4)) 2026-01-31T12:00:00Z\n", "mpkek1 kek-a \(key)AAAA 2026-01-31T12:00:00Z\n",
        "mpkek1 kek-a \(key.dropLast())A 2026-01-31T12:00:00Z\n",
        "mpkek1 kek-a \(key.dropLast(2))B= 2026-01-31T12:00:00Z\n",
        "mpkek1 kek-a \(key.replacingOccurrences(of: "S", with: "-")) 2026-01-31T12:00:00Z\n",
        "mpkek1 kek-a \(key) yesterday\n", "mpkek1 kek-a \(key) 2026-02-31T12:00:00Z\n", line + line,
        line + "mpkek1 kek-b \(key) \u{0}\n", line.replacingOccurrences(of: "\n", with: "\r\n"),
        String(repeating: "#", count: KeyRing.maximumFileByteCount) + "\n" + line,
        (0...KeyRing.maximumKeyCount).map { "mpkek1 k\($0) \(key) 2026-01-31T12:00:00Z\n" }.joined(),
    ]

    @Test("a malformed ring is refused by line, and no key shows in the error", arguments: malformedRings.indices)
    func malformed(index: Int) async throws {
        let content = Self.malformedRings[index]
        try write(content, to: file.path)
        let error = await failure { _ = try file.read() }
        #expect(error?.code == .keyRingMalformed)
        #expect(error.map { "\($0)".contains(Self.key.prefix(12)) } == false)
        #expect(error?.detail.contains("restore it from where you keep a copy") == true)
    }

    @Test("comments, empty lines and a missing last line end are taken; the last key is current")
    func tolerant() throws {
        let second = "mpkek1 kek-b \(Data(repeating: 1, count: 32).base64EncodedString()) 2026-02-28T00:00:00+02:00"
        try write("# ring\n\n\(Self.line)\n\(second)", to: file.path)
        let ring = try file.read()
        #expect(ring.keys.map(\.id) == ["kek-a", "kek-b"])
        #expect(ring.current.id == "kek-b")
    }

    @Test("SEC-11: an added key becomes current and the old one stays; the current one cannot be dropped")
    func rotation() async throws {
        let first = try create().current.id
        let second = try file.addKey(createdAt: someTime, random: SeededRandom(2)).current.id
        #expect(try file.read().keys.map(\.id) == [first, second])
        #expect(await failure { _ = try file.dropKey(second) }?.code == .keyInUse)
        #expect(await failure { _ = try file.dropKey("kek-unknown") }?.code == .keyUnknown)
        _ = try file.dropKey(first)
        #expect(try file.read().keys.map(\.id) == [second])
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["kek"])
    }

    @Test("a ring full of keys asks for old ones to be dropped, and fits its file")
    func full() async throws {
        let random = SeededRandom(3)
        _ = try file.create(createdAt: someTime, random: random)
        for _ in 1..<KeyRing.maximumKeyCount { _ = try file.addKey(createdAt: someTime, random: random) }
        #expect(await failure { _ = try file.addKey(createdAt: someTime, random: random) }?.code == .limitExceeded)
        #expect(try file.read().keys.count == KeyRing.maximumKeyCount)
    }

    @Test("while another change is under way, or a crash left its file, nothing is changed")
    func locked() async throws {
        let ring = try create()
        try write("half of a ring", to: file.path + ".new")
        let error = await failure { _ = try file.addKey(createdAt: someTime, random: SeededRandom(2)) }
        #expect(error?.code == .keyRingBusy)
        #expect(error?.detail.contains(".new") == true)
        #expect(try file.read().current.id == ring.current.id)
        #expect(FileManager.default.fileExists(atPath: file.path + ".new"), "another's pending file was removed")
    }

    @Test("a change keeps owner and mode: root may rotate the daemon's ring", .enabled(if: geteuid() == 0))
    func keepsOwner() throws {
        _ = try create()
        try #require(unsafe chown(file.path, 4711, 4712) == 0)
        try #require(unsafe chmod(file.path, 0o400) == 0)
        _ = try KeyRingFile(path: file.path, ownUID: 4711).addKey(createdAt: someTime, random: SeededRandom(2))
        let after = try status()
        #expect(after.st_uid == 4711 && after.st_gid == 4712 && after.st_mode & 0o7777 == 0o400)
    }

    @Test("a link is read through but not written over")
    func link() async throws {
        let ring = try create()
        let link = KeyRingFile(path: directory.file("link"))
        try #require(unsafe symlink(file.path, link.path) == 0)
        #expect(try link.read().current.id == ring.current.id)
        let error = await failure { _ = try link.addKey(createdAt: someTime, random: SeededRandom(2)) }
        #expect(error?.code == .keyRingUntrusted)
    }

    @Test("SEC-07: a ring inside the data directory is refused, by a link too, absent or not; a neighbour is not")
    func dataDirectory() async throws {
        let data = directory.file("data")
        for folder in [data, directory.file("data-keys")] { try #require(unsafe mkdir(folder, 0o700) == 0) }
        func verdict(_ path: String) async -> VaultError.Code? {
            await failure { try KeyRingFile(path: path).checkOutside(dataDirectory: data) }?.code
        }
        #expect(await verdict(data + "/kek") == .keyInsideDataDirectory)
        #expect(await verdict(directory.file("data-keys/../data/kek")) == .keyInsideDataDirectory)
        #expect(await verdict(directory.file("data-keys/kek")) == nil)
        try #require(unsafe symlink(data, directory.file("alias")) == 0)
        #expect(await verdict(directory.file("alias/kek")) == .keyInsideDataDirectory)
        try write(Self.line, to: data + "/kek")
        try #require(unsafe symlink(data + "/kek", directory.file("data-keys/kek")) == 0)
        #expect(await verdict(directory.file("data-keys/kek")) == .keyInsideDataDirectory)
    }

    @Test("a reload that fails keeps the ring in use")
    func reload() async throws {
        let ring = try create()
        let provider = try FileKeyProvider(file: file, random: OpenSSLRandomSource())
        try write("rubbish", to: file.path)
        #expect(await failure { try provider.reload() }?.code == .keyRingMalformed)
        #expect(try await provider.currentKeyID() == ring.current.id)
        try write(Self.line, to: file.path)
        try provider.reload()
        #expect(try await provider.currentKeyID() == "kek-a")
    }
}
