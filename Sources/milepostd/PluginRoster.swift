// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostConfiguration
import MilepostEngine
import MilepostModel
import MilepostPluginHost
import MilepostVault
import Synchronization

/// Brings the plugins in line with the configuration, at start and at every reload. A plugin whose settings and file are as
/// they were is left alone, so that no other plugin's delivery waits.
///
/// Not to be entered twice at once: the caller lets one reload run at a time.
final class PluginRoster: Sendable {
    /// What a plugin was last taken from.
    private struct Taken: Sendable, Equatable {
        var configuration: Configuration.Plugin
        var file: Fingerprint?
    }

    /// Tells a replaced object from the one that was loaded, without reading it.
    private struct Fingerprint: Sendable, Equatable {
        var inode: UInt64
        var bytes: UInt64
        var modified: Date
    }

    private struct State: Sendable {
        var taken: [PluginName: Taken] = [:]
        /// Refused here, before the host saw them.
        var refused: [PluginName: Reason] = [:]
    }

    private let host: PluginHost
    private let hosted: HostedPlugins
    private let state = Mutex(State())

    init(host: PluginHost, plugins: HostedPlugins) {
        self.host = host
        hosted = plugins
    }

    /// Those that were refused here, before the host saw them, so that nobody has said it in the log yet.
    var ownRefusals: [(name: PluginName, reason: Reason)] {
        state.withLock { $0.refused }.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// Every enabled plugin that does not run, with its reason.
    var refusals: [(name: PluginName, reason: Reason)] {
        let own = state.withLock { $0.refused }
        let theirs = hosted.enabledNames.compactMap { name in hosted.refusal(of: name).map { (name, $0) } }
        return (own.map { ($0.key, $0.value) } + theirs)
            .map { ($0.0, Reason(code: Self.stableCode($0.1.code), message: $0.1.message)) }
            .sorted { $0.name < $1.name }
    }

    func apply(_ configuration: Configuration) async {
        let wanted = configuration.plugins.filter(\.value.enabled)
        let directories = configuration.pluginDirectories
        let inspected = await OwnThread.run { Self.inspect(wanted, in: directories) }
        let (taken, refused) = (inspected.taken, inspected.refused)
        let enabled = Dictionary(
            uniqueKeysWithValues: taken.map { name, taken in
                (
                    name,
                    HostedPlugins.Enabled(
                        isolation: taken.configuration.isolation == .inline ? .inline : .worker,
                        endpoints: taken.configuration.endpoints, ratePlan: taken.configuration.ratePlan)
                )
            })
        // The engine compares settings only; a replaced object is taken out of service first, and then loaded anew.
        let replaced = Set(state.withLock { $0.taken }.filter { taken[$0.key]?.file != $0.value.file }.keys)
        if !replaced.isEmpty { await hosted.apply(enabled.filter { !replaced.contains($0.key) }) }
        for health in host.status() where health.state == .quarantined && taken[health.name] != nil {
            // Whoever reloads has mended something; what is still wrong is refused again, with its sentence.
            _ = try? await host.reload(health.name)
        }
        await hosted.apply(enabled)
        state.withLock { $0 = State(taken: taken, refused: refused) }
    }

    /// What `/v1/admin/plugins` shows: what is enabled and what lies in the folders.
    func status() async -> [JSONValue] {
        let host = self.host
        let discovered = await OwnThread.run { host.discover().map(\.name) }
        let health = Dictionary(host.status().map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        let refusals = Dictionary(self.refusals.map { ($0.name, $0.reason) }, uniquingKeysWith: { first, _ in first })
        let enabled = Set(hosted.enabledNames).union(refusals.keys)
        return enabled.union(discovered).sorted().map { name in
            // What the host remembers of a refused plugin is past once it is switched off.
            let known = enabled.contains(name) ? health[name] : nil
            let refusal = refusals[name]
            let manifest = hosted.manifest(of: name)
            let state =
                !enabled.contains(name)
                ? "disabled" : known?.state.rawValue ?? (refusal == nil ? "loaded" : "refused")
            return [
                "name": .string(name.rawValue), "enabled": .bool(enabled.contains(name)),
                "version": JSONValue(known?.version ?? manifest?.version), "maturity": JSONValue(manifest?.maturity),
                "state": .string(state), "isolation": JSONValue(known?.isolation.rawValue),
                "sandbox": [
                    "landlock_abi": .integer(Int64(known?.landlockABI ?? 0)),
                    "seccomp": .integer(Int64(known?.seccompStages ?? 0)),
                ],
                "restarts": .integer(Int64(known?.restarts ?? 0)), "last_crash": JSONValue(known?.lastCrash),
                "reason": JSONValue(refusal?.message ?? known?.reason), "code": JSONValue(refusal?.code),
                "title": JSONValue(manifest?.title), "credentials": credentials(of: name, manifest),
                "auth": .array(
                    (manifest?.auth ?? []).filter { manifest?.isHidden($0) == false }.map {
                        [
                            "credential": .string($0.credential), "scheme": .string($0.scheme),
                            "title": JSONValue($0.raw["title"]?.string ?? $0.fields?.first?.title),
                        ]
                    }),
                "settings": .array(
                    (manifest?.configSchema?["properties"]?.object ?? [:]).keys.sorted().map(JSONValue.string)),
                "pid": known?.workerProcessID.map { .integer(Int64($0)) } ?? .null,
            ]
        }
    }

    /// What a connection needs and where a person finds it, in the manifest's words (PCON-03). Vendors move their pages, so
    /// the configuration may name another one.
    private func credentials(of name: PluginName, _ manifest: PluginManifest?) -> JSONValue {
        let page = state.withLock { $0.taken[name]?.configuration.credentialHelp }
        let fields = (manifest?.auth ?? []).flatMap { $0.raw["fields"]?.array ?? [] }
        return .array(
            fields.map { field in
                [
                    "name": field["name"] ?? .null, "title": field["title"] ?? .null,
                    "description": field["description"] ?? .null,
                    "help": page.map(JSONValue.string) ?? field["help"] ?? .null,
                ]
            })
    }

    /// `manifestMissing` leaves the daemon as `manifest_missing`, like every other code.
    static func stableCode(_ code: String) -> String {
        code.reduce(into: "") { text, letter in
            if letter.isUppercase { text += text.isEmpty ? "" : "_" }
            text += letter.lowercased()
        }
    }

    /// Blocks on the disk.
    private static func inspect(
        _ wanted: [String: Configuration.Plugin], in directories: [String]
    ) -> (taken: [PluginName: Taken], refused: [PluginName: Reason]) {
        var taken: [PluginName: Taken] = [:]
        var refused: [PluginName: Reason] = [:]
        for (name, plugin) in wanted {
            let path = library(name, in: directories)
            if let pin = plugin.sha256, let found = path.flatMap(digest), found != pin {
                refused[PluginName(name)] = Reason(
                    code: "sha256_mismatch",
                    message: "\(path ?? name) has the SHA-256 \(found), and plugins.\(name).sha256 pins \(pin); "
                        + "install the pinned version, or pin the new one and reload.")
            } else {
                taken[PluginName(name)] = Taken(configuration: plugin, file: path.flatMap(fingerprint))
            }
        }
        return (taken, refused)
    }

    /// Where the host would find it: the first folder that has one of the two files.
    private static func library(_ name: String, in directories: [String]) -> String? {
        let files = FileManager.default
        return directories.first {
            files.fileExists(atPath: "\($0)/\(name).json") || files.fileExists(atPath: "\($0)/\(name).so")
        }.map { "\($0)/\(name).so" }
    }

    /// Nil when it cannot be read: then the host says why, in its own words.
    private static func digest(_ path: String) -> String? {
        guard let data = try? Data(contentsOf: URL(filePath: path), options: .alwaysMapped) else { return nil }
        return unsafe data.withUnsafeBytes { unsafe Digest.hex(Digest.sha256($0)) }
    }

    private static func fingerprint(_ path: String) -> Fingerprint? {
        // Absent files have no fingerprint; the host reports them.
        guard let facts = try? FileManager.default.attributesOfItem(atPath: path) else { return nil }
        return Fingerprint(
            inode: (facts[.systemFileNumber] as? NSNumber)?.uint64Value ?? 0,
            bytes: (facts[.size] as? NSNumber)?.uint64Value ?? 0,
            modified: facts[.modificationDate] as? Date ?? .distantPast)
    }
}

/// A thread for work that blocks on files: not for the cooperative pool.
enum OwnThread {
    static func run<Result: Sendable>(_ work: @escaping @Sendable () -> Result) async -> Result {
        await withCheckedContinuation { done in Thread.detachNewThread { done.resume(returning: work()) } }
    }

    static func run<Result: Sendable>(_ work: @escaping @Sendable () throws -> Result) async throws -> Result {
        try await withCheckedThrowingContinuation { (done: CheckedContinuation<Result, any Error>) in
            Thread.detachNewThread { done.resume(with: Swift.Result { try work() }) }
        }
    }
}
