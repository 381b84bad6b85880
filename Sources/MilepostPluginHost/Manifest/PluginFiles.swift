// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux
internal import Glibc
internal import MilepostModel

/// A plugin's two files, looked at before anything of them is trusted. Blocks on the disk: not for cooperative threads.
struct PluginFiles {
    let name: PluginName
    let directory: String
    let trustedUIDs: Set<UInt32>

    var library: String { "\(directory)/\(name).so" }
    var manifest: String { "\(directory)/\(name).json" }

    /// Checks modes and owners, reads and parses the manifest.
    func inspect() throws(PluginLoadError) -> (manifest: PluginManifest, bytes: [UInt8]) {
        try checkFolder()
        let bytes = try readTrusted(manifest, missing: .manifestMissing, limit: PluginManifest.maximumBytes)
        let parsed = try PluginManifest(parsing: bytes, name: name)
        _ = try readTrusted(library, missing: .fileMissing, limit: 0)
        return (parsed, bytes)
    }

    private func checkFolder() throws(PluginLoadError) {
        var facts = milepost_file()
        let result = unsafe milepost_folder_inspect(directory, &facts)
        guard result == 0 else {
            throw refuse(.fileMissing, "the folder \(directory) cannot be read (error \(-result))")
        }
        try checkTrust(directory, facts)
    }

    /// Reads at most `limit` bytes (0: only looks).
    private func readTrusted(
        _ path: String, missing: PluginLoadError.Code, limit: Int
    ) throws(PluginLoadError) -> [UInt8] {
        var facts = milepost_file()
        let descriptor = unsafe milepost_file_open(path, &facts)
        if descriptor == -ENOENT { throw refuse(missing, "there is no file \(path); install the plugin's package") }
        if descriptor == -ELOOP {
            throw refuse(.fileUntrusted, "\(path) is a symbolic link; put the file itself there")
        }
        guard descriptor >= 0 else { throw refuse(missing, "\(path) cannot be opened (error \(-descriptor))") }
        defer { _ = milepost_descriptor_close(descriptor) }
        guard facts.mode & S_IFMT == S_IFREG else { throw refuse(.fileUntrusted, "\(path) is not a regular file") }
        try checkTrust(path, facts)
        guard limit > 0 else { return [] }
        var bytes = [UInt8](repeating: 0, count: limit + 1)
        var count = 0
        while count <= limit {
            let got = unsafe bytes.withUnsafeMutableBytes { buffer in
                unsafe milepost_descriptor_read(descriptor, buffer.baseAddress! + count, limit + 1 - count)
            }
            guard got >= 0 else { throw refuse(.manifestInvalid, "\(path) cannot be read (error \(-got))") }
            if got == 0 { break }
            count += Int(got)
        }
        bytes.removeLast(bytes.count - count)
        return bytes
    }

    private func checkTrust(_ path: String, _ facts: milepost_file) throws(PluginLoadError) {
        guard trustedUIDs.contains(facts.owner) else {
            throw refuse(
                .fileUntrusted, "\(path) belongs to uid \(facts.owner); it must belong to root or to the daemon's user")
        }
        guard facts.mode & 0o022 == 0 else {
            throw refuse(
                .fileUntrusted, "\(path) is writable by its group or by others; run chmod go-w on it")
        }
    }

    private func refuse(_ code: PluginLoadError.Code, _ detail: String) -> PluginLoadError {
        PluginLoadError(code: code, plugin: name, detail: detail)
    }

    /// Stems of the manifests in a folder, sorted; empty when it cannot be read.
    static func names(in directory: String) -> [PluginName] {
        guard let stream = unsafe opendir(directory) else { return [] }
        defer { unsafe closedir(stream) }
        var names: Set<PluginName> = []
        while let entry = unsafe readdir(stream) {
            let file = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            for ending in [".json", ".so"] where file.hasSuffix(ending) {
                let stem = String(file.dropLast(ending.count))
                if IntegrationName(stem)?.name.isEmpty == true { names.insert(PluginName(stem)) }
            }
        }
        return names.sorted()
    }
}
