// SPDX-License-Identifier: Apache-2.0

import Glibc
import MilepostClient
import MilepostModel

/// Connecting by consent: shows the vendor's page, then waits for the daemon to hear of it or takes what was pasted.
struct Installation {
    let session: Session
    let integration: String

    /// Ten minutes of the link's life, and some for the clock.
    private static let longestWait = 660

    /// - Parameter waits: false to print the link and end.
    func begin(_ body: JSONValue, waits: Bool) throws(ClientError) {
        let answer = try session.ask("POST", session.path("integrations", integration, "authorize"), body: body)
        if !waits {
            session.show(answer, page)
            return
        }
        Prompt.say(page(answer) + "\n")
        guard let id = answer["id"]?.string else { throw Self.strange }
        try wait(for: id)
    }

    private func page(_ answer: JSONValue) -> String {
        var lines = ["Open this page and consent:", "", "  " + Terminal.harmless(answer["url"]?.string ?? "-"), ""]
        let scopes = answer["scopes"]?.array ?? []
        if !scopes.isEmpty { lines.append("It asks for:") }
        for scope in scopes {
            lines.append(
                "  \(Terminal.harmless(scope["scope"]?.string ?? "")): \(Terminal.harmless(scope["reason"]?.string ?? ""))"
            )
        }
        if let id = answer["id"]?.string { lines.append("id: \(Terminal.harmless(id))") }
        return lines.joined(separator: "\n")
    }

    /// Waits until the link was used. On a terminal a pasted code or address ends the wait as well.
    func wait(for id: String) throws(ClientError) {
        if Prompt.isPossible {
            Prompt.say("Waiting. If the page cannot reach this daemon, paste its address or the code here.\n")
        }
        for _ in 0..<Self.longestWait {
            let status = try session.ask(
                "GET", session.path("integrations", integration, "authorize"), query: ["id": id])
            switch status["state"]?.string {
            case "done":
                session.show(
                    try session.ask("GET", session.path("integrations", integration)), session.pages.connection)
                return
            case "failed", "expired":
                throw ClientError(
                    code: status["reason"]?["code"]?.string ?? "expired",
                    detail: status["reason"]?["message"]?.string ?? "the link was not used in time",
                    advice: "begin again")
            case "pending", "used": break
            default: throw Self.strange
            }
            if Prompt.isPossible, hasInput(), let line = readLine() {
                let text = ConnectRequest.trimmed(line)
                if !text.isEmpty { return try complete(text, id: id) }
            }
            ProcessEnvironment.pause(.seconds(1))
        }
        throw ClientError(code: "expired", detail: "the link was not used in time", advice: "begin again")
    }

    /// - Parameters:
    ///   - text: the code, or the whole address that the vendor sent the person back with.
    ///   - id: whose code it is; an address says that itself.
    func complete(_ text: String, id: String?) throws(ClientError) {
        var body: [String: JSONValue] = text.contains("://") ? ["redirect_url": .string(text)] : ["code": .string(text)]
        if let id { body["id"] = .string(id) }
        let answer = try session.ask(
            "POST", session.path("integrations", integration, "authorize", "complete"), body: .object(body))
        session.show(answer, session.pages.connection)
    }

    private func hasInput() -> Bool {
        var descriptor = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
        return unsafe poll(&descriptor, 1, 0) == 1 && descriptor.revents & Int16(POLLIN) != 0
    }

    private static let strange = ClientError(
        code: "strange_answer", detail: "the daemon's answer about the authorisation cannot be read")
}
