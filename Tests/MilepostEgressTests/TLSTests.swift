// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostEgress
import MilepostModel
import Testing

/// A certificate that signs itself, in a folder that goes with it.
final class TestCertificate {
    let path: String
    let key: String
    private let directory: URL

    init(name: String) throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("mp-tls-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        path = directory.appendingPathComponent("cert.pem").path
        key = directory.appendingPathComponent("key.pem").path
        let make = Process()
        make.executableURL = URL(fileURLWithPath: TLSServer.openssl)
        make.arguments = [
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=\(name)", "-addext", "subjectAltName=DNS:\(name)", "-keyout", key, "-out", path,
        ]
        make.standardError = FileHandle.nullDevice
        try make.run()
        make.waitUntilExit()
        try #require(make.terminationStatus == 0)
    }

    deinit {
        try? FileManager.default.removeItem(at: directory)  // a leftover in the temporary directory harms nobody
    }
}

/// `openssl s_server` with a certificate of its own; what is written to its input goes to the client.
final class TLSServer {
    static let openssl = "/usr/bin/openssl"
    static let name = "vendor.example.com"

    let port: Int
    private let made: TestCertificate
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()

    init(_ options: [String] = []) throws {
        made = try TestCertificate(name: Self.name)
        process.executableURL = URL(fileURLWithPath: Self.openssl)
        process.arguments = ["s_server", "-accept", "127.0.0.1:0", "-cert", made.path, "-key", made.key] + options
        process.standardInput = input
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        var text = ""
        var found: Int?
        while found == nil {
            let chunk = output.fileHandleForReading.availableData
            try #require(!chunk.isEmpty, "s_server ended: \(text)")
            text += String(decoding: chunk, as: UTF8.self)
            for line in text.split(separator: "\n").dropLast(text.hasSuffix("\n") ? 0 : 1)
            where line.hasPrefix("ACCEPT ") {
                found = line.split(separator: ":").last.flatMap { Int($0) }
            }
        }
        port = try #require(found)
    }

    var certificate: String { made.path }
    var url: String { "https://\(Self.name):\(port)/" }

    /// Reads what s_server prints until a request's first line is among it, then answers.
    func answer(_ text: String) throws {
        try read(until: "HTTP/1.1")  // a CR LF is one Character to Swift, so no line end is looked for
        try input.fileHandleForWriting.write(contentsOf: Data(text.utf8))
    }

    func read(until text: String) throws {
        var seen = ""
        while !seen.contains(text) {
            let chunk = output.fileHandleForReading.availableData
            try #require(!chunk.isEmpty, "s_server ended: \(seen)")
            seen += String(decoding: chunk, as: UTF8.self)
        }
    }

    deinit {
        kill(process.processIdentifier, SIGKILL)  // it inherits a mask that holds the gentler one back
        process.waitUntilExit()
    }
}

@Suite(
    "TLS (PRV-03)", .serialized, .timeLimit(.minutes(10)),
    .enabled(if: FileManager.default.isExecutableFile(atPath: TLSServer.openssl), "needs the openssl program"))
struct TLSTests {
    private func egress(trusting path: String?, _ answers: [[String]] = [["127.0.0.1"]]) -> CurlEgress {
        var configuration = CurlEgress.Configuration()
        configuration.certificateAuthorities = path
        return makeEgress(resolver: ScriptedResolver(answers), configuration: configuration)
    }

    private func request(_ url: String) -> EgressRequest {
        EgressRequest(
            method: "POST", url: url, isIdempotent: false, timeout: .seconds(30), policy: .overriding(url))
    }

    @Test("a self-signed certificate is refused, even for an overridden endpoint, and nothing was sent")
    func selfSigned() async throws {
        let server = try TLSServer()
        let egress = egress(trusting: nil)
        let outcome = await egress.send(request(server.url)) {}
        #expect(outcome.wire == .neverSent)
        #expect(outcome.failure?.code == .tlsFailed)
        await egress.shutdown()
    }

    @Test("a trusted certificate for another name is refused")
    func wrongName() async throws {
        let server = try TLSServer()
        let egress = egress(trusting: server.certificate)
        let outcome = await egress.send(request("https://other.example.com:\(server.port)/")) {}
        #expect(outcome.wire == .neverSent)
        #expect(outcome.failure?.code == .tlsFailed)
        await egress.shutdown()
    }

    @Test("anything older than TLS 1.2 is refused")
    func oldVersion() async throws {
        let server = try TLSServer(["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"])
        let egress = egress(trusting: server.certificate)
        let outcome = await egress.send(request(server.url)) {}
        #expect(outcome.wire == .neverSent)
        #expect(outcome.failure?.code == .tlsFailed)
        await egress.shutdown()
    }

    @Test("HTTP/2 is spoken to a server that offers it")
    func http2() async throws {
        let server = try TLSServer(["-alpn", "h2,http/1.1"])
        let egress = egress(trusting: server.certificate)
        let url = server.url
        let sending = Task { await egress.send(request(url)) {} }
        try server.read(until: "PRI * HTTP/2.0")  // the preface of RFC 9113 3.4; nobody answers it here
        sending.cancel()
        let outcome = await sending.value
        #expect(outcome.wire == .maybeSent)
        #expect(outcome.failure?.code == .cancelled)
        await egress.shutdown()
    }

    @Test("a connection opened under an override is not lent to a policy without it (EXT-05)")
    func reuseIsJudged() async throws {
        let server = try TLSServer()
        // To the second policy the name looks public; only the standing connection leads to loopback.
        let egress = egress(trusting: server.certificate, [["127.0.0.1"], ["8.8.8.8"]])
        let url = server.url
        let first = Task { await egress.send(request(url)) {} }
        try server.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        #expect(await first.value.response?.body == bytes("ok"))
        let rule = EgressPolicy.Rule(hosts: [TLSServer.name], ports: [server.port], methods: ["POST"])
        let second = await egress.send(request(url).with { $0.policy = EgressPolicy(rules: [rule]) }) {}
        #expect(second.wire == .neverSent)
        #expect(second.failure?.code == .refusedByPolicy)
        await egress.shutdown()
    }
}
