// SPDX-License-Identifier: Apache-2.0

public import MilepostKit

extension CustomHookPlugin: Intercepting {
    /// One signed question to the service; the answer is its verdict. Asking again, waiting and what a failure means are
    /// the daemon's.
    public func intercept(_ request: JSONValue, _ operation: Operation) async throws -> JSONValue {
        let settings = settings
        let address = settings.interceptURL ?? settings.url
        guard !address.isEmpty else {
            throw Verdict.config(
                code: "setting_missing", message: "The hook has no address to ask.", pointer: "/intercept_url")
        }
        let question = try Question(request)
        var asked = settings
        asked.url = address
        var http = HTTPRequest.idempotent("POST", address, credential: Self.credential)
        http.headers =
            [("content-type", "application/json"), ("webhook-id", question.id), ("accept", "application/json")]
            + settings.headers.map { ($0.name, Message.line(Template.filled($0.value, question.view))) }
        http.body = question.body
        http.responseCap = Question.largestAnswer
        if let budget = request["budget_ms"]?.int { http.timeout = .milliseconds(max(100, min(budget, 30_000))) }
        let response: HTTPResponse
        do { response = try await operation.http(http) } catch { throw Self.verdict(for: error, asked) }
        if let verdict = Self.verdict(for: response, asked) { throw verdict }
        return try Question.verdict(of: response, from: asked.origin)
    }
}

extension Settings {
    /// Where questions go, and whether crossings make hooks of their own.
    mutating func readInterception(_ value: JSONValue, _ wrong: (String, String, String) -> Void) {
        if let given = value["intercept_url"], !given.isNull {
            if let text = given.string, Self.problem(ofURL: text) == nil {
                interceptURL = text
            } else {
                let problem = given.string.flatMap { Self.problem(ofURL: $0) } ?? "url must be text."
                wrong("intercept_url", "intercept_" + problem, "url_invalid")
            }
        }
        if let given = value["crossings"], !given.isNull, given.bool == nil {
            wrong("crossings", "crossings must be true or false.", "wrong_type")
        }
    }
}
