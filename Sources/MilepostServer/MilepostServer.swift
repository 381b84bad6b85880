// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
public import Hummingbird
public import Logging
import MilepostEngine
public import MilepostIntake
import MilepostModel
import MilepostStore

/// The REST API, health and metrics on one listener.
public struct MilepostServer: Sendable {
    let context: ServerContext

    public init(
        role: ServerRole, intake: ClickParser, control: any DaemonControl, settings: ServerSettings, logger: Logger,
        metrics: MetricsRegistry
    ) {
        context = ServerContext(
            role: role, intake: intake, control: control, settings: settings, logger: logger, metrics: metrics,
            authenticator: Authenticator())
    }

    /// Every route, in the order of the documentation.
    static var routes: [Route] {
        healthRoutes + eventRoutes + linkRoutes + integrationRoutes + deliveryRoutes + contactRoutes + adminRoutes
    }

    /// The application for a service group. `onRunning` is told the bound port, once.
    public func application(onRunning: @escaping @Sendable (Int) async -> Void) -> some ApplicationProtocol {
        let router = Router()
        router.add(middleware: ProblemMiddleware(context: context, routes: Self.routes))
        for route in Self.routes {
            router.on(RouterPath(route.path), method: route.method) { [context] request, requestContext in
                try await context.answer(route, request, parameters: requestContext.parameters)
            }
        }
        return Application(
            router: router,
            configuration: ApplicationConfiguration(
                address: .hostname(context.settings.host, port: context.settings.port), serverName: nil),
            onServerRunning: { channel in await onRunning(channel.localAddress?.port ?? 0) },
            logger: context.logger)
    }
}

/// What every handler may reach.
struct ServerContext: Sendable {
    let role: ServerRole
    let intake: ClickParser
    let control: any DaemonControl
    let settings: ServerSettings
    let logger: Logger
    let metrics: MetricsRegistry
    let authenticator: Authenticator

    /// Authenticates, runs the handler, leaves the audit row.
    func answer(_ route: Route, _ request: Request, parameters: Parameters) async throws -> Response {
        guard let engine = role.engine else { return standby(route) }
        var principal: Principal?
        if let needed = neededScope(route) {
            let found = try await authenticator.principal(
                authorization: request.headers[.authorization], store: engine.store, now: engine.clock.now)
            guard found.has(needed) else {
                throw Problem(
                    status: .forbidden, code: "forbidden",
                    detail: "This needs the scope \(needed.rawValue); the token \(found.name) has "
                        + found.scopes.map(\.rawValue).joined(separator: ", ") + ".")
            }
            if found.workspace != nil, route.path.hasPrefix("/v1/admin") {
                throw Problem(
                    status: .forbidden, code: "forbidden", detail: "A token of one workspace does not open the admin routes.")
            }
            principal = found
        }
        let call = Call(
            engine: engine, principal: principal, request: request, parameters: parameters, server: self)
        let answer = try await route.handler(call)
        if route.isAudited, let principal {
            try await engine.store.audit(
                AuditEntry(
                    at: engine.clock.now, actor: principal.actor, action: route.operationID, target: request.uri.path,
                    detail: answer.auditDetail))
        }
        return answer.response
    }

    private func neededScope(_ route: Route) -> AccessScope? {
        if route.operationID == "metrics", settings.hasPublicMetrics { return nil }
        if case .scope(let scope) = route.access { return scope }
        return nil
    }

    /// A standby is alive and not ready, and says so on every other route.
    private func standby(_ route: Route) -> Response {
        if route.operationID == "healthz" { return Answer(["status": "ok", "role": "standby"]).response }
        return Problem(
            status: .serviceUnavailable, code: "standby",
            detail: "Another milepostd works on this data directory; this one takes over when that one ends.",
            headers: [.retryAfter: "1"]
        ).response
    }
}

/// Turns every error into a problem document, counts requests, and logs what a client may not read.
struct ProblemMiddleware: RouterMiddleware {
    typealias Context = BasicRequestContext
    let context: ServerContext
    let routes: [Route]

    func handle(
        _ request: Request, context requestContext: BasicRequestContext,
        next: @concurrent (Request, BasicRequestContext) async throws -> Response
    ) async throws -> Response {
        let response: Response
        do {
            response = try await next(request, requestContext)
        } catch {
            response = problem(for: error, request, requestContext).response
        }
        context.metrics.add(
            "milepost_http_requests_total", 1,
            ["route": requestContext.endpointPath ?? "none", "status": String(response.status.code)])
        return response
    }

    private func problem(for error: any Error, _ request: Request, _ requestContext: BasicRequestContext) -> Problem {
        if let error = error as? HTTPError, error.status == .notFound, let allowed = allowedMethods(request) {
            return Problem(
                status: .methodNotAllowed, code: "method_not_allowed",
                detail: "\(request.method) is not offered here; \(allowed) is.", headers: [.allow: allowed])
        }
        if let problem = Problem(error) { return problem }
        context.logger.error(
            "request failed", metadata: ["incident": "\(requestContext.id)", "path": "\(request.uri.path)", "error": "\(error)"])
        return Problem(
            status: .internalServerError, code: "internal",
            detail: "Something went wrong that should not; the log names it under incident \(requestContext.id).")
    }

    private func allowedMethods(_ request: Request) -> String? {
        let segments = request.uri.path.split(separator: "/")
        let methods = routes.filter { route in
            let pattern = route.path.split(separator: "/")
            return pattern.count == segments.count
                && zip(pattern, segments).allSatisfy { $0.hasPrefix("{") || $0 == $1 }
        }.map(\.method.rawValue)
        return methods.isEmpty ? nil : Set(methods).sorted().joined(separator: ", ")
    }
}
