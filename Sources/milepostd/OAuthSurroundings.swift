// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostConfiguration
import MilepostEngine
import MilepostVault

/// What OAuth must know of the machine and the configuration.
enum OAuthSurroundings {
    static func settings(_ configuration: Configuration) -> Engine.Settings.OAuth {
        let own = configuration.listen.first.map { "http://\($0)" } ?? "http://127.0.0.1:8787"
        let base = configuration.publicURL ?? own
        let retry = configuration.delivery.retryBase
        return Engine.Settings.OAuth(
            redirectURI: (base.hasSuffix("/") ? String(base.dropLast()) : base) + OAuthService.callbackPath,
            place: place(configuration.dataDirectory),
            policy: RefreshPolicy(
                lostAnswerPause: retry * 10, backoff: Backoff(base: retry * 4, cap: .seconds(300))))
    }

    /// Machine and directory, hashed: a copied directory has another inode, a copied machine usually another id. Neither
    /// is known everywhere; what is not known is left out and detects less (docs/decisions/0006).
    private static func place(_ directory: String) -> String {
        let machine = (try? String(contentsOfFile: "/etc/machine-id", encoding: .utf8)) ?? ""
        // The directory was opened as a store just before.
        let facts = try? FileManager.default.attributesOfItem(atPath: directory)
        let inode = (facts?[.systemFileNumber] as? NSNumber)?.stringValue ?? ""
        let text = "milepost/place/1|\(machine.trimmingCharacters(in: .whitespacesAndNewlines))|\(inode)"
        return Digest.hex(Array(Digest.sha256(Array(text.utf8)).prefix(16)))
    }
}
