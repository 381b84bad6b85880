// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Why a link's crossing makes no delivery although its clicks count (section K).
public enum ExclusionRule {
    /// - Parameter optedOutMembers: members of the link's workspace who keep their links out of the CRM (EXC-03).
    /// - Returns: nil when the link takes part.
    public static func reason(for link: Link, optedOutMembers: Set<String>) -> Reason? {
        if link.flags.contains(.test) {
            return Reason(code: "excluded_test", message: "The link is flagged test; test links fire nothing.")
        }
        if link.flags.contains(.internal) {
            return Reason(
                code: "excluded_internal", message: "The link is flagged internal; internal links fire nothing.")
        }
        if let owner = link.owner, optedOutMembers.contains(owner) {
            return Reason(
                code: "excluded_opt_out",
                message: "The link's owner \(owner) opted out of CRM sync; only crossings after opting back in fire.")
        }
        return nil
    }
}
