// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What "counts once" is decided by (invariant 2), for a click that is looked for by its id.
public enum ClickIdentity {
    /// The first 16 bytes of SHA-256 of workspace, NUL, event id: as `ClickParser` gives them to the store.
    public static func hash(of id: EventID, workspace: WorkspaceID) -> [UInt8] {
        let bytes = Array(workspace.rawValue.utf8) + [0] + Array(id.rawValue.utf8)
        return ClickDigest().shortHash(bytes.span)
    }
}
