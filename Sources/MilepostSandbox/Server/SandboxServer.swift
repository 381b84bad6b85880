// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
public import Logging
import NIOCore
import Synchronization

/// The sandbox as a server on loopback.
public struct SandboxServer: Sendable {
    /// Largest request body taken; more is answered with 413. Far above any call of a CRM client.
    static let maximumBody = 1 << 20

    private let shell: SandboxShell

    /// - Parameters:
    ///   - settings: what the world starts with and returns to on reset.
    ///   - ledgerPath: a file that keeps committed objects over restarts; nil keeps them in memory only.
    ///   - clock: milliseconds since 1970.
    /// - Throws: `LedgerFileError` when the file cannot be opened or is not the sandbox's.
    public init(
        settings: SandboxSettings, ledgerPath: String? = nil, clock: @escaping @Sendable () -> Int64
    ) throws(LedgerFileError) {
        shell = try SandboxShell(settings: settings, ledgerPath: ledgerPath, clock: clock)
    }

    /// Serves until SIGTERM or SIGINT.
    ///
    /// - Parameters:
    ///   - port: 0 lets the system choose.
    ///   - onListening: called once with the port in use.
    public func run(
        host: String, port: Int, logger: Logger, onListening: @escaping @Sendable (Int) -> Void
    ) async throws {
        let application = Application(
            responder: SandboxResponder(shell: shell),
            configuration: ApplicationConfiguration(address: .hostname(host, port: port), serverName: nil),
            onServerRunning: { channel in onListening(channel.localAddress?.port ?? port) },
            logger: logger)
        try await application.runService()
    }
}

/// The world behind its lock, with the clock and the file that belong to it.
final class SandboxShell: Sendable {
    private let world: Mutex<SandboxWorld>
    private let file: LedgerFile?
    private let clock: @Sendable () -> Int64

    init(settings: SandboxSettings, ledgerPath: String?, clock: @escaping @Sendable () -> Int64) throws(LedgerFileError)
    {
        let now = Instant(milliseconds: clock())
        var world = SandboxWorld(settings: settings, now: now)
        if let ledgerPath {
            file = try LedgerFile(path: ledgerPath) { world.restore($0, now: now) }
        } else {
            file = nil
        }
        self.world = Mutex(world)
        self.clock = clock
    }

    /// Handles a request. The file is written under the lock: its lines must stand in the order of the commits, and it is
    /// written before the answer leaves, so that what a client has seen survives a kill. A write into the page cache is
    /// short enough for the cooperative pool.
    func handle(_ request: VendorRequest) throws -> SandboxWorld.Verdict {
        try world.withLock { world in
            let verdict = world.handle(request, now: Instant(milliseconds: clock()))
            if let file {
                if world.mustTruncateFile { file.truncate() }
                try file.append(world.takeJournal())
            } else {
                _ = world.takeJournal()
            }
            world.mustTruncateFile = false
            return verdict
        }
    }
}

/// A request's context that remembers the connection, because a fault may have to close it.
struct SandboxContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    let channel: any Channel

    init(source: ApplicationRequestContextSource) {
        coreContext = CoreRequestContextStorage(source: source)
        channel = source.channel
    }
}

/// Carries requests to the world and its verdicts back.
struct SandboxResponder: HTTPResponder {
    /// The connection is gone on purpose; nothing more can be written.
    private struct ConnectionCut: Error {}

    let shell: SandboxShell

    func respond(to request: Request, context: SandboxContext) async throws -> Response {
        let body: [UInt8]
        do {
            let buffer = try await request.body.collect(upTo: SandboxServer.maximumBody)
            body = Array(buffer.readableBytesView)
        } catch is NIOTooManyBytesError {
            return Response(status: .contentTooLarge)
        }
        let received = VendorRequest(
            method: request.method.rawValue, target: request.head.path ?? "/",
            headers: request.headers.map { Header($0.name.rawName, $0.value) }, body: body)
        switch try shell.handle(received) {
        case .answer(let answer, let milliseconds):
            if milliseconds > 0 { try await Task.sleep(for: .milliseconds(milliseconds)) }
            return Self.response(answer)
        case .half(let answer):
            let body = answer.body
            let channel = context.channel
            var response = Self.response(answer)
            response.body = ResponseBody(contentLength: max(body.count, 2)) { writer in
                try await writer.write(ByteBuffer(bytes: body.prefix(max(body.count / 2, 1))))
                try await channel.close()
                throw ConnectionCut()
            }
            return response
        case .cut:
            // Closed here, before any answer exists: what the framework then tries to write finds no connection, on a
            // first request as on the hundredth of a kept-alive connection.
            try await context.channel.close()
            throw ConnectionCut()
        }
    }

    private static func response(_ answer: VendorResponse) -> Response {
        var headers = HTTPFields()
        for header in answer.headers {
            if let name = HTTPField.Name(header.name) { headers.append(HTTPField(name: name, value: header.value)) }
        }
        return Response(
            status: HTTPResponse.Status(code: answer.status), headers: headers,
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: answer.body)))
    }
}
