// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import FoundationEssentials
import Glibc

/// Files of an examination.
enum Files {
    /// More than any plugin has; a larger file is no plugin.
    static let mostBytes = 256 << 20

    static func read(_ path: String) -> [UInt8]? {
        var status = stat()
        guard unsafe stat(path, &status) == 0, status.st_size <= mostBytes,
            let data = FileManager.default.contents(atPath: path)
        else { return nil }
        return [UInt8](data)
    }

    static func isThere(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

    /// A file of the project: beside the plugin, or in the folder above, where a project keeps it whose plugin lies in build/.
    static func found(_ path: String) -> String? {
        if isThere(path) { return path }
        let url = URL(fileURLWithPath: path).standardizedFileURL
        let above = url.deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent(
            url.lastPathComponent)
        return isThere(above.path) ? above.path : nil
    }

    static func write(_ bytes: [UInt8], to path: String) throws {
        do { try Data(bytes).write(to: URL(fileURLWithPath: path)) } catch {
            throw ValidationError("\(path) cannot be written: \(error)")
        }
    }

    /// A folder of our own with the plugin's two files, so that modes and owners of a build folder do not matter to the
    /// checks that load it (check 12 looks at the originals).
    static func copies(name: String, library: [UInt8], manifest: [UInt8]?) throws -> String {
        var template = Array("\(temporaryFolder)/milepost-check-XXXXXX".utf8CString)
        let made = unsafe template.withUnsafeMutableBufferPointer { unsafe mkdtemp($0.baseAddress!) != nil }
        guard made else { throw ValidationError("no temporary folder can be made in \(temporaryFolder)") }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // Workers run as the same user, but Landlock looks at the path.
        unsafe chmod(folder, 0o755)
        do {
            try write(library, to: "\(folder)/\(name).so")
            unsafe chmod("\(folder)/\(name).so", 0o755)
            if let manifest {
                try write(manifest, to: "\(folder)/\(name).json")
                unsafe chmod("\(folder)/\(name).json", 0o644)
            }
        } catch {
            remove(folder)
            throw error
        }
        return folder
    }

    private static var temporaryFolder: String {
        unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? "/tmp"
    }

    static func remove(_ folder: String) {
        try? FileManager.default.removeItem(atPath: folder)  // a folder left in /tmp harms nobody
    }

    static var ownPath: String {
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    }

    /// A host starts its workers in another folder.
    static func absolute(_ path: String) -> String { URL(fileURLWithPath: path).standardizedFileURL.path }

    /// The worker launcher of this installation.
    static var worker: String? {
        let folder = String(ownPath.prefix(upTo: ownPath.lastIndex(of: "/") ?? ownPath.startIndex))
        return [
            "\(folder)/milepost-plugin-worker", "/usr/lib/milepost/milepost-plugin-worker",
        ].first(where: FileManager.default.isExecutableFile(atPath:))
    }
}
