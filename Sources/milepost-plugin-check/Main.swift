// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import MilepostModel
import MilepostValidator

/// `milepost plugin check` runs this; each check runs it once more with `--child`.
@main
struct PluginCheck: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "milepost plugin check",
        abstract: "Check a plugin as the daemon will use it: the file, its manifest, its life, and what it delivers.",
        discussion: """
            FILE.so with FILE.json beside it. Each check runs in a process of its own, for 45 seconds at most. A mock vendor \
            answers: --vendor says what, else FILE.vendor.json beside the plugin or in the folder above. Without one a vendor \
            that takes anything answers, and checks that it cannot satisfy are skipped with the reason; what the plugin does \
            not offer is not applicable. Exit status: 0 green, 1 a check failed, 64 wrong usage.
            """)

    @Argument(help: "The plugin: FILE.so.") var file: String?
    @Option(help: "The mock vendor's script; else FILE.vendor.json beside the plugin, or in the folder above.")
    var vendor: String?
    @Option(help: "Checks to make, by number: 1,2,29.") var only: String?
    @Option(help: "Checks to leave out, by number.") var skip: String?
    @Option(help: "Checks up to this level, 1 to 10.") var level = 10
    @Option(help: "A file that names disabled checks with the reason; else FILE.checks, found in the same way.")
    var disable: String?
    @Option(help: "Repeat the random parts of an earlier run.") var seed: UInt64?
    @Flag(help: "List the checks and what each proves.") var list = false
    @Flag(help: "Print the result as JSON.") var json = false
    @Option(help: "Write a JUnit report to this file.") var junit: String?
    @Flag(help: "Print every call of the checks.") var trace = false
    @Flag(name: .customLong("fail-fast"), help: "Stop after the first check that fails.") var failsFast = false
    @Flag(help: "Count skipped checks as failed; what does not apply to the plugin is not skipped.") var strict = false
    @Option(help: "The worker launcher; else milepost-plugin-worker beside this program or in /usr/lib/milepost.")
    var worker: String?

    @Option(help: .hidden) var child: Int?
    @Option(help: .hidden) var folder: String?
    @Option(help: .hidden) var canary: String?

    mutating func validate() throws {
        guard list || file != nil else { throw ValidationError("name the plugin: milepost plugin check FILE.so") }
        guard (1...10).contains(level) else { throw ValidationError("levels are 1 to 10") }
        if let file, !file.hasSuffix(".so") { throw ValidationError("\(file) does not end in .so") }
    }

    func run() async throws {
        if let child, let folder, let canary, let file {
            try await runChild(child, folder: folder, canary: canary, file: file)
        }
        var selection = Selection()
        selection.level = level
        selection.only = try numbers(only)
        selection.skipped = try numbers(skip)
        guard !list, let file else {
            print(json ? Report.listJSON(selection.checks).description : Report.list(selection.checks))
            return
        }
        let report = try examine(file, selection)
        if let junit { try Files.write(Array(report.junit.utf8), to: junit) }
        print(json ? report.json.description : report.summary)
        let isGood = strict ? report.isStrictlyGreen : report.isGreen
        throw isGood ? ExitCode.success : ExitCode(1)
    }

    private func numbers(_ text: String?) throws -> Set<Int> {
        guard let text else { return [] }
        var found: Set<Int> = []
        for word in text.split(separator: ",") {
            guard let number = Int(word.trimming), Catalogue.checks.contains(where: { $0.number == number }) else {
                throw ValidationError("there is no check \(word); --list names those that there are")
            }
            found.insert(number)
        }
        return found
    }

    // MARK: The examination

    private func examine(_ file: String, _ selection: Selection) throws -> Report {
        var selection = selection
        let stem = String(file.dropLast(3))
        let name = stem.split(separator: "/").last.map(String.init) ?? stem
        guard Files.isThere(file) else { throw ValidationError("there is no \(file); build the plugin first") }
        guard let library = Files.read(file) else { throw ValidationError("\(file) cannot be read") }
        if let disable = disable ?? Files.found(stem + ".checks") {
            guard let bytes = Files.read(disable) else { throw ValidationError("\(disable) cannot be read") }
            selection.disabled = try Selection.disabled(parsing: String(decoding: bytes, as: UTF8.self))
        }
        // Fails here with a sentence, not in every check.
        let script = vendor ?? Files.found(stem + ".vendor.json")
        if let script { _ = try Self.script(script) }
        let copies = try Files.copies(name: name, library: library, manifest: Files.read(stem + ".json"))
        defer { Files.remove(copies) }
        let seed = seed ?? SystemRandom().bytes(6).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let canary = "canary-" + SystemRandom().bytes(12).map { String($0, radix: 16) }.joined()
        var arguments = [file, "--folder", copies, "--canary", canary, "--seed", String(seed)]
        if let script { arguments += ["--vendor", script] }
        if let worker = worker.map(Files.absolute) ?? Files.worker { arguments += ["--worker", worker] }
        if trace { arguments += ["--trace"] }
        let examination = Examination(
            program: Files.ownPath, arguments: arguments,
            environment: ["PATH=/usr/bin:/bin", "MILEPOST_CHECK_CANARY=\(canary)"])
        var report = Report(plugin: name, seed: seed, results: [], disabled: [:])
        for check in selection.checks {
            if let reason = selection.disabled[check.number] {
                report.disabled[check.number] = reason
                if !json { print("off  \(check.number) \(check.title): \(Report.harmless(reason))") }
                continue
            }
            let result = examination.run(check)
            report.results.append(result)
            if !json {
                print(Report.line(result, color: isatty(STDOUT_FILENO) == 1))
                if trace { for line in result.trace { print("        | \(Report.harmless(line))") } }
            }
            if failsFast, case .failed = result.outcome { break }
        }
        return report
    }

    private static func script(_ path: String) throws -> VendorScript {
        guard let bytes = Files.read(path) else { throw ValidationError("\(path) cannot be read") }
        return try VendorScript(parsing: bytes)
    }

    // MARK: One check

    /// Writes what came of it to descriptor 3 and leaves at once: threads of a plugin are not waited for.
    private func runChild(_ number: Int, folder: String, canary: String, file: String) async throws -> Never {
        let name = String(file.dropLast(3).split(separator: "/").last ?? "")
        let log = TraceLog(isOn: trace)
        let subject = Subject(
            originalLibrary: file, folder: folder, name: PluginName(name),
            library: Files.read("\(folder)/\(name).so") ?? [], manifestBytes: Files.read("\(folder)/\(name).json"),
            script: try vendor.map { try Self.script($0) } ?? .anything, workerExecutable: worker ?? "",
            seed: seed ?? 0, canary: canary, trace: log)
        let outcome = await Catalogue.run(number, on: subject)
        let bytes = CheckResult.childBytes(outcome, trace: log.all)
        var written = 0
        while written < bytes.count {
            let count = unsafe bytes.withUnsafeBytes {
                unsafe write(3, $0.baseAddress! + written, bytes.count - written)
            }
            if count <= 0 { break }
            written += count
        }
        _exit(0)
    }
}

extension Substring {
    fileprivate var trimming: Substring { drop { $0 == " " } }
}
