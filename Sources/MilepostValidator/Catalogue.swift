// SPDX-License-Identifier: Apache-2.0

/// Every check that there is, in the order in which they are made: by number.
///
/// Of plugin-abi.md (e), 46 is here with its random schedules only: a sanitizer build, like the eight-hour soak of 48, belongs
/// to a plugin's own continuous integration (decisions 23).
public enum Catalogue {
    public static let checks: [Check] =
        (StaticChecks.all + ManifestChecks.all + LifecycleChecks.all + ConfigurationChecks.all + ConnectingChecks.all
        + DeliveryChecks.all + RobustnessChecks.all + InterceptionChecks.all + IsolationChecks.all + ScheduleChecks.all)
        .sorted { $0.number < $1.number }

    /// Makes one check here and now. For a process of its own: a check may leave threads, files and filters behind.
    public static func run(_ number: Int, on subject: Subject) async -> Outcome {
        guard let check = checks.first(where: { $0.number == number }) else {
            return .skipped("there is no such check")
        }
        do { return try await check.run(subject) } catch let finding as Finding {
            return finding.outcome
        } catch {
            return .failed("\(error)")
        }
    }
}
