// SPDX-License-Identifier: Apache-2.0

internal import MilepostPluginHost

/// Verbs whose shape is settled and which no daemon calls yet (decisions 0017). A plugin may have them, and is told: its author
/// would wait for calls that do not come.
enum ReservedVerb {
    static let all: [PluginVerb] = [.catalog, .webhook, .pull]
    static let note = "reserved, the daemon of this release does not call it"
}
