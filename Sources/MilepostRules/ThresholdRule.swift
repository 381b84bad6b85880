// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Which thresholds a total has reached that were not reached before.
///
/// Pure: no clock, no store. Inclusive (THR-11): exactly 100 clicks reach 100. A total that falls and rises again reaches
/// nothing twice (THR-12), because what was reached once stays out of `unreached`.
public enum ThresholdRule {
    /// - Parameters:
    ///   - total: the clicks counted now.
    ///   - unreached: thresholds without a crossing yet, in any order.
    /// - Returns: those at or below the total, lowest first, so that deals appear in the order a person expects (THR-10).
    public static func reached(total: Int64, unreached: [Int64]) -> [Int64] {
        unreached.filter { $0 <= total }.sorted()
    }

    /// Takes a list as an administrator wrote it (CFG-05).
    ///
    /// - Returns: the list sorted.
    /// - Throws: what is wrong with which element, by JSON pointer below `/thresholds`.
    public static func validated(_ value: JSONValue) throws(SettingError) -> [Int64] {
        guard let items = value.array else {
            throw SettingError(
                pointer: "/thresholds", code: "wrong_type",
                message: "thresholds must be a list of whole numbers, like [100, 1000]")
        }
        guard (1...ThresholdPolicy.maximumCount).contains(items.count) else {
            throw SettingError(
                pointer: "/thresholds", code: "wrong_count",
                message: "thresholds holds \(items.count) numbers; 1 to \(ThresholdPolicy.maximumCount) are allowed")
        }
        var seen: Set<Int64> = []
        for (index, item) in items.enumerated() {
            guard let number = item.integer, number >= 1 else {
                throw SettingError(
                    pointer: "/thresholds/\(index)", code: "not_positive",
                    message: "\(item) is not a positive whole number of clicks")
            }
            guard seen.insert(number).inserted else {
                throw SettingError(
                    pointer: "/thresholds/\(index)", code: "repeated", message: "\(number) stands in the list twice")
            }
        }
        return seen.sorted()
    }
}

/// A setting that cannot be taken, with the field and the reason.
public struct SettingError: Error, Hashable, Sendable {
    /// JSON pointer into the settings.
    public let pointer: String
    /// Stable.
    public let code: String
    public let message: String

    public init(pointer: String, code: String, message: String) {
        self.pointer = pointer
        self.code = code
        self.message = message
    }
}
