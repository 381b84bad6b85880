// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What a check found.
public enum Outcome: Sendable, Equatable {
    /// With a note worth printing, or an empty one.
    case passed(String)
    /// What was seen, in one sentence.
    case failed(String)
    /// It could not be made here, and something is left unknown: why. `--strict` takes it for a failure.
    case skipped(String)
    /// Its subject is something that the plugin does not offer, by its table and its manifest: what. Nothing is left unknown.
    case inapplicable(String)

    public var word: String {
        switch self {
        case .passed: "passed"
        case .failed: "failed"
        case .skipped: "skipped"
        case .inapplicable: "not_applicable"
        }
    }

    public var message: String {
        switch self {
        case .passed(let text), .failed(let text), .skipped(let text), .inapplicable(let text): text
        }
    }

    var json: JSONValue { ["outcome": .string(word), "message": .string(message)] }

    init?(_ json: JSONValue) {
        guard let message = json["message"]?.string else { return nil }
        switch json["outcome"]?.string {
        case "passed": self = .passed(message)
        case "failed": self = .failed(message)
        case "skipped": self = .skipped(message)
        case "not_applicable": self = .inapplicable(message)
        default: return nil
        }
    }
}

/// Thrown inside a check to end it.
struct Finding: Error {
    let outcome: Outcome
}

func fail(_ sentence: String) -> Finding { Finding(outcome: .failed(sentence)) }
func skip(_ sentence: String) -> Finding { Finding(outcome: .skipped(sentence)) }
func inapplicable(_ sentence: String) -> Finding { Finding(outcome: .inapplicable(sentence)) }

/// One check of a plugin, made in a process of its own.
public struct Check: Sendable {
    /// The number of plugin-abi.md section (e): stable, and what `--only`, `--skip` and the disable file name.
    public let number: Int
    public let title: String
    /// What a pass shows.
    public let proves: String
    /// What to do when it fails.
    public let cure: String
    /// 1 to 10: how much it asks of a plugin. `--level N` makes those up to N.
    public let level: Int
    let run: @Sendable (Subject) async throws -> Outcome
}

/// The plugin under examination, as every check sees it.
public struct Subject: Sendable {
    /// Where the file lies that the author named.
    public let originalLibrary: String
    /// A folder of ours with copies that a host trusts.
    public let folder: String
    public let name: PluginName
    public let library: [UInt8]
    /// Nil when there is none beside the library.
    public let manifestBytes: [UInt8]?
    /// The account, the settings and the answers that the plugin is tried with.
    public let script: VendorScript
    public let workerExecutable: String
    public let seed: UInt64
    /// A text that stands where secrets do, in the environment and in the vendor's answers.
    public let canary: String
    /// Collects the calls when a trace was asked for.
    public let trace: TraceLog

    public init(
        originalLibrary: String, folder: String, name: PluginName, library: [UInt8], manifestBytes: [UInt8]?,
        script: VendorScript, workerExecutable: String, seed: UInt64, canary: String, trace: TraceLog
    ) {
        self.originalLibrary = originalLibrary
        self.folder = folder
        self.name = name
        self.library = library
        self.manifestBytes = manifestBytes
        self.script = script
        self.workerExecutable = workerExecutable
        self.seed = seed
        self.canary = canary
        self.trace = trace
    }

    var libraryPath: String { "\(folder)/\(name).so" }

    /// The manifest as JSON; a check that needs it is skipped while it cannot be read, because check 7 says why.
    func manifest() throws -> JSONValue {
        guard let manifestBytes else { throw skip("there is no manifest beside it; check 7 says more") }
        do { return try JSONValue(parsing: manifestBytes) } catch {
            throw skip("the manifest cannot be read; check 7 says more")
        }
    }
}
