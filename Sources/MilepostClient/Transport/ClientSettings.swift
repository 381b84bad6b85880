// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc

/// Where the daemon is, who asks, and about which workspace.
public struct ClientSettings: Sendable, Equatable {
    /// Without a trailing slash.
    public var url: String
    /// Nil when none was found: health and readiness need none.
    public var token: String?
    public var workspace: String
    /// Where a token was looked for.
    public var tokenFiles: [String]

    public init(url: String, token: String?, workspace: String = "default", tokenFiles: [String] = []) {
        self.url = url
        self.token = token
        self.workspace = workspace
        self.tokenFiles = tokenFiles
    }

    /// `MILEPOST_URL` (default `http://127.0.0.1:8787`), `MILEPOST_TOKEN`, `MILEPOST_WORKSPACE` (default `default`).
    ///
    /// Without a token in the environment the first file that can be read gives it: `MILEPOST_TOKEN_FILE`, else
    /// `$XDG_CONFIG_HOME/milepost/token` (`~/.config` by default), then `/etc/milepost/token`.
    public static func resolve(environment: [String: String], workspace: String? = nil) throws(ClientError)
        -> ClientSettings
    {
        let url = environment["MILEPOST_URL"].flatMap { $0.isEmpty ? nil : $0 } ?? "http://127.0.0.1:8787"
        guard ["http://", "https://"].contains(where: { url.hasPrefix($0) && url.utf8.count > $0.utf8.count }),
            url.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7f })
        else {
            throw ClientError(
                code: "bad_url", detail: "MILEPOST_URL is '\(url)'", advice: "write it as http://127.0.0.1:8787")
        }
        var settings = ClientSettings(
            url: url.hasSuffix("/") ? String(url.dropLast()) : url, token: nil,
            workspace: workspace ?? environment["MILEPOST_WORKSPACE"].flatMap { $0.isEmpty ? nil : $0 } ?? "default",
            tokenFiles: tokenFiles(environment: environment))
        if let token = environment["MILEPOST_TOKEN"], !token.isEmpty {
            settings.token = try checked(token, from: "MILEPOST_TOKEN")
        } else {
            for file in settings.tokenFiles {
                guard let data = FileManager.default.contents(atPath: file), data.count <= 4096 else { continue }
                let text = String(decoding: data, as: UTF8.self).split(whereSeparator: \.isWhitespace).first.map(
                    String.init)
                if let text { settings.token = try checked(text, from: file) }
                break
            }
        }
        return settings
    }

    /// A line feed in a token would add headers of its own to every request.
    private static func checked(_ token: String, from source: String) throws(ClientError) -> String {
        guard token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw ClientError(code: "bad_input", detail: "\(source) holds characters that no token has")
        }
        return token
    }

    static func tokenFiles(environment: [String: String]) -> [String] {
        if let file = environment["MILEPOST_TOKEN_FILE"], !file.isEmpty { return [file] }
        let configuration =
            environment["XDG_CONFIG_HOME"].flatMap { $0.hasPrefix("/") ? $0 : nil }
            ?? environment["HOME"].map { $0 + "/.config" }
        return (configuration.map { [$0 + "/milepost/token"] } ?? []) + ["/etc/milepost/token"]
    }

    /// Writes the token where `resolve` finds it, readable by its owner only.
    ///
    /// - Returns: the file's path.
    public static func save(token: String, environment: [String: String]) throws(ClientError) -> String {
        let file = tokenFiles(environment: environment)[0]
        let directory = String(file[..<(file.lastIndex(of: "/") ?? file.startIndex)])
        do {
            if !directory.isEmpty {
                try FileManager.default.createDirectory(
                    atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            }
            try PrivateFile.write(Array((token + "\n").utf8), to: file)
        } catch {
            throw ClientError(
                code: "bad_file", detail: "\(file) cannot be written: \(error)",
                advice: "name another with MILEPOST_TOKEN_FILE, or pass --no-save and keep the token yourself")
        }
        return file
    }
}

/// Files that only their owner reads.
enum PrivateFile {
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// Written beside and renamed, so that a reader sees the old content or the new, and never with a wider mode.
    static func write(_ bytes: [UInt8], to path: String) throws(Failure) {
        let temporary = "\(path).new.\(getpid())"
        // What an earlier process of this number left, with whatever mode and owner, is not written into.
        unsafe unlink(temporary)
        let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Failure(description: unsafe String(cString: strerror(errno))) }
        var written = 0
        while written < bytes.count {
            let count = unsafe bytes[written...].withUnsafeBytes {
                unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            written += count
        }
        let isComplete = written == bytes.count && fsync(descriptor) == 0
        close(descriptor)
        guard isComplete, unsafe rename(temporary, path) == 0 else {
            let reason = unsafe String(cString: strerror(errno))
            unsafe unlink(temporary)
            throw Failure(description: reason)
        }
    }
}
