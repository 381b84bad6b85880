// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// How `milepost` ends; said by `milepost --help` and stable for scripts. ArgumentParser adds 64 for wrong usage.
public enum ExitStatus: Int32, Sendable {
    case success = 0
    /// The daemon refused, or something is wrong that the output names.
    case failure = 1
    /// Asked whether two things are the same: they are not.
    case different = 2
    /// The daemon did not answer.
    case unreachable = 3
}

/// Why a command could not be carried out.
public struct ClientError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The daemon's problem code, or one of the client's own: `unreachable`, `no_token`, `bad_url`, `bad_answer`,
    /// `bad_file`, `bad_input`.
    public let code: String
    /// What happened, to which thing, and why. Never holds a token.
    public let detail: String
    /// What to do next; nil when the detail says it.
    public let advice: String?
    /// The HTTP status; nil when there was no answer.
    public let status: Int?
    /// The problem document as it came, for `--json`.
    public let document: JSONValue?

    public init(code: String, detail: String, advice: String? = nil, status: Int? = nil, document: JSONValue? = nil) {
        self.code = code
        self.detail = detail
        self.advice = advice
        self.status = status
        self.document = document
    }

    public var exitStatus: ExitStatus { code == "unreachable" ? .unreachable : .failure }

    public var description: String { "\(code): \(detail)\(advice.map { "\n  → \($0)" } ?? "")" }

    /// The error as JSON: the daemon's document, or one of the same shape.
    public var json: JSONValue {
        document
            ?? .object([
                "type": .string("https://milepost.dev/problems/\(code)"), "code": .string(code), "title": .string(code),
                "detail": .string(detail),
            ])
    }

    /// Reads a problem document (RFC 9457); an answer of another kind, such as a proxy's page, is shown by its beginning.
    static func problem(status: Int, body: [UInt8]) -> ClientError {
        guard let document = try? JSONValue(parsing: body), let code = document["code"]?.string else {
            let text = String(decoding: body.prefix(200), as: UTF8.self).filter { !$0.isNewline }
            return ClientError(
                code: "bad_answer", detail: "HTTP \(status), and no problem document: \(text)",
                advice: "is MILEPOST_URL the daemon's address, and not a proxy's?", status: status)
        }
        var detail = document["detail"]?.string ?? document["title"]?.string ?? "HTTP \(status)"
        for error in document["errors"]?.array ?? [] {
            detail +=
                "\n  \(error["pointer"]?.string ?? ""): \(error["message"]?.string ?? error["code"]?.string ?? "")"
        }
        return ClientError(
            code: code, detail: detail, advice: Advice.cure(for: code), status: status, document: document)
    }
}
