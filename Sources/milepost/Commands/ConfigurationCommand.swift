// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostConfiguration
import MilepostModel

struct ConfigurationCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Check the configuration, or print its reference.",
        subcommands: [Check.self, Reference.self])

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
