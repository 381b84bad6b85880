// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostEgress
import MilepostModel
import Synchronization
import Testing

/// A vault with what the test puts in.
struct FixedSecrets: SecretSource {
    struct Unknown: Error {}
    var values: [String: String] = ["api_token": Self.token]
    static let token = "tok/9f+Marker\"77"

    func withSecret<Result: Sendable>(
        _ reference: CredentialReference, _ body: @Sendable (UnsafeRawBufferPointer) throws -> Result
    ) async throws -> Result {
        guard let value = values[reference.name] else { throw Unknown() }
        let bytes = Array(value.utf8)
        return try unsafe bytes.withUnsafeBytes { try unsafe body($0) }
    }
}

/// Answers a name with a list per call; the last one stays.
final class ScriptedResolver: HostResolver {
    private let answers: [[IPAddress]]
    private let calls = Mutex(0)
    var count: Int { calls.withLock { $0 } }

    init(_ answers: [[String]]) { self.answers = answers.map { $0.map { IPAddress($0)! } } }

    func addresses(of host: String) async throws -> [IPAddress] {
        let call = calls.withLock { count in
            count += 1
            return count
        }
        guard !answers.isEmpty else { throw ResolveError(detail: "Name or service not known") }
        return answers[min(call, answers.count) - 1]
    }
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

let anyMethod = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]

extension EgressPolicy {
    /// The server's address as if the administrator had configured it.
    static func overriding(_ urls: String...) -> EgressPolicy {
        EgressPolicy(rules: [], overridden: Set(urls.map { Origin(url: $0)! }))
    }
}

extension EgressRequest {
    static func get(_ server: LoopbackServer, _ path: String = "/") -> EgressRequest {
        EgressRequest(method: "GET", url: server.url + path, isIdempotent: true, policy: .overriding(server.url))
    }

    static func post(_ server: LoopbackServer, _ path: String = "/", body: String = "{}") -> EgressRequest {
        EgressRequest(
            method: "POST", url: server.url + path, headers: [("Content-Type", "application/json")],
            body: Array(body.utf8), isIdempotent: false, policy: .overriding(server.url))
    }

    func with(_ change: (inout EgressRequest) -> Void) -> EgressRequest {
        var copy = self
        change(&copy)
        return copy
    }
}

func credential(_ kind: Placement.Kind, target: String = "", template: String = "{secret}") -> CredentialUse {
    CredentialUse(
        reference: CredentialReference(connection: ConnectionID("con_1"), name: "api_token"),
        placement: Placement(kind: kind, target: target, template: template))
}

func makeEgress(
    secrets: FixedSecrets = FixedSecrets(), resolver: (any HostResolver)? = nil,
    limiter: RateLimiter = RateLimiter(clock: SystemClock()),
    configuration: CurlEgress.Configuration = CurlEgress.Configuration(),
    log: (@Sendable (EgressLogEntry) -> Void)? = nil
) -> CurlEgress {
    CurlEgress(
        secrets: secrets, limiter: limiter, resolver: resolver, configuration: configuration, log: log)
}

/// Through JSON and back.
func roundTrip<Value: Codable>(_ value: Value) throws -> Value {
    try JSONDecoder().decode(Value.self, from: try JSONEncoder().encode(value))
}
