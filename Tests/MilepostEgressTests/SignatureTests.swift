// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostEgress
import MilepostModel
import Testing

/// Stands still, so that a signature's time is the vector's.
private struct StandingClock: DaemonClock {
    let now: Timestamp
    func sleep(for duration: Duration) async throws { try await Task.sleep(for: duration) }
}

/// The known answers of `specs/standard-webhooks`.
private struct Vectors: Decodable {
    struct Sign: Decodable, CustomTestStringConvertible {
        var name: String
        var secret: String?
        var private_key: String?
        var msg_id: String
        var timestamp: Int64
        var payload: String
        var signature: String
        var key: String { secret ?? private_key ?? "" }
        var testDescription: String { name }
    }
    var sign: [Sign]
    var invalid_secrets: [String]

    static let shared: Vectors = {
        let beside = URL(filePath: #filePath).appending(path: "../../../../shared").standardizedFileURL.path
        let folder = ProcessInfo.processInfo.environment["MILEPOST_SHARED"] ?? beside
        let file = URL(filePath: folder).appending(path: "specs/standard-webhooks/vectors.json")
        guard let data = try? Data(contentsOf: file), let found = try? JSONDecoder().decode(Vectors.self, from: data)
        else {
            fatalError(
                "MILEPOST_SHARED must name the folder with specs/standard-webhooks/vectors.json; it is \(folder)")
        }
        return found
    }()
}

@Suite("Signatures of outgoing webhooks", .timeLimit(.minutes(10)))
struct SignatureTests {
    private func sent(
        _ keys: String, id: String?, at seconds: Int64, body: String, header: String = "webhook"
    ) async -> (request: LoopbackServer.Request?, outcome: EgressOutcome) {
        let server = LoopbackServer { _, _ in .reply() }
        defer { server.close() }
        let clock = StandingClock(now: Timestamp(milliseconds: seconds * 1000 + 999))
        let egress = CurlEgress(
            secrets: FixedSecrets(values: ["api_token": keys]), limiter: RateLimiter(clock: clock), clock: clock)
        let request = EgressRequest.post(server, body: body).with {
            if let id { $0.headers.append(("\(header)-id", id)) }
            $0.headers.append(("Webhook-Signature", "v1,forged"))
            $0.credentials = [credential(.standardWebhooks, target: header)]
        }
        let outcome = await egress.send(request) {}
        await egress.shutdown()
        return (server.requests.last, outcome)
    }

    @Test("the published and computed vectors are met to the letter (EXT-04)", arguments: Vectors.shared.sign)
    private func knownAnswers(_ vector: Vectors.Sign) async {
        let (request, _) = await sent(vector.key, id: vector.msg_id, at: vector.timestamp, body: vector.payload)
        #expect(request?.headers["webhook-id"] == vector.msg_id)
        #expect(request?.headers["webhook-timestamp"] == "\(vector.timestamp)")
        #expect(request?.headers["webhook-signature"] == vector.signature)
        #expect(request?.body == Array(vector.payload.utf8))
    }

    @Test("while a key is rotated every request carries a signature of the new and of the old one (EXT-04)")
    func rotation() async throws {
        let vectors = Vectors.shared.sign
        let (symmetric, other) = (try #require(vectors.first), try #require(vectors.first { $0.private_key != nil }))
        #expect(symmetric.msg_id == other.msg_id && symmetric.payload == other.payload)
        let (request, _) = await sent(
            "\(other.key) \(symmetric.key)", id: symmetric.msg_id, at: symmetric.timestamp, body: symmetric.payload)
        #expect(request?.headers["webhook-signature"] == "\(other.signature) \(symmetric.signature)")
    }

    @Test("another prefix names all three headers")
    func prefix() async throws {
        let vector = try #require(Vectors.shared.sign.first)
        let (request, _) = await sent(
            vector.key, id: vector.msg_id, at: vector.timestamp, body: vector.payload, header: "svix")
        #expect(request?.headers["svix-signature"] == vector.signature)
        #expect(request?.headers["svix-timestamp"] == "\(vector.timestamp)")
    }

    @Test(
        "a request without an id, or with one that could be taken for another message, is not sent",
        arguments: [nil, "", "a.1"])
    func idMissing(_ id: String?) async {
        let (request, outcome) = await sent(Vectors.shared.sign[0].key, id: id, at: 1, body: "{}")
        #expect(request == nil && outcome.wire == .neverSent && outcome.failure?.code == .requestInvalid)
    }

    @Test(
        "a key that cannot sign sends nothing and says why, without showing it",
        arguments: Vectors.shared.invalid_secrets + [
            "whsec_c2hvcnQ=", "whsec_not*base64*at*all*", "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            Array(repeating: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", count: 5).joined(separator: " "),
        ])
    func badKey(_ keys: String) async {
        let (request, outcome) = await sent(keys, id: "msg_1", at: 1, body: "{}")
        #expect(request == nil && outcome.wire == .neverSent)
        #expect(outcome.failure?.code == .secretUnavailable)
        let message = outcome.failure?.message ?? ""
        #expect(message.contains("api_token") && (keys.count < 8 || !message.contains(keys.dropFirst(6).prefix(12))))
    }

    @Test("a receiver that echoes a key, one of two or without its prefix, gets it masked (SEC-08)")
    func echoedKey() async {
        let (old, new) = ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
        let server = LoopbackServer { _, _ in .reply(status: 400, body: bytes("bad keys \(old) and whsec_\(new)!")) }
        defer { server.close() }
        let egress = makeEgress(secrets: FixedSecrets(values: ["api_token": "whsec_\(new) whsec_\(old)"]))
        let outcome = await egress.send(
            EgressRequest.post(server).with {
                $0.headers.append(("webhook-id", "msg_1"))
                $0.credentials = [credential(.standardWebhooks, target: "webhook")]
            }
        ) {}
        let text = String(decoding: outcome.response?.body ?? [], as: UTF8.self)
        #expect(text.hasPrefix("bad keys [secret] and ") && !text.contains("MfKQ9r8G") && !text.contains("C2FVsBQI"))
        await egress.shutdown()
    }

    @Test("a placement is read from a manifest and written back")
    func manifest() throws {
        let text = #"{"name":"signature","in":"standard_webhooks"}"#
        let placement = try JSONDecoder().decode(Placement.self, from: Data(text.utf8))
        #expect(placement.kind == .standardWebhooks && placement.target == "webhook")
        #expect(try roundTrip(placement) == placement)
    }
}
