// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostConfiguration
import Testing

@Suite("a systemd unit as it is installed")
struct UnitFileTests {
    private func unit(_ files: [String: String], masked: [String] = []) throws -> [String] {
        let root = FileManager.default.temporaryDirectory.path + "/milepost-unit-\(UUID().uuidString)"
        // Best effort: a folder left behind in the temporary directory harms nobody.
        defer { try? FileManager.default.removeItem(atPath: root) }
        for folder in ["etc", "lib"] {
            try FileManager.default.createDirectory(
                atPath: "\(root)/\(folder)/a.service.d", withIntermediateDirectories: true)
        }
        for (name, text) in files { try Data(text.utf8).write(to: URL(filePath: "\(root)/\(name)")) }
        for name in masked {
            try FileManager.default.createSymbolicLink(atPath: "\(root)/\(name)", withDestinationPath: "/dev/null")
        }
        return UnitFile(name: "a.service", folders: ["\(root)/etc", "\(root)/lib"]).settings("Key")
    }

    @Test("drop-ins count in the order of their names, and an administrator's hides a package's of the same name")
    func order() throws {
        let lib = ["lib/a.service": "[Service]\nKey=1\n", "lib/a.service.d/20.conf": "Key=20\n"]
        #expect(try unit(lib) == ["1", "20"])
        #expect(try unit(lib.merging(["etc/a.service.d/10.conf": "Key=10\n"]) { $1 }) == ["1", "10", "20"])
        #expect(try unit(lib.merging(["etc/a.service.d/10.conf": "Key=\nKey=10\n"]) { $1 }) == ["10", "20"])
        #expect(try unit(lib.merging(["etc/a.service.d/20.conf": "Key=own\n"]) { $1 }) == ["1", "own"])
        #expect(try unit(lib, masked: ["etc/a.service.d/20.conf"]) == ["1"])
        #expect(try unit(lib.merging(["etc/a.service": "Key=2\n"]) { $1 }) == ["2", "20"])
    }

    @Test("without the unit itself there is nothing, whatever drop-ins lie about")
    func none() throws { #expect(try unit(["lib/a.service.d/20.conf": "Key=20\n"]).isEmpty) }

    @Test("the package's unit is the one of the usual configuration, and of no other")
    func package() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let folders = [root.path + "/packaging/debian"]
        #expect(ServiceUnit(configuration: "/etc/milepost/milepost.yaml", folders: folders) != nil)
        #expect(ServiceUnit(configuration: "/srv/try/milepost.yaml", folders: folders) == nil)
        #expect(ServiceUnit(configuration: "/etc/milepost/milepost.yaml", folders: ["/nowhere"]) == nil)
    }
}
