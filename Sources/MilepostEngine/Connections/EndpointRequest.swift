// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostRules

/// When a failing endpoint is disabled, as a request gives it (EXT-08).
struct EndpointRequest: Sendable {
    /// Milliseconds, 0 for never; nil when the request is silent.
    private var after: Int64?
    private var failures: Int?

    /// Takes `disable_after` and `disable_after_failures` out of the body; null goes back to the default.
    init(taking members: inout [String: JSONValue], _ errors: inout [SettingError]) {
        let initial = EndpointPolicy()
        if let given = members.removeValue(forKey: "disable_after") {
            after = given == .null ? initial.disableAfterMilliseconds : Self.milliseconds(given)
            if after == nil {
                errors.append(
                    SettingError(
                        pointer: "/disable_after", code: "wrong_type",
                        message: "disable_after must be a duration such as 90m, 12h or 3d, up to 365d, or 0 for never"))
            }
        }
        if let given = members.removeValue(forKey: "disable_after_failures") {
            failures =
                given == .null
                ? initial.minimumFailures
                : given.integer.flatMap { (1...Int64(EndpointPolicy.maximumFailures)).contains($0) ? Int($0) : nil }
            if failures == nil {
                errors.append(
                    SettingError(
                        pointer: "/disable_after_failures", code: "wrong_type",
                        message: "disable_after_failures must be a whole number from 1 to "
                            + "\(EndpointPolicy.maximumFailures)"))
            }
        }
    }

    func policy(over base: EndpointPolicy?) -> EndpointPolicy? {
        guard after != nil || failures != nil else { return base }
        var policy = base ?? EndpointPolicy()
        policy.disableAfterMilliseconds = after ?? policy.disableAfterMilliseconds
        policy.minimumFailures = failures ?? policy.minimumFailures
        return policy
    }

    /// `0`, or a whole number with a unit: `s`, `m`, `h`, `d`.
    private static func milliseconds(_ given: JSONValue) -> Int64? {
        if given.integer == 0 || given.string == "0" { return 0 }
        guard let text = given.string, text.utf8.count <= 12, let unit = text.last,
            let factor: Int64 = ["s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000][unit],
            text.dropLast().utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int64(text.dropLast())
        else { return nil }
        let (product, isTooLarge) = number.multipliedReportingOverflow(by: factor)
        return isTooLarge || product > EndpointPolicy.longest.wholeMilliseconds ? nil : product
    }
}

extension EndpointPolicy {
    /// As a request would give it.
    public var disableAfterText: String {
        let (size, unit): (Int64, String) =
            switch disableAfterMilliseconds {
            case ...0: (1, "")
            case let whole where whole.isMultiple(of: 86_400_000): (86_400_000, "d")
            case let whole where whole.isMultiple(of: 3_600_000): (3_600_000, "h")
            case let whole where whole.isMultiple(of: 60_000): (60_000, "m")
            default: (1000, "s")
            }
        return "\(max(0, disableAfterMilliseconds) / size)\(unit)"
    }
}
