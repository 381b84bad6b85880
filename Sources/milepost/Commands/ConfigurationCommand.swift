// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostConfiguration
import MilepostModel

struct ConfigurationCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config",
        abstract: "Check the configuration, compare it with what is in force, or print its reference.",
        subcommands: [Check.self, Diff.self, Reference.self])

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Read the configuration and say everything that is wrong.")
        @Option(help: "The main file.") var config = "/etc/milepost/milepost.yaml"
        @OptionGroup var common: Common

        func run() throws {
            do {
                let loaded = try Configuration.examine(path: config, environment: ProcessEnvironment.current)
                for warning in loaded.warnings { Prompt.say("warning: \(warning)\n") }
                print(common.json ? "{\"issues\":[]}" : "\(loaded.files.count) files, no errors")
            } catch {
                let issues = error.issues.map(\.json)
                print(common.json ? JSONValue.object(["issues": .array(issues)]).description : error.description)
                throw ExitCode(ExitStatus.failure.rawValue)
            }
        }
    }

    struct Diff: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Compare what is in force with what the files say.",
            discussion: """
                The daemon reads its own files and its environment again and says each setting that is not in force: which \
                'milepost reload' would apply, and which wait for a restart. Files and folders that are named are those of \
                'milepost apply', and what it would make, change or take away comes below. Nothing is changed.

                  milepost config diff                          the daemon's settings
                  milepost config diff /etc/milepost/apply      and connections, rules and plans

                In a script, after the files were deployed:

                  milepost config diff --json > diff.json
                  case $? in
                    0) echo 'in force already' ;;
                    2) milepost reload ;;
                    *) echo 'the files are wrong, or the daemon is out of reach' ;;
                  esac

                Exit status: 0 no difference, 2 differences, 1 the files are wrong or the daemon refused, 3 daemon out of \
                reach, 64 wrong usage. Needs a token with scope admin.
                """)
        @Argument(help: "Files and folders of 'milepost apply'.", completion: .file()) var paths: [String] = []
        @Flag(
            help:
                "Count what the files made and no longer name as a difference, as 'milepost apply --prune' would remove it."
        )
        var prune = false
        @OptionGroup var common: Common

        func run() throws {
            do {
                try compare()
            } catch let error as ConfigurationError {
                let issues = error.issues.map(\.json)
                print(common.json ? JSONValue.object(["issues": .array(issues)]).description : error.description)
                throw ExitCode(ExitStatus.failure.rawValue)
            }
        }

        private func compare() throws {
            let session = try common.session()
            let answer = try session.ask("GET", "/v1/admin/configuration/diff")
            var applied: ApplyReport?
            if !paths.isEmpty {
                let application = try Application(
                    DesiredState.load(paths: paths), over: session.client, environment: session.environment)
                let plan = try application.plan(prunes: prune)
                var report = ApplyReport(elsewhere: plan.elsewhere)
                for step in plan.steps { report.add(step, .planned) }
                applied = report
            }
            let diff = ConfigurationDiff(daemon: answer, applied: applied)
            session.show(diff.json) { _ in diff.text(session.pages.terminal) }
            if diff.exitStatus != .success { throw ExitCode(diff.exitStatus.rawValue) }
        }
    }

    struct Reference: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print every key with its meaning and default, as YAML.")
        @OptionGroup var common: Common

        func run() {
            let text = Configuration.reference()
            print(common.json ? JSONValue.object(["reference": .string(text)]).description : text, terminator: "")
        }
    }
}
