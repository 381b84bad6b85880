// SPDX-License-Identifier: Apache-2.0

internal import CMilepostProbe
internal import MilepostModel

/// One check with what came of it.
public struct CheckResult: Sendable {
    public let check: Check
    public let outcome: Outcome
    public let milliseconds: UInt64
    public let trace: [String]
    /// The end of what the process printed, when it failed.
    public let output: String

    public init(check: Check, outcome: Outcome, milliseconds: UInt64, trace: [String], output: String) {
        self.check = check
        self.outcome = outcome
        self.milliseconds = milliseconds
        self.trace = trace
        self.output = output
    }
}

/// Which checks are made.
public struct Selection: Sendable {
    public var level = 10
    public var only: Set<Int> = []
    public var skipped: Set<Int> = []
    /// Number and reason, from the project's disable file.
    public var disabled: [Int: String] = [:]

    public init() {}

    public var checks: [Check] {
        Catalogue.checks.filter { check in
            (only.isEmpty || only.contains(check.number)) && !skipped.contains(check.number) && check.level <= level
        }
    }

    /// Reads a disable file: a line is a number, white space, and the reason, which must be there. `#` begins a comment.
    public static func disabled(parsing text: String) throws(ScriptError) -> [Int: String] {
        var found: [Int: String] = [:]
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let words = line.prefix { $0 != "#" }.split(maxSplits: 1) { $0.isWhitespace }
            guard let first = words.first else { continue }
            guard let number = Int(first), Catalogue.checks.contains(where: { $0.number == number }), words.count == 2
            else {
                throw ScriptError(
                    description: "line \(index + 1) of the disable file is no number of a check followed by a reason")
            }
            found[number] = words[1].split { $0.isWhitespace }.joined(separator: " ")
        }
        return found
    }
}

/// Runs checks, each in a process of its own with a cap on its time.
public struct Examination: Sendable {
    /// Seconds a check may take before its process is killed.
    public static let capSeconds: UInt64 = 45
    static let mostResultBytes = 4 << 20
    static let mostOutputBytes = 64 << 10

    /// The program that makes one check: its path, and the arguments before `--child N`.
    let program: String
    let arguments: [String]
    let environment: [String]
    let cap: UInt64

    public init(program: String, arguments: [String], environment: [String], capSeconds: UInt64 = Self.capSeconds) {
        self.program = program
        self.arguments = arguments
        self.environment = environment
        cap = capSeconds
    }

    public func run(_ check: Check) -> CheckResult {
        var result = [UInt8](repeating: 0, count: Self.mostResultBytes)
        var output = [UInt8](repeating: 0, count: Self.mostOutputBytes)
        var child = mp_child()
        let line = [program] + arguments + ["--child", String(check.number)]
        let error = unsafe withCStrings(line) { arguments in
            unsafe withCStrings(environment) { environment in
                unsafe mp_child_run(
                    program, arguments, environment, cap * 1000, &result, result.count, &output, output.count, &child)
            }
        }
        let printed = String(decoding: output.prefix(Int(child.output_len)), as: UTF8.self)
        let json = try? JSONValue(
            parsing: Array(result.prefix(Int(child.result_len))),
            limits: JSONLimits(bytes: Self.mostResultBytes, depth: 16))
        let outcome: Outcome
        if error != 0 {
            outcome = .failed("its process cannot be started (error \(-error))")
        } else if child.timed_out != 0 {
            outcome = .failed("it did not end within \(cap) s and was killed")
        } else if let json, let told = Outcome(json) {
            outcome = told
        } else if child.signal != 0 {
            outcome = .failed(
                "the plugin brought its process down with signal \(child.signal)\(Self.name(child.signal))")
        } else {
            outcome = .failed("the plugin ended its process with status \(child.exit_status)")
        }
        var isFailure = false
        if case .failed = outcome { isFailure = true }
        return CheckResult(
            check: check, outcome: outcome, milliseconds: child.duration_ns / 1_000_000,
            trace: (json?["trace"]?.array ?? []).compactMap(\.string),
            output: isFailure ? String(printed.suffix(2000)) : "")
    }

    private static func name(_ signal: Int32) -> String {
        let names: [Int32: String] = [
            4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV",
            25: "SIGXFSZ: it printed or wrote more than 64 MiB",
        ]
        return names[signal].map { " (\($0))" } ?? ""
    }

    private func withCStrings<Result>(
        _ texts: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Result
    ) -> Result {
        var bytes: [CChar] = []
        var offsets: [Int] = []
        for text in texts {
            offsets.append(bytes.count)
            bytes += text.utf8.filter { $0 != 0 }.map { CChar(bitPattern: $0) } + [0]
        }
        return unsafe bytes.withUnsafeBufferPointer { buffer in
            var pointers: [UnsafePointer<CChar>?] = unsafe offsets.map { unsafe buffer.baseAddress! + $0 }
            unsafe pointers.append(nil)
            return unsafe pointers.withUnsafeBufferPointer { unsafe body($0.baseAddress!) }
        }
    }
}

extension CheckResult {
    /// What a child writes for `Examination` to read.
    public static func childBytes(_ outcome: Outcome, trace: [String]) -> [UInt8] {
        guard case .object(var members) = outcome.json else { return [] }
        if !trace.isEmpty { members["trace"] = .array(trace.map { .string(String($0.prefix(4096))) }) }
        return JSONValue.object(members).bytes
    }
}
