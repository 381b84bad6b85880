// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import MilepostClient
import MilepostModel

/// The key ring itself, where the daemon was handed a copy of it by systemd: only root may change that file, and the daemon
/// gets a new copy when it starts.
struct OriginalRing: ParsableArguments {
    @Option(help: "The daemon's configuration file, which names the key ring.")
    var config = "/etc/milepost/milepost.yaml"

    /// Changes the original when that is what the daemon's refusal asks for and this is root; else the refusal stands.
    func change(_ change: [String], instead refusal: ClientError, _ session: Session) throws {
        guard refusal.code == "key_ring_read_only", geteuid() == 0 else { throw refusal }
        let keys = try session.ask("GET", "/v1/admin/keys")
        guard let current = keys["current_key"]?.string else { throw refusal }
        let answer = try DaemonInitialisation.changeKeyRing(
            change, current: current, configuration: config,
            ownPath: DaemonInitialisation.ownPath(CommandLine.arguments), environment: session.environment)
        session.show(answer) {
            session.pages.facts($0, ["current_key", "kek"])
                + "\nnext         systemctl restart milepost"
                + (change == ["--new-key"] ? ", then: milepost keys rewrap" : "")
        }
    }
}
