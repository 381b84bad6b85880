// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import MilepostClient

@main
struct Milepost: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "milepost",
        abstract: "Watch short-link clicks become CRM deals: the command line of milepostd.",
        discussion: """
            From nothing to the first deal:

              milepost init                     configuration, key and first token
              milepostd                         the daemon, in another terminal
              milepost connect pipedrive        asks for the token and where deals go
              milepost import clicks FILE --format milepost
              milepost tick                     or wait five minutes
              milepost deliveries               what was made, and what waits

            Something is not as it should be: 'milepost status', 'milepost explain LINK', 'milepost doctor'.

            Talks to the daemon at MILEPOST_URL (http://127.0.0.1:8787) with MILEPOST_TOKEN, or with the token that \
            'milepost init' saved in $XDG_CONFIG_HOME/milepost/token or /etc/milepost/token. --json prints the daemon's \
            answer as it is. Exit status: 0 done, 1 refused or something is wrong, 3 daemon out of reach, 64 wrong usage.

            Completion for bash: milepost --generate-completion-script bash > /etc/bash_completion.d/milepost (zsh and fish \
            likewise).
            """,
        version: "0.1.0",
        subcommands: [
            Init.self, Status.self, Doctor.self, Connect.self, Disconnect.self, Integrations.self, Options.self,
            Import.self, Tick.self, Schedule.self, Deliveries.self, Replay.self, Explain.self, Rules.self, Held.self,
            Links.self, Members.self, Forms.self, Provision.self, Workspaces.self, Plans.self, Plugins.self,
            PluginCommand.self,
            App.self,
            Keys.self, Tokens.self, Audit.self, Backup.self, Restore.self,
            Reload.self,
            Export.self, Erase.self, ConfigurationCommand.self, Apply.self,
        ])

    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let error as ClientError {
            if CommandLine.arguments.contains("--json") { print(error.json) }
            Prompt.say("milepost: \(Terminal.harmless(error.description, keepingLines: true))\n")
            Glibc.exit(error.exitStatus.rawValue)
        } catch {
            exit(withError: error)
        }
    }
}
