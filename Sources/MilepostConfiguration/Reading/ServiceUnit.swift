// SPDX-License-Identifier: Apache-2.0

/// The installed unit that runs the daemon on one configuration.
package struct ServiceUnit {
    /// What `systemctl start` is told.
    package static let shortName = "milepost"

    private let file: UnitFile

    /// Nil when there is no such unit, or when it runs another configuration.
    ///
    /// - Parameter folders: where to look, first match wins.
    package init?(configuration path: String, folders: [String] = UnitFile.folders) {
        file = UnitFile(name: "\(Self.shortName).service", folders: folders)
        guard let start = file.settings("ExecStart").last else { return nil }
        let words = start.split(separator: " ").map(String.init)
        let named = words.firstIndex(of: "--config").flatMap { $0 + 1 < words.count ? words[$0 + 1] : nil }
        guard (named ?? "/etc/milepost/milepost.yaml") == path else { return nil }
    }

    /// Who the daemon runs as; nil for root, and for a name that this machine does not know.
    package var user: Account? { file.settings("User").last.flatMap(Account.init(named:)) }

    /// The groups that it has beside those of its user.
    var groups: Set<UInt32> {
        let names = (file.settings("Group").suffix(1) + file.settings("SupplementaryGroups")).flatMap {
            $0.split(separator: " ")
        }
        return Set(names.compactMap { Account.group(named: String($0)) })
    }
}
