// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MilepostConfiguration
import MilepostEngine
import MilepostSupervision

/// The daemon's command line. What it does is in `Initialisation` and `Daemon`.
@main
struct Milepostd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "milepostd",
        abstract: "Watches link clicks and makes what sales should know happen in the CRM, once.",
        discussion: """
            Run 'milepost init' once before the first start: it makes the configuration, the key and the first token. Then \
            talk to the daemon with 'milepost'; 'milepost config reference' prints every setting with its default.

            Runs in the foreground and logs to standard error. SIGHUP applies a changed configuration, SIGTERM stops \
            gracefully. A second daemon on the same data directory waits as a standby and takes over when the first ends.

            A database of an older version is brought up to date at the start: on a copy, which takes its place when no total \
            differs; the old one is kept beside it. --rehearse tries that before; --downgrade-store is the way back, without \
            sending anything twice.

            Exit codes: 0 stopped as asked, 1 failed, 78 the configuration is wrong.
            """,
        version: DaemonVersion.text)

    @Option(help: "The configuration file; conf.d/*.yaml beside it is merged in name order.")
    var config = "/etc/milepost/milepost.yaml"

    @Flag(name: .customLong("init"), help: "Make data directory, key and first token, print them as JSON, and end.")
    var initialises = false

    @Flag(help: "Make the key ring if there is none, and end; for packages. An existing one is never touched.")
    var makeKey = false

    @Option(help: "Put a backup in the place of the database, print what was done as JSON, and end.")
    var restore: String?

    @OptionGroup var keyChange: KeyRingChange

    @Flag(
        help:
            "Try the upgrade of the database on a copy, print the totals as JSON, and end; the database stays as it is."
    )
    var rehearse = false

    @Option(help: "With --rehearse: try it on this file, made by 'milepost backup'; the old daemon may go on working.")
    var backup: String?

    @Flag(help: "Take the database one schema version back for the daemon of the version before, and end.")
    var downgradeStore = false

    @Flag(help: "With --downgrade-store: give up what the older version has no place for.")
    var acceptLoss = false

    @Option(help: .hidden)
    var crashAt: String?

    @Flag(help: .hidden)
    var allowCrashPoints = false

    mutating func run() async throws {
        let stream = ErrorStream(environment: ProcessInfo.processInfo.environment)
        let loaded: Configuration
        do {
            loaded = try Configuration.load(path: config, environment: ProcessInfo.processInfo.environment)
        } catch {
            stream.sayError("\(error)")
            throw ExitCode(78)
        }
        do {
            try armCrashPoint()
            if makeKey {
                print(try Initialisation(configuration: loaded, path: config).makeKey())
            } else if let change = try keyChange.run(loaded) {
                print(change)
            } else if let restore {
                print(try await Restoration(configuration: loaded, path: config, backup: restore).run())
            } else if rehearse {
                print(try SchemaCommands(configuration: loaded).rehearse(backup: backup))
            } else if downgradeStore {
                print(try SchemaCommands(configuration: loaded).downgrade(acceptsLoss: acceptLoss))
            } else if initialises {
                print(try await Initialisation(configuration: loaded, path: config).run())
            } else {
                try await Daemon(configuration: loaded, path: config).run()
            }
        } catch let error as ExitCode {
            throw error
        } catch let error as HandedSocketError {
            // As wrong as a setting: a service manager that tries again meets the same.
            stream.sayError("milepostd: \(error)")
            throw ExitCode(78)
        } catch {
            stream.sayError("milepostd: \(error)")
            throw ExitCode(1)
        }
    }

    /// Tests kill the daemon at named places; nobody else should, so it takes two words to ask for it.
    private func armCrashPoint() throws {
        guard let crashAt else { return }
        guard allowCrashPoints else {
            throw ValidationError("--crash-at is for tests and needs --allow-crash-points")
        }
        let parts = crashAt.split(separator: ":")
        guard let name = parts.first.map(String.init), CrashPoint.names.contains(name) else {
            throw ValidationError("crash points are \(CrashPoint.names.joined(separator: ", "))")
        }
        CrashPoint.arm(name, count: parts.count > 1 ? max(1, Int(parts[1]) ?? 1) : 1)
    }
}

enum DaemonVersion {
    static let text = "0.1.0"
}
