// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import MilepostClient
import MilepostModel
import Testing

/// Answers one connection with fixed bytes, on loopback and on a port of the kernel's choice.
///
/// `@unchecked Sendable`: `received` is written by the one thread and read after it was joined.
final class OneShotServer: @unchecked Sendable {
    let port: Int
    private let listener: Int32
    private let isDone = DispatchSemaphore(value: 0)
    private var received = ""

    init(answer: String) {
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = listener
        unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = unsafe bind(descriptor, $0, length)
                _ = listen(descriptor, 1)
                _ = unsafe getsockname(descriptor, $0, &length)
            }
        }
        port = Int(UInt16(bigEndian: address.sin_port))
        Thread.detachNewThread { [self] in
            let connection = accept(listener, nil, nil)
            var buffer = [UInt8](repeating: 0, count: 65_536)
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe recv(connection, $0.baseAddress, $0.count, 0) }
            received = String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
            let bytes = Array(answer.utf8)
            _ = unsafe bytes.withUnsafeBytes { unsafe send(connection, $0.baseAddress, $0.count, 0) }
            close(connection)
            isDone.signal()
        }
    }

    deinit { close(listener) }

    /// The request, once it has been answered.
    func request() -> String {
        _ = isDone.wait(timeout: .now() + 10)
        return received
    }

    static func answer(_ status: String, _ body: String) -> String {
        "HTTP/1.1 \(status)\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\nConnection: close\r\n\r\n\(body)"
    }
}

@Suite("REST client")
struct RESTClientTests {
    private func client(port: Int, token: String? = "mpt_x") throws -> RESTClient {
        try RESTClient(settings: ClientSettings(url: "http://127.0.0.1:\(port)", token: token), timeoutSeconds: 10)
    }

    @Test("a request carries method, encoded path, token and body")
    func request() throws {
        let server = OneShotServer(answer: OneShotServer.answer("200 OK", #"{"ok":true}"#))
        let path = ClientRequest.path("v1", "workspaces", "a/b", "links")
        let answer = try client(port: server.port).json(
            ClientRequest("PATCH", path, query: ["cursor": "x&y", "none": nil], json: ["a": 1]))
        #expect(answer == ["ok": true])
        let request = server.request()
        #expect(request.hasPrefix("PATCH /v1/workspaces/a%2Fb/links?cursor=x%26y HTTP/1.1\r\n"))
        #expect(request.contains("\r\nAuthorization: Bearer mpt_x\r\n"))
        #expect(request.hasSuffix("\r\n\r\n{\"a\":1}"))
    }

    @Test("TRB-01: a problem document becomes code, detail and what to do")
    func problem() throws {
        let body = #"{"code":"credential_refused","status":422,"title":"t","detail":"Pipedrive said no"}"#
        let server = OneShotServer(answer: OneShotServer.answer("422 Unprocessable Content", body))
        let error = try #require(throws: ClientError.self) {
            try client(port: server.port).send(ClientRequest("GET", "/v1/x"))
        }
        #expect(error.code == "credential_refused")
        #expect(error.detail == "Pipedrive said no")
        #expect(error.advice?.contains("make a new one") == true)
        #expect(error.exitStatus == .failure)
    }

    @Test("a missing token is named as the cause, without a daemon's help")
    func noToken() throws {
        let server = OneShotServer(answer: OneShotServer.answer("401 Unauthorized", #"{"code":"unauthenticated"}"#))
        let error = try #require(throws: ClientError.self) {
            try client(port: server.port, token: nil).send(ClientRequest("GET", "/v1/x"))
        }
        #expect(error.code == "no_token")
    }

    @Test("a proxy's page is no problem document, and is shown as what it is")
    func foreignPage() throws {
        let server = OneShotServer(answer: OneShotServer.answer("502 Bad Gateway", "<html>nginx</html>"))
        let error = try #require(throws: ClientError.self) {
            try client(port: server.port).send(ClientRequest("GET", "/v1/x"))
        }
        #expect(error.code == "bad_answer" && error.detail.contains("502"))
    }

    @Test("a daemon that is not there gives exit status 3")
    func unreachable() throws {
        // A port that was just given back by the kernel has nobody behind it.
        let listener = OneShotServer(answer: OneShotServer.answer("200 OK", "{}"))
        let port = listener.port
        _ = try client(port: port).send(ClientRequest("GET", "/"))
        _ = listener.request()
        let error = try #require(throws: ClientError.self) {
            try RESTClient(settings: ClientSettings(url: "http://127.0.0.1:1", token: nil)).send(
                ClientRequest("GET", "/"))
        }
        #expect(error.exitStatus == .unreachable)
    }
}

@Suite("client settings")
struct ClientSettingsTests {
    @Test("the environment's token wins over files, and a saved token is found again, readable by its owner only")
    func token() throws {
        let folder = FileManager.default.temporaryDirectory.path + "/milepost-token-\(UUID().uuidString)"
        // Best effort: a folder left behind in the temporary directory harms nobody.
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let environment = ["XDG_CONFIG_HOME": folder]
        let file = try ClientSettings.save(token: "mpt_saved", environment: environment)
        #expect(file == folder + "/milepost/token")
        let mode = try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        #expect(try ClientSettings.resolve(environment: environment).token == "mpt_saved")
        let both = ["XDG_CONFIG_HOME": folder, "MILEPOST_TOKEN": "mpt_env", "MILEPOST_URL": "http://h:1/"]
        let settings = try ClientSettings.resolve(environment: both)
        #expect(settings.token == "mpt_env" && settings.url == "http://h:1" && settings.workspace == "default")
    }

    @Test(
        "a URL that is none and a token that would add headers are refused",
        arguments: [
            ["MILEPOST_URL": "localhost:8787"], ["MILEPOST_URL": "file:///etc/passwd"],
            ["MILEPOST_TOKEN": "mpt\r\nX-Other: 1"],
        ])
    func refused(environment: [String: String]) {
        #expect(throws: ClientError.self) { try ClientSettings.resolve(environment: environment) }
    }
}

@Suite("pages")
struct PagesTests {
    let pages = Pages(
        terminal: Terminal(isInteractive: false, hasColours: false), now: Timestamp(seconds: 1_760_000_000))

    @Test(
        "TRB-02, TRB-07, TRB-08: a connection's state says cause and cure",
        arguments: [
            ("permission", "administrator"), ("needs_reauth", "milepost connect"),
            ("daily_budget", "resumes by itself"),
        ])
    func cures(state: String, words: String) {
        let text = pages.connections([["integration": "pipedrive", "state": .string(state)]])
        #expect(text.contains(words), "\(text)")
    }

    @Test("control characters of a stranger's text never reach the terminal")
    func harmless() {
        let text = pages.list([["id": "a\u{1b}[2Jb"]], ["id"], empty: "")
        #expect(!text.contains("\u{1b}"))
    }

    @Test("EXT-16, EXC-05: explain shows the sentence for each threshold")
    func explain() {
        let answer: JSONValue = [
            "totals": ["all": 120, "people": 3],
            "explanations": [
                [
                    "integration": "pipedrive", "threshold": 100, "outcome": "not_fired",
                    "reason": "the link is a test link",
                ]
            ],
        ]
        #expect(pages.explain(answer).contains("the link is a test link"))
    }

    @Test("times are told from now")
    func times() {
        #expect(RelativeTime.text(.string(Timestamp(seconds: 1_759_999_000).description), now: pages.now) == "16 m ago")
        #expect(RelativeTime.text(.string(Timestamp(seconds: 1_760_010_000).description), now: pages.now) == "in 2 h")
        #expect(RelativeTime.text(nil, now: pages.now) == "-")
    }

    @Test("settings keep their JSON types; thresholds must be whole numbers")
    func settings() throws {
        #expect(
            try ConnectRequest.settings(["pipeline_id=1", "link_field=Link", "x=[1]"])
                == ["pipeline_id": 1, "link_field": "Link", "x": [1]])
        #expect(try ConnectRequest.thresholds("100, 1000") == [100, 1000])
        #expect(throws: ClientError.self) { try ConnectRequest.thresholds("100,-1") }
        #expect(throws: ClientError.self) { try ConnectRequest.settings(["=1"]) }
        for secret in ["4f1d0a", "=4f1d0a"] {
            let error = #expect(throws: ClientError.self) { try ConnectRequest.credentials([secret]) }
            #expect(error?.description.contains("4f1d0a") == false, "a token without its name is not repeated")
        }
    }
}
