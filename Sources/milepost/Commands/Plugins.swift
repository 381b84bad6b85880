// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Plugins: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List plugins, their health and why one does not run.")
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        session.show(try session.ask("GET", "/v1/admin/plugins")) {
            session.pages.list(
                $0["plugins"]?.array ?? [],
                ["name", "version", "state", "enabled", "isolation", "maturity", "restarts", "pid", "reason"],
                empty: "no plugins found in plugin_dirs")
        }
    }
}
