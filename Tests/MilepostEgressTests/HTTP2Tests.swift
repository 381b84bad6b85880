// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostEgress
import MilepostModel
import Testing

/// `http2_server.py` in a process of its own, with a certificate that only the test trusts.
final class HTTP2Server {
    struct Request: Decodable, Equatable {
        var connection: Int
        var stream: Int
        var body: String
    }

    private static let python = "/usr/bin/python3"
    private let certificate: TestCertificate
    private let process = Process()
    private let output = Pipe()
    let port: Int

    init(_ acts: [String]) throws {
        certificate = try TestCertificate(name: TLSServer.name)
        let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let script = tests.appending(path: "Loopback/http2_server.py").path
        process.executableURL = URL(filePath: Self.python)
        process.arguments = [script, certificate.path, certificate.key] + acts
        process.standardOutput = output
        try process.run()
        var text = ""
        while !text.hasSuffix("\n") {
            let chunk = output.fileHandleForReading.availableData
            try #require(!chunk.isEmpty, "the server ended: \(text)")
            text += String(decoding: chunk, as: UTF8.self)
        }
        port = try #require(Int(text.dropFirst("port ".count).dropLast()))
    }

    func egress() -> CurlEgress {
        var configuration = CurlEgress.Configuration()
        configuration.certificateAuthorities = certificate.path
        return makeEgress(resolver: ScriptedResolver([["127.0.0.1"]]), configuration: configuration)
    }

    func post(_ body: String, isIdempotent: Bool = false) -> EgressRequest {
        let url = "https://\(TLSServer.name):\(port)/deals"
        return EgressRequest(
            method: "POST", url: url, body: bytes(body), isIdempotent: isIdempotent, timeout: .seconds(30),
            policy: .overriding(url))
    }

    /// Ends the server and reads what it saw.
    func end() throws -> [Request] {
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        let lines = try output.fileHandleForReading.readToEnd() ?? Data()
        return try lines.split(separator: 10).map { try JSONDecoder().decode(Request.self, from: Data($0)) }
    }

    deinit { kill(process.processIdentifier, SIGKILL) }
}

@Suite(
    "HTTP/2", .serialized, .timeLimit(.minutes(10)),
    .enabled(if: FileManager.default.isExecutableFile(atPath: TLSServer.openssl), "needs the openssl program"))
struct HTTP2Tests {
    @Test("a POST is answered over HTTP/2, and the next go over the same connection")
    func keptAlive() async throws {
        let server = try HTTP2Server([])
        let egress = server.egress()
        for number in 0..<3 {
            let outcome = await egress.send(server.post("body \(number)")) {}
            #expect(outcome.wire == .answered)
            #expect(outcome.response?.status == 200)
            #expect(outcome.response?.body == bytes("connection 1, stream \(2 * number + 1)"))
        }
        await egress.shutdown()
        let expected = (0..<3).map { HTTP2Server.Request(connection: 1, stream: 2 * $0 + 1, body: "body \($0)") }
        #expect(try server.end() == expected)
    }

    @Test(
        "decisions 1: a POST that the server took and then reset, refused, left out or cut is maybe sent, and sent once",
        arguments: ["reset", "refused", "goaway", "half", "cut"], [false, true])
    func neverResent(act: String, onReusedConnection: Bool) async throws {
        let server = try HTTP2Server((onReusedConnection ? ["answer"] : []) + [act])
        let egress = server.egress()
        if onReusedConnection { #expect(await egress.send(server.post("first")) {}.wire == .answered) }
        let outcome = await egress.send(server.post("commit")) {}
        #expect(outcome.wire == .maybeSent)
        #expect(outcome.failure?.code == .reset)
        #expect(outcome.response == nil)
        let after = await egress.send(server.post("after")) {}
        #expect(after.wire == .answered, "the egress goes on")
        await egress.shutdown()
        let seen = try server.end()
        #expect(seen.filter { $0.body == "commit" }.count == 1, "libcurl repeated a request that the vendor had taken")
        #expect(
            seen.first { $0.body == "commit" }?.stream == (onReusedConnection ? 3 : 1),
            "the connection was not reused, so this test proves nothing")
    }

    @Test("an idempotent request that the server refused may be repeated on a fresh connection")
    func idempotentMayRepeat() async throws {
        let server = try HTTP2Server(["refused"])
        let egress = server.egress()
        let outcome = await egress.send(server.post("look up", isIdempotent: true)) {}
        #expect(outcome.wire == .answered)
        await egress.shutdown()
        #expect(try server.end().map(\.connection) == [1, 2])
    }

    @Test("a server that is about to restart answers what it has; the next request opens a connection")
    func graceful() async throws {
        let server = try HTTP2Server(["gone-answer"])
        let egress = server.egress()
        let first = await egress.send(server.post("one")) {}
        #expect(first.wire == .answered && first.response?.status == 200)
        let second = await egress.send(server.post("two")) {}
        #expect(second.wire == .answered)
        #expect(second.response?.body == bytes("connection 2, stream 1"))
        await egress.shutdown()
        #expect(try server.end().map(\.body) == ["one", "two"])
    }
}
