// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
public import MilepostModel

/// Runs `milepostd --init`, which makes configuration, key, database and first token under the data directory's lock
/// (decisions 34).
public enum DaemonInitialisation {
    /// - Parameters:
    ///   - configuration: the file to make or to use.
    ///   - template: what a new configuration file holds; an existing one is left alone.
    ///   - ownPath: this program's path; the daemon beside it is meant, else the one on `PATH`.
    /// - Returns: the daemon's JSON, with `token`, `config` and `kek`.
    public static func run(
        configuration: String, template: String, ownPath: String, environment: [String: String]
    ) throws(ClientError) -> JSONValue {
        let daemon = try find(ownPath: ownPath, environment: environment)
        try writeIfMissing(template, to: configuration)
        return try answer(of: daemon, ["--init", "--config", configuration], environment: environment)
    }

    /// Runs `milepostd --restore`: a backup takes the database's place (EXT-18).
    ///
    /// - Throws: `restore_failed`; the daemon's own words are on standard error then.
    public static func restore(
        backup: String, configuration: String, ownPath: String, environment: [String: String]
    ) throws(ClientError) -> JSONValue {
        try answer(
            of: find(ownPath: ownPath, environment: environment),
            ["--restore", URL(fileURLWithPath: backup).path, "--config", configuration], environment: environment,
            code: "restore_failed")
    }

    /// Runs `milepostd --new-key` or `--drop-key`: changes the key ring that the running daemon has a read-only copy of.
    /// - Parameters:
    ///   - change: `--new-key`, or `--drop-key` and the key's id.
    ///   - current: the key that the running daemon uses now; the ring of another installation is left alone.
    public static func changeKeyRing(
        _ change: [String], current: String, configuration: String, ownPath: String, environment: [String: String]
    ) throws(ClientError) -> JSONValue {
        try answer(
            of: find(ownPath: ownPath, environment: environment),
            change + ["--current-key", current, "--config", configuration], environment: environment,
            failure: ClientError(
                code: "key_ring_read_only", detail: "the key ring was not changed",
                advice: "milepostd's own message stands above"))
    }

    /// This program's own path, from what it was called with.
    public static func ownPath(_ arguments: [String]) -> String {
        arguments.first.flatMap { $0.contains("/") ? $0 : nil } ?? "/proc/self/exe"
    }

    private static func find(ownPath: String, environment: [String: String]) throws(ClientError) -> String {
        let folder = URL(fileURLWithPath: ownPath).resolvingSymlinksInPath().deletingLastPathComponent().path
        // Packages have the daemon in sbin, which is not on everybody's PATH.
        let near = ["\(folder)/milepostd", "\(folder)/../sbin/milepostd"]
        let folders = (environment["PATH"] ?? "/usr/bin").split(separator: ":").map { "\($0)/milepostd" }
        guard let daemon = (near + folders).first(where: FileManager.default.isExecutableFile(atPath:)) else {
            throw ClientError(
                code: "no_daemon", detail: "milepostd is neither in \(folder) nor on PATH",
                advice: "install the package 'milepost', or run this from the folder that holds milepostd")
        }
        return daemon
    }

    private static func answer(
        of daemon: String, _ arguments: [String], environment: [String: String], code: String = "init_failed",
        failure: ClientError? = nil
    ) throws(ClientError) -> JSONValue {
        let ended = try ChildProgram.run(daemon, arguments, environment: environment)
        // The daemon has said on standard error, which is ours too, what stopped it.
        guard ended.status == 0, let answer = try? JSONValue(parsing: ended.output) else {
            throw failure
                ?? ClientError(
                    code: code, detail: "\(daemon) \(arguments[0]) ended with status \(ended.status)",
                    advice:
                        "its own message stands above; a daemon that runs on the same data directory must be stopped first"
                )
        }
        return answer
    }

    /// The file holds no secret, so that everyone may read it.
    private static func writeIfMissing(_ template: String, to path: String) throws(ClientError) {
        guard !FileManager.default.fileExists(atPath: path) else { return }
        let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try Data(template.utf8).write(to: URL(fileURLWithPath: path), options: .withoutOverwriting)
        } catch {
            throw ClientError(
                code: "bad_file", detail: "\(path) cannot be made: \(error)",
                advice: "run this as root, or name a file you may write with --config")
        }
    }
}
