// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import FoundationEssentials
import Glibc
import MilepostClient
import MilepostModel
import MilepostTemplates

/// For those who write plugins: nothing here talks to a daemon.
struct PluginCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plugin", abstract: "Make a plugin project, and check a plugin.",
        subcommands: [PluginNew.self, PluginCheckCommand.self])
}

struct PluginNew: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "new", abstract: "Make a complete plugin project that builds and passes 'milepost plugin check'.")

    @Argument(help: "Name of the plugin: small letters, digits and hyphens. Becomes the folder, too.") var name: String
    @Option(help: "c, swift, c++ or rust.") var language = "c"
    @Option(help: "The folder to make; else ./NAME. It must not be there yet.") var folder: String?
    @Flag(help: "Print the files as JSON.") var json = false

    func run() throws {
        guard let chosen = TemplateLanguage(rawValue: language.lowercased()) else {
            throw ValidationError("language '\(language)' is not one of c, swift, c++, rust")
        }
        let project: TemplateProject
        do { project = try TemplateProject(name: name, language: chosen, date: Self.today) } catch {
            throw ValidationError(error.description)
        }
        let folder = folder ?? "./\(name)"
        guard !FileManager.default.fileExists(atPath: folder) else {
            throw ClientError(
                code: "bad_file", detail: "\(folder) is there already", advice: "name another one with --folder")
        }
        do { try Self.write(project, to: folder) } catch {
            throw ClientError(code: "bad_file", detail: "\(folder) cannot be made: \(error)")
        }
        if json {
            let answer: JSONValue = [
                "folder": .string(folder), "language": .string(chosen.rawValue),
                "files": .array(project.files.map { .string($0.path) }),
            ]
            return print(answer)
        }
        for file in project.files { print("made  \(folder)/\(file.path)") }
        print("next  cd \(folder) && make && milepost plugin check build/\(name).so --vendor \(name).vendor.json")
    }

    private static func write(_ project: TemplateProject, to folder: String) throws {
        for file in project.files {
            let address = URL(fileURLWithPath: folder).appendingPathComponent(file.path)
            try FileManager.default.createDirectory(
                at: address.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(file.bytes).write(to: address)
            try FileManager.default.setAttributes(
                [.posixPermissions: file.isExecutable ? 0o755 : 0o644], ofItemAtPath: address.path)
        }
    }

    /// As a Debian changelog dates its entries.
    private static var today: String {
        var moment = time_t(ProcessEnvironment.now.milliseconds / 1000)
        var parts = unsafe tm()
        _ = unsafe gmtime_r(&moment, &parts)
        // This program never leaves the C locale, so that the names are English.
        return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { room in
            _ = unsafe strftime(room.baseAddress, room.count, "%a, %d %b %Y %H:%M:%S +0000", &parts)
            return unsafe String(cString: room.baseAddress!)
        }
    }
}

struct PluginCheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Check a plugin file: its ELF headers, manifest, life cycle and deliveries.",
        discussion:
            "Runs milepost-plugin-check; 'milepost plugin check --list' names the checks, '-- --help' its options.")

    @Argument(parsing: .captureForPassthrough, help: "FILE.so and options of milepost-plugin-check.")
    var arguments: [String] = []

    /// Becomes the checker, so that its exit status, its output and its signals are this command's.
    func run() throws {
        let own = CommandLine.arguments[0].contains("/") ? CommandLine.arguments[0] : "/proc/self/exe"
        let folder = URL(fileURLWithPath: own).resolvingSymlinksInPath().deletingLastPathComponent().path
        let path = ProcessEnvironment.current["PATH"] ?? "/usr/bin"
        let folders = [folder, "/usr/lib/milepost"] + path.split(separator: ":").map(String.init)
        let places = folders.map { "\($0)/milepost-plugin-check" }
        guard let program = places.first(where: FileManager.default.isExecutableFile(atPath:)) else {
            throw ClientError(
                code: "no_checker", detail: "milepost-plugin-check is neither at \(places[0]) nor on PATH",
                advice: "install the package 'milepost-dev', or run this from the folder that holds it")
        }
        var words: [UnsafeMutablePointer<CChar>?] = unsafe ([program] + arguments).map { unsafe strdup($0) }
        unsafe words.append(nil)
        _ = unsafe execv(program, words)
        throw ClientError(code: "no_checker", detail: "\(program) cannot be started (error \(errno))")
    }
}
