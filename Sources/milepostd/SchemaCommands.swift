// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostConfiguration
import MilepostModel
import MilepostStore
import Synchronization

/// `milepostd --rehearse` and `--downgrade-store`: what an administrator does before and after an upgrade (EXT-18).
struct SchemaCommands {
    let configuration: Configuration

    func rehearse(backup: String?) throws -> JSONValue {
        if backup == nil { try DataDirectory.becomeOwner(configuration.dataDirectory) }
        let report = try SchemaChange.rehearse(
            directory: configuration.dataDirectory, backup: backup, report: Self.say())
        guard case .object(var answer) = report.json else { return report.json }
        answer["rehearsed"] = .string(backup ?? configuration.dataDirectory)
        return .object(answer)
    }

    func downgrade(acceptsLoss: Bool) throws -> JSONValue {
        try DataDirectory.becomeOwner(configuration.dataDirectory)
        return try SchemaChange.downgrade(
            directory: configuration.dataDirectory, acceptsLoss: acceptsLoss, report: Self.say()
        ).json
    }

    /// For whoever waits at a terminal; the answer alone goes to standard output.
    private static func say() -> @Sendable (UpgradeProgress) -> Void {
        let pace = UpgradePace()
        return { progress in
            guard let line = pace.line(for: progress) else { return }
            FileHandle.standardError.write(Data("milepostd: \(line)\n".utf8))
        }
    }
}

/// Chooses what of an upgrade's progress is worth a line: every migration, and every few seconds what it is at.
final class UpgradePace: Sendable {
    private struct State {
        var said: ContinuousClock.Instant?
        var doing = "opens the database"
    }
    private let state = Mutex(State())
    private static let interval: Duration = .seconds(5)

    func line(for progress: UpgradeProgress) -> String? {
        switch progress {
        case .migrating(let step):
            state.withLock {
                $0.said = .now
                $0.doing = "migrates the copy of the database to \(step)"
                return $0.doing
            }
        case .done(let report):
            "the database has schema \(report.to) now, every total is what it was; the one with schema \(report.from) "
                + "is kept as \(report.kept ?? "nothing"): remove it once you need it no more"
        case .copying(let done, let total):
            atTimes("copies the database, \(total == 0 ? 100 : done * 100 / total)% of \(total >> 20) MiB")
        case .counting(let table): atTimes("counts \(table) in the copy of the database")
        case .working: atTimes(nil)
        }
    }

    /// - Parameter doing: nil for more of the same.
    private func atTimes(_ doing: String?) -> String? {
        state.withLock { state in
            if let doing { state.doing = doing }
            let now = ContinuousClock.now
            guard let said = state.said else {
                state.said = now
                return nil  // what is over in a moment needs no line
            }
            guard now - said >= Self.interval else { return nil }
            state.said = now
            return state.doing
        }
    }
}
