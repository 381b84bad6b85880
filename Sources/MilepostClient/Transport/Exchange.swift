// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// One request to the daemon.
public struct ClientRequest: Sendable, Equatable {
    public var method: String
    /// Already percent-encoded where it must be; begins with `/`.
    public var path: String
    /// Names and values in clear; values that are nil are left out.
    public var query: [String: String?]
    public var contentType: String
    public var body: [UInt8]?

    public init(
        _ method: String, _ path: String, query: [String: String?] = [:], contentType: String = "application/json",
        body: [UInt8]? = nil
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.contentType = contentType
        self.body = body
    }

    public init(_ method: String, _ path: String, query: [String: String?] = [:], json: JSONValue) {
        self.init(method, path, query: query, body: json.bytes)
    }

    /// Path and query as they are sent, names in order.
    public var target: String {
        let pairs = query.compactMap { name, value in value.map { (name, $0) } }.sorted { $0.0 < $1.0 }
        guard !pairs.isEmpty else { return path }
        return path + "?" + pairs.map { "\(Self.encode($0.0))=\(Self.encode($0.1))" }.joined(separator: "&")
    }

    /// A path from its parts, each percent-encoded: an id may hold a slash.
    public static func path(_ parts: String...) -> String { parts.map { "/" + encode($0) }.joined() }

    static func encode(_ text: String) -> String {
        let digits = Array("0123456789ABCDEF")
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f, 0x7e:
                result.unicodeScalars.append(.init(byte))
            default: result += "%\(digits[Int(byte >> 4)])\(digits[Int(byte & 15)])"
            }
        }
        return result
    }
}

/// The daemon's answer, always a success: anything else is thrown.
public struct ClientResponse: Sendable, Equatable {
    public var status: Int
    public var body: [UInt8]

    public init(status: Int, body: [UInt8]) {
        self.status = status
        self.body = body
    }

    /// The body as JSON; an empty one is null.
    public func json() throws(ClientError) -> JSONValue {
        guard !body.isEmpty else { return .null }
        do {
            return try JSONValue(parsing: body, limits: JSONLimits(bytes: RESTClient.maximumAnswer, depth: 64))
        } catch {
            throw ClientError(
                code: "bad_answer", detail: "the daemon's answer is \(error.detail)",
                advice: "is MILEPOST_URL the daemon's address, and not a proxy's?", status: status)
        }
    }
}

/// Carries requests to a daemon. `RESTClient` does it over HTTP; tests answer for themselves.
public protocol ClientTransport {
    /// - Throws: when there was no answer, or one that is no success.
    func send(_ request: ClientRequest) throws(ClientError) -> ClientResponse
}

extension ClientTransport {
    /// Sends and reads the answer as JSON.
    public func json(_ request: ClientRequest) throws(ClientError) -> JSONValue { try send(request).json() }
}
