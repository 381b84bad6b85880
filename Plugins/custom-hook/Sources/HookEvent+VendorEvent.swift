// SPDX-License-Identifier: Apache-2.0

import MilepostKit

extension HookEvent {
    /// What is told of an event of a vendor that somebody handed in; nil when the payload is none.
    struct Handed {
        var type: String
        var time: String
        var subject: String
        /// The topic's own facts, with the event's id and the connection that it is about.
        var data: JSONValue

        init?(_ payload: JSONValue) {
            guard let topic = payload["event"]?["topic"]?.string, let at = payload["event"]?["at"]?.string,
                let id = payload["event"]?["id"], let integration = payload["event"]?["integration"],
                var members = payload["data"]?.object
            else { return nil }
            type = "milepost.\(topic)"
            time = at
            subject = payload["data"]?["dealId"]?.string ?? ""
            members["event"] = id
            members["integration"] = integration
            data = .object(members)
        }
    }
}
