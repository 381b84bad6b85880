// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import MilepostEngine
import MilepostModel
import NIOCore
import NIOExtras
import NIOHTTP1
import NIOPosix
import ServiceLifecycle

/// Serves a socket that somebody else bound and keeps: the framework's own server can only bind one itself.
///
/// It takes connections once the engine takes work, so that who connects while the daemon starts waits in the kernel's queue
/// and meets no 503; and it lets go of the socket before it ends, so that the queue is there for the next daemon. Limits are
/// those of the ordinary listener.
struct HandedListener<Responder: HTTPResponder>: Service where Responder.Context == ServerRequestContext {
    let descriptor: Int32
    let limits: ListenerSettings
    let role: ServerRole
    let responder: Responder
    let logger: Logger
    let onRunning: @Sendable () async -> Void

    /// Long enough for a request that is under way when the end is told, short beside a restart.
    static var patience: TimeAmount { .seconds(1) }

    func run() async throws {
        do {
            try await cancelWhenGracefulShutdown { try await role.waitUntilActive() }
        } catch is CancellationError {
            return  // asked to stop before there was anything to serve: the queue is the next daemon's
        }
        let group = MultiThreadedEventLoopGroup.singleton
        let quiescing = ServerQuiescingHelper(group: group)
        let http = http()
        let (accepted, arrivals) = AsyncStream.makeStream(of: HTTP1Channel.Value.self)
        let channel = try await bootstrap(group, quiescing)
            .childChannelInitializer { [logger] child in
                http.setup(channel: child, logger: logger).map { _ = arrivals.yield($0) }
            }
            .withBoundSocket(descriptor).get()
        let end = channel.eventLoop.makePromise(of: Void.self)
        // Not when the socket closes: connections that were just taken in still come.
        end.futureResult.whenComplete { _ in arrivals.finish() }
        channel.closeFuture.whenComplete { _ in quiescing.initiateShutdown(promise: nil) }
        await onRunning()
        await withGracefulShutdownHandler {
            await withDiscardingTaskGroup { connections in
                for await connection in accepted {
                    connections.addTask { [logger] in await http.handle(value: connection, logger: logger) }
                }
            }
        } onGracefulShutdown: {
            Self.letGo(of: channel, in: group).whenComplete { _ in quiescing.initiateShutdown(promise: end) }
        }
        // Cancelled, not asked to stop: then nobody waits for anybody.
        channel.close(promise: nil)
    }

    private func http() -> HTTP1Channel {
        let date = ResponseDate()
        return HTTP1Channel(
            responder: { [logger, responder, role] request, writer, channel in
                var logger = logger
                logger[metadataKey: "hb.request.id"] = .stringConvertible(RequestID())
                let context = ServerRequestContext(
                    source: ApplicationRequestContextSource(channel: channel, logger: logger))
                var response: Response
                do {
                    response = try await responder.respond(to: request, context: context)
                } catch let error as HTTPParserError {
                    throw error  // the channel answers it
                } catch {
                    logger.debug("a request failed beneath its route", metadata: ["error": "\(error)"])
                    response = Response(status: .internalServerError)
                }
                if let now = role.engine?.clock.now { response.headers[.date] = date.text(at: now) }
                do {
                    try await writer.write(response: response.head, body: response.body)
                } catch is HTTPParserError {
                    throw HalfAnswered()  // thrown on, it would be answered a second time
                }
            },
            configuration: .init(
                additionalChannelHandlers: [LastRequest(patience: Self.patience)],
                idleTimeout: .milliseconds(limits.idleTimeout.wholeMilliseconds)))
    }

    private func bootstrap(_ group: MultiThreadedEventLoopGroup, _ quiescing: ServerQuiescingHelper) -> ServerBootstrap
    {
        ServerBootstrap(group: group)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .serverChannelInitializer { [limits, logger] channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(
                        AvailableConnectionsChannelHandler(
                            delegate: MaximumAvailableConnections(limits.maximumConnections, logger: logger)))
                    try pipeline.addHandler(quiescing.makeServerChannelHandler(channel: channel))
                    // Out of descriptors: connections wait in the queue until there are some.
                    try pipeline.addHandler(AcceptBackoffHandler())
                }
            }
    }

    /// Takes no more connections from the queue, and waits until each one that was taken has its handlers: one that has none
    /// when the socket closes is dropped. Work on an event loop is done in its order, so a word through each is enough.
    private static func letGo(of channel: any Channel, in group: MultiThreadedEventLoopGroup) -> EventLoopFuture<Void> {
        channel.setOption(.autoRead, value: false).flatMap {
            EventLoopFuture.andAllSucceed(group.makeIterator().map { $0.submit {} }, on: channel.eventLoop)
        }.flatMap { channel.eventLoop.submit {} }
    }
}

/// The client's bytes were no HTTP while it was being answered: the connection ends.
private struct HalfAnswered: Error {}
