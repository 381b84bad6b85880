// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
public import Hummingbird
import HummingbirdCore
public import Logging
import MilepostEngine
import MilepostModel
import MilepostStore
import NIOCore
public import ServiceLifecycle

/// The REST API, health and metrics, on as many listeners as the configuration names.
public struct MilepostServer: Sendable {
    let context: ServerContext
    private let routes: [Route]

    /// - Parameter logger: for this server's own lines; request lines come at `debug`.
    public init(
        role: ServerRole, live: LiveSettings, control: any DaemonControl, logger: Logger, metrics: MetricsRegistry
    ) {
        routes = Self.routes
        context = ServerContext(
            role: role, live: live, control: control, logger: logger, metrics: metrics, authenticator: Authenticator(),
            counters: RequestCounters(metrics: metrics), knownWorkspaces: KnownWorkspaces())
    }

    /// Every route, in the order of the documentation.
    package static var routes: [Route] {
        healthRoutes + eventRoutes + linkRoutes + linkBatchRoutes + integrationRoutes + deliveryRoutes + contactRoutes
            + streamRoutes + adminRoutes + planRoutes + managedRoutes + oauthRoutes + ruleRoutes + provisionRoutes
            + rolloutRoutes + endpointRoutes + vendorEventRoutes + configurationRoutes
    }

    /// The application for a service group, one for each listener.
    ///
    /// - Parameters:
    ///   - frameworkLogger: for the HTTP framework's own lines.
    ///   - onRunning: is told the bound port, once.
    public func application(
        on listener: ListenerSettings, frameworkLogger: Logger, onRunning: @escaping @Sendable (Int) async -> Void
    ) -> some ApplicationProtocol {
        Application(
            router: router(),
            server: .http1(
                configuration: .init(idleTimeout: .milliseconds(listener.idleTimeout.wholeMilliseconds))),
            configuration: ApplicationConfiguration(
                address: .hostname(listener.host, port: listener.port), serverName: nil,
                availableConnectionsDelegate: MaximumAvailableConnections(
                    listener.maximumConnections, logger: frameworkLogger)),
            onServerRunning: { channel in await onRunning(channel.localAddress?.port ?? 0) },
            logger: frameworkLogger)
    }

    /// The service for a socket that is bound already and that outlives this daemon; it is served once the engine takes work.
    ///
    /// - Parameters:
    ///   - descriptor: a listening stream socket, which belongs to the service from now on.
    ///   - limits: host and port mean nothing here.
    ///   - onRunning: is told that connections are taken, once.
    public func service(
        on descriptor: Int32, limits: ListenerSettings, frameworkLogger: Logger,
        onRunning: @escaping @Sendable () async -> Void
    ) -> any Service {
        HandedListener(
            descriptor: descriptor, limits: limits, role: context.role, responder: router().buildResponder(),
            logger: frameworkLogger, onRunning: onRunning)
    }

    private func router() -> Router<ServerRequestContext> {
        let router = Router(context: ServerRequestContext.self, options: .autoGenerateHeadEndpoints)
        router.add(middleware: UnroutedMiddleware(context: context, routes: routes))
        for (index, route) in routes.enumerated() {
            router.on(RouterPath(route.path), method: route.method) { [context] request, requestContext in
                await context.respond(route, index, request, requestContext)
            }
        }
        return router
    }
}

/// What Hummingbird keeps beside a request: its id, the route's parameters, and who is at the other end.
struct ServerRequestContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    private let channel: any Channel

    init(source: Source) {
        coreContext = .init(source: source)
        channel = source.channel
    }

    var peer: String? { channel.remoteAddress?.ipAddress }

    /// The framework keeps its id in the logger's metadata and traps where a log handler drops that.
    var requestID: String { logger[metadataKey: "hb.request.id"]?.description ?? "-" }
}

/// What every handler may reach.
struct ServerContext: Sendable {
    let role: ServerRole
    let live: LiveSettings
    let control: any DaemonControl
    let logger: Logger
    let metrics: MetricsRegistry
    let authenticator: Authenticator
    let counters: RequestCounters
    let knownWorkspaces: KnownWorkspaces

    /// Answers whatever happens: an error becomes a problem document. Counts the request and says it at `debug`.
    func respond(
        _ route: Route, _ index: Int, _ request: Request, _ requestContext: ServerRequestContext
    ) async -> Response {
        let began = logger.logLevel <= .debug ? ContinuousClock.now : nil
        let id = requestContext.requestID
        var response: Response
        do {
            response = try await answer(route, request, requestContext)
        } catch {
            response = problem(for: error, request, id).response
        }
        response.headers[.requestID] = id
        counters.count(route: index, path: route.path, status: response.status.code)
        if let began { log(request, requestContext, response, since: began) }
        return response
    }

    /// Authenticates, runs the handler, leaves the audit row.
    private func answer(
        _ route: Route, _ request: Request, _ requestContext: ServerRequestContext
    ) async throws -> Response {
        guard let engine = role.engine else { return standby(route) }
        let live = live.current
        var principal: Principal?
        if let needed = neededScope(route, live.settings) {
            let found = try await authenticator.principal(
                authorization: request.headers[.authorization], store: engine.store, now: engine.clock.now)
            try check(found, route, needed)
            principal = found
        }
        let call = Call(
            engine: engine, principal: principal, request: request, parameters: requestContext.parameters, server: self,
            live: live)
        // Read before anything is changed: a name that is none must not keep a change out of the log.
        let file = try route.isAudited ? call.managedBy() : nil
        let answer = try await route.handler(call)
        if route.isAudited, let principal {
            var detail = answer.auditDetail.object ?? [:]
            if let client = client(request, requestContext) { detail["client"] = .string(client) }
            if let file { detail["managed_by"] = .string(file) }
            try await engine.store.audit(
                AuditEntry(
                    at: engine.clock.now, actor: principal.actor, action: route.operationID,
                    target: route.auditTarget(request.uri.path),
                    detail: .object(detail)))
        }
        return answer.response
    }

    private func check(_ principal: Principal, _ route: Route, _ needed: AccessScope) throws(Problem) {
        guard principal.has(needed) else {
            throw Problem(
                status: .forbidden, code: "forbidden",
                detail: "This needs the scope \(needed.rawValue); the token \(principal.name) has "
                    + principal.scopes.map(\.rawValue).joined(separator: ", ") + ".")
        }
        if principal.workspace != nil, route.isDaemonWide {
            throw Problem(
                status: .forbidden, code: "forbidden",
                detail: "This concerns the whole daemon, and the token \(principal.name) is for one workspace.")
        }
    }

    private func neededScope(_ route: Route, _ settings: ServerSettings) -> AccessScope? {
        switch route.access {
        case .open: nil
        case .scope(let scope): route.operationID == "metrics" && settings.hasPublicMetrics ? nil : scope
        }
    }

    /// A standby is alive and not ready, and says so on every other route; so does a daemon that has not started yet.
    private func standby(_ route: Route) -> Response {
        let name = role.isStarting ? "starting" : "standby"
        if route.operationID == "healthz" { return Answer(["status": "ok", "role": .string(name)]).response }
        if role.isStarting {
            return Problem(
                status: .serviceUnavailable, code: "starting",
                detail: "This daemon is opening its database and loading plugins. Try again in a moment.",
                headers: [.retryAfter: "1"]
            ).response
        }
        return Problem(
            status: .serviceUnavailable, code: "standby",
            detail: "Another milepostd works on this data directory; this one takes over when that one ends.",
            headers: [.retryAfter: "1"]
        ).response
    }

    /// What a client may read of an error; the rest goes to the log, under the request's id.
    func problem(for error: any Error, _ request: Request, _ id: String) -> Problem {
        if let problem = Problem(error) { return problem }
        logger.error(
            "request failed",
            metadata: [
                "request": "\(id)", "method": "\(request.method)", "path": "\(request.uri.path)", "error": "\(error)",
            ])
        return Problem(
            status: .internalServerError, code: "internal",
            detail: "Something went wrong that should not; the log names it under request \(id).")
    }

    private func client(_ request: Request, _ requestContext: ServerRequestContext) -> String? {
        live.current.settings.trustedProxies.client(
            peer: requestContext.peer, forwarded: request.headers[values: .forwardedFor])
    }

    func log(
        _ request: Request, _ requestContext: ServerRequestContext, _ response: Response,
        since began: ContinuousClock.Instant
    ) {
        let duration = ContinuousClock.now - began
        let (seconds, attoseconds) = duration.components
        let microseconds = seconds * 1_000_000 + attoseconds / 1_000_000_000_000
        logger.debug(
            "\(request.method) \(request.uri.path) \(response.status.code)",
            metadata: [
                "ms": "\(microseconds / 1000).\(String(microseconds % 1000 + 1000).dropFirst())",
                "request": "\(requestContext.requestID)", "client": "\(client(request, requestContext) ?? "-")",
            ])
    }
}

/// Answers what no route takes: unknown paths and methods.
struct UnroutedMiddleware: RouterMiddleware {
    typealias Context = ServerRequestContext
    let context: ServerContext
    let routes: [Route]

    func handle(
        _ request: Request, context requestContext: ServerRequestContext,
        next: @concurrent (Request, ServerRequestContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, requestContext)
        } catch {
            let began = ContinuousClock.now
            var response = problem(for: error, request, requestContext).response
            response.headers[.requestID] = requestContext.requestID
            context.counters.count(route: -1, path: "none", status: response.status.code)
            context.log(request, requestContext, response, since: began)
            return response
        }
    }

    private func problem(for error: any Error, _ request: Request, _ requestContext: ServerRequestContext) -> Problem {
        if let error = error as? HTTPError, error.status == .notFound, let allowed = allowedMethods(request) {
            return Problem(
                status: .methodNotAllowed, code: "method_not_allowed",
                detail: "\(request.method) is not offered here; \(allowed) is.", headers: [.allow: allowed])
        }
        return context.problem(for: error, request, requestContext.requestID)
    }

    private func allowedMethods(_ request: Request) -> String? {
        let segments = request.uri.path.split(separator: "/")
        let methods = routes.filter { route in
            let pattern = route.path.split(separator: "/")
            return pattern.count == segments.count
                && zip(pattern, segments).allSatisfy { $0.hasPrefix("{") || $0 == $1 }
        }.flatMap { $0.method == .get ? ["GET", "HEAD"] : [$0.method.rawValue] }
        return methods.isEmpty ? nil : Set(methods).sorted().joined(separator: ", ")
    }
}

extension HTTPField.Name {
    static let requestID = HTTPField.Name("x-request-id")!
    static let forwardedFor = HTTPField.Name("x-forwarded-for")!
}
