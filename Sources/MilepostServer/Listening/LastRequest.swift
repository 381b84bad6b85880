// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import NIOCore
import NIOHTTPTypes

/// Gives a connection that was taken in before the end the time to say its request, and answers it.
///
/// The framework closes silent connections at once when the server ends. Behind a socket that outlives the daemon this would be
/// the one moment in which somebody who connects in time is turned away: taken from the kernel's queue, not heard any more.
///
/// Lives on one event loop, before the framework's own handler of connections, from which it holds the news back.
final class LastRequest: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private let patience: TimeAmount
    private var openRequests = 0
    private var isEnding = false
    private var waiting: Scheduled<Void>?

    /// - Parameter patience: how long a silent connection is listened to once the end has been told.
    init(patience: TimeAmount) { self.patience = patience }

    func handlerRemoved(context: ChannelHandlerContext) { waiting?.cancel() }

    func channelInactive(context: ChannelHandlerContext) {
        waiting?.cancel()
        waiting = nil
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .head = unwrapInboundIn(data) { openRequests += 1 }
        context.fireChannelRead(data)
        guard openRequests > 0, let held = waiting else { return }
        held.cancel()
        waiting = nil
        context.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch unwrapOutboundIn(data) {
        case .head(var head) where isEnding && head.status.kind != .informational:
            // Else the client would send its next request into a connection that goes.
            head.headerFields[.connection] = "close"
            context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .end:
            openRequests -= 1
            context.write(data, promise: promise)
        default:
            context.write(data, promise: promise)
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard event is ChannelShouldQuiesceEvent, !isEnding else {
            if !(event is ChannelShouldQuiesceEvent) { context.fireUserInboundEventTriggered(event) }
            return
        }
        isEnding = true
        guard openRequests == 0 else {
            context.fireUserInboundEventTriggered(event)
            return
        }
        let here = NIOLoopBound((handler: self, context: context), eventLoop: context.eventLoop)
        waiting = context.eventLoop.scheduleTask(in: patience) {
            let (handler, context) = here.value
            handler.waiting = nil
            context.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
        }
    }
}

@available(*, unavailable)
extension LastRequest: Sendable {}
