// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostConfiguration
import MilepostModel
import Testing

#if canImport(Glibc)
    import Glibc
#endif

@Suite("doctor without a daemon")
struct ExaminationTests {
    private let now = Timestamp(rfc3339: "2026-11-21T12:00:00Z")!

    private func findings(
        listen: String = "127.0.0.1:0", key keyMode: Int = 0o400, chown path: String? = nil,
        ring: String = "# made on a Monday\nmpkek1 kek-1 AAAA 2026-11-21T12:00:00Z\n", more: String = "",
        user: String? = nil, prepare: (String) throws -> Void = { _ in }
    ) throws -> [Finding] {
        let folder = FileManager.default.temporaryDirectory.path + "/milepost-doctor-\(UUID().uuidString)"
        let files = FileManager.default
        try files.createDirectory(
            atPath: folder + "/data", withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        try files.setAttributes([.posixPermissions: 0o755], ofItemAtPath: folder)
        // Best effort: a folder left behind in the temporary directory harms nobody.
        defer { try? files.removeItem(atPath: folder) }
        for (file, content) in [("/kek", ring), ("/data/milepost.db", "")] {
            try #require(
                files.createFile(
                    atPath: folder + file, contents: Data(content.utf8), attributes: [.posixPermissions: keyMode]))
        }
        let text = "data_dir: \(folder)/data\nlisten: \"\(listen)\"\nkms:\n  path: \(folder)/kek\n\(more)"
        try Data(text.utf8).write(to: URL(filePath: folder + "/milepost.yaml"))
        if let path { try files.setAttributes([.ownerAccountID: 65_534], ofItemAtPath: folder + path) }
        if let user {
            try files.createDirectory(atPath: folder + "/units", withIntermediateDirectories: false)
            let unit =
                "ExecStart=/usr/sbin/milepostd --config \(folder)/milepost.yaml\nUser=\(user)\n"
                + "LoadCredential=kek:\(folder)/kek\n"
            try Data(unit.utf8).write(to: URL(filePath: folder + "/units/milepost.service"))
        }
        try prepare(folder)
        return Examination(environment: [:], now: now, unitFolders: [folder + "/units"])
            .run(path: folder + "/milepost.yaml").findings
    }

    @Test(
        "a private folder and key of one user, and a free port of either family, are right",
        arguments: ["127.0.0.1:0", "[::1]:0", "127.0.0.1:59187", "[::1]:59187", "localhost:59187"])
    func right(listen: String) throws {
        let found = try findings(listen: listen)
        #expect(found.allSatisfy { $0.severity == .ok }, "\(found)")
        #expect(found.contains { $0.code == "port" })
    }

    @Test("a key that others can read is named with the way out")
    func openKey() throws {
        let finding = try #require(try findings(key: 0o444).first { $0.code == "kek_mode" })
        #expect(finding.severity == .problem && finding.cure.hasPrefix("chmod"))
    }

    @Test(
        "a ring that holds something else is a problem, and nothing of it is shown",
        arguments: ["", "hunter2\n", "mpkek1 a\n"])
    func strangeKey(ring: String) throws {
        let finding = try #require(try findings(ring: ring).first { $0.area == .key })
        #expect(finding.code == "kek_malformed" && finding.severity == .problem)
        #expect(!"\(finding)".contains("hunter2"))
    }

    @Test(
        "less space than is asked for is a problem, with the setting's name; 0 asks for none",
        arguments: ["0", "1048576GiB"])
    func space(least: String) throws {
        let finding = try #require(
            try findings(more: "limits:\n  least_free_disk: \(least)\n").first { $0.area == .disk })
        #expect(finding.severity == (least == "0" ? .ok : .problem))
        if least != "0" { #expect(finding.cause.contains("limits.least_free_disk is 1048576GiB")) }
    }

    @Test(
        "an address that this machine does not have is a problem, IPv6 too",
        arguments: ["192.0.2.1:59188", "[2001:db8::1]:59188"])
    func foreignAddress(listen: String) throws {
        #expect(try findings(listen: listen).first { $0.code == "port" }?.severity == .problem)
    }

    @Test(
        "a key or a database of another user is a problem", .enabled(if: getuid() == 0),
        arguments: [("/kek", "kek_owner"), ("/data/milepost.db", "data_dir_owner")])
    func otherOwner(path: String, code: String) throws {
        let finding = try #require(try findings(chown: path).first { $0.code == code })
        #expect(finding.severity == .problem && finding.cause.contains("65534"))
    }

    @Test("a data_dir of root's is given to whoever works in it, never to root", .enabled(if: getuid() == 0))
    func rootsFolder() throws {
        // By the owner of the database, and by the unit where that is root's, too.
        for found in [try findings(chown: "/data/milepost.db"), try findings(user: "nobody")] {
            let finding = try #require(found.first { $0.code == "data_dir_owner" })
            #expect(finding.severity == .problem && finding.cure.hasPrefix("chown -R nobody: "), "\(finding)")
        }
        let right = try findings(user: "nobody") { folder in
            for path in ["/data", "/data/milepost.db"] { _ = unsafe chown(folder + path, 65_534, 65_534) }
        }
        #expect(right.allSatisfy { $0.severity == .ok }, "\(right)")
    }

    @Test(
        "a configuration that root can read and the daemon's user cannot is a problem, once for each file or folder",
        .enabled(if: getuid() == 0),
        arguments: [
            ("/milepost.yaml", 0o600, 0, "r"), ("/milepost.yaml", 0o640, 0, "r"), ("/conf.d", 0o711, 0, "rx"),
            ("/conf.d/10-crm.yaml", 0o600, 0, "r"), ("/milepost.yaml", 0o640, 65_534, nil),
            ("/milepost.yaml", 0o604, 0, nil), ("/conf.d", 0o750, 65_534, nil),
        ])
    func unreadable(path: String, mode: mode_t, group: gid_t, cure: String?) throws {
        let found = try findings(user: "nobody") { folder in
            for path in ["/data", "/data/milepost.db"] { _ = unsafe chown(folder + path, 65_534, 65_534) }
            try FileManager.default.createDirectory(
                atPath: folder + "/conf.d", withIntermediateDirectories: false, attributes: [.posixPermissions: 0o755])
            for name in ["10-crm", "20-more"] {
                try Data("plugins: {}\n".utf8).write(to: URL(filePath: "\(folder)/conf.d/\(name).yaml"))
            }
            _ = unsafe chown(folder + path, 0, group)
            _ = unsafe chmod(folder + path, mode)
        }.filter { $0.severity == .problem }
        #expect(found.map(\.code) == (cure == nil ? [] : ["configuration_unreadable"]), "\(found)")
        if let cure, let first = found.first {
            #expect(
                first.what.contains("nobody") && first.what.hasSuffix(path) && first.cure.hasPrefix("chmod a+\(cure) /")
            )
        }
    }

    @Test("an installation without a database is not called fine")
    func notSetUp() throws {
        let found = try findings { try FileManager.default.removeItem(atPath: $0 + "/data/milepost.db") }
        let finding = try #require(found.first { $0.severity != .ok })
        #expect(finding.code == "not_set_up" && finding.severity == .problem && finding.cure.contains("milepost init"))
    }
}
