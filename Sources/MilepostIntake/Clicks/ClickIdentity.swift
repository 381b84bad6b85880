// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// The hash by which a click is known again (decisions 7).
public enum ClickIdentity {
    /// The first 16 bytes of SHA-256 over workspace, zero and event id, as `ClickParser` stores it.
    public static func of(_ id: EventID, workspace: WorkspaceID) -> [UInt8] {
        let bytes = Array(workspace.rawValue.utf8) + [0] + Array(id.rawValue.utf8)
        return ClickDigest().shortHash(bytes.span)
    }
}
