// SPDX-License-Identifier: Apache-2.0

public import Logging
public import MilepostEngine
public import MilepostModel
public import MilepostStore

/// Turns what the engine does into metrics and structured log lines.
public struct MetricsReporter: EngineReporter {
    let metrics: MetricsRegistry
    let logger: Logger

    public init(metrics: MetricsRegistry, logger: Logger) {
        self.metrics = metrics
        self.logger = logger
    }

    public func attempted(_ record: AttemptRecord, on connection: Connection) {
        metrics.add(
            "milepost_delivery_attempts_total", 1,
            ["integration": connection.integration.description, "verb": record.verb, "verdict": record.verdict])
        logger.debug(
            "attempt",
            metadata: metadata(connection).merging([
                "delivery": "\(record.delivery)", "verb": "\(record.verb)", "verdict": "\(record.verdict)",
                "code": "\(record.code ?? "")",
            ]) { _, new in new })
    }

    public func settled(_ outcome: DeliveryOutcome, on connection: Connection) {
        metrics.add(
            "milepost_deliveries_total", 1,
            ["integration": connection.integration.description, "state": outcome.state.rawValue])
        let facts = metadata(connection).merging([
            "delivery": "\(outcome.delivery)", "state": "\(outcome.state.rawValue)",
            "reason": "\(outcome.reason?.message ?? "")",
        ]) { _, new in new }
        switch outcome.state {
        case .dead: logger.error("delivery given up: see milepost deliveries, then milepost replay", metadata: facts)
        case .uncertain:
            logger.warning("delivery uncertain: it is looked up before anything is sent again", metadata: facts)
        case .delivered, .dropped: logger.info("delivery settled", metadata: facts)
        case .pending, .held, .inFlight, .retrying: logger.debug("delivery settled", metadata: facts)
        }
    }

    public func warned(_ warning: Reason, delivery: DeliveryID, on connection: Connection) {
        metrics.add(
            "milepost_warnings_total", 1, ["integration": connection.integration.description, "code": warning.code])
        logger.warning(
            "\(warning.message)", metadata: metadata(connection).merging(["delivery": "\(delivery)"]) { _, new in new })
    }

    public func connectionMoved(_ connection: Connection, to state: Connection.State, reason: Reason?) {
        let facts = metadata(connection).merging(["state": "\(state.rawValue)", "reason": "\(reason?.message ?? "")"]) {
            _, new in new
        }
        if state == .active {
            logger.info("connection works again", metadata: facts)
        } else {
            logger.error("connection needs somebody: see milepost status", metadata: facts)
        }
    }

    public func connectionFails(_ connection: Connection, _ health: EndpointHealth, disablesAt: Timestamp?) {
        logger.warning(
            "no delivery of the connection succeeds; if none does, it is disabled",
            metadata: metadata(connection).merging([
                "failures": "\(health.failures)", "since": "\(health.failingSince.map(\.description) ?? "")",
                "disables_at": "\(disablesAt.map(\.description) ?? "never")",
                "reason": "\(health.lastFailure?.message ?? "")",
            ]) { _, new in new })
    }

    public func ticked(_ report: TickReport) {
        metrics.observe(
            "milepost_tick_duration_seconds", Double((report.finishedAt - report.startedAt).wholeMilliseconds) / 1000)
        metrics.add("milepost_ticks_total", 1, ["result": report.errors.isEmpty ? "ok" : "failed"])
        logger.debug("tick", metadata: ["report": "\(report.json)"])
    }

    public func refreshed(_ connection: Connection, succeeded: Bool) {
        let plugin = connection.integration.plugin.rawValue
        let result = succeeded ? "ok" : "error"
        metrics.add(MetricsRegistry.refreshAttempts(of: plugin), 1, ["result": result])
        metrics.add("milepost_refresh_attempts_total", 1, ["plugin": plugin, "result": result])
        metrics.add(
            "milepost_workspace_refresh_attempts_total", 1,
            ["workspace": connection.workspace.rawValue, "plugin": plugin, "result": result])
        if succeeded {
            logger.debug("tokens refreshed", metadata: metadata(connection))
        } else {
            logger.warning("tokens could not be refreshed: see milepost status", metadata: metadata(connection))
        }
    }

    public func streamed(_ counts: [StreamCount: Int64], lag: Duration?, on connection: Connection) {
        for (what, clicks) in counts where clicks > 0 {
            metrics.add(
                "milepost_stream_clicks_total", Int(clicks),
                [
                    "integration": connection.integration.description, "action": what.action,
                    "outcome": what.outcome,
                ])
        }
        if let lag {
            metrics.observe("milepost_stream_lag_seconds", Double(max(0, lag.wholeMilliseconds)) / 1000)
        }
    }

    public func streamFailed(_ connection: ConnectionID, _ problem: String) {
        logger.error(
            "a connection's clicks could not be dealt with; it goes on in a moment, where it was",
            metadata: ["connection": "\(connection)", "error": "\(problem)"])
    }

    public func tickFailed(_ workspace: WorkspaceID, _ problem: String) {
        logger.error(
            "a workspace was left out of the tick; the next tick tries again",
            metadata: ["workspace": "\(workspace)", "error": "\(problem)"])
    }

    public func goingOnFailed(_ connection: Connection, _ problem: String) {
        logger.error(
            "what waits on the connection could not be sent at once; the next tick goes on",
            metadata: metadata(connection).merging(["error": "\(problem)"]) { _, new in new })
    }

    public func rulesNoticed(_ workspace: WorkspaceID, _ notice: String) {
        logger.warning("rules: \(notice)", metadata: ["workspace": "\(workspace)"])
    }

    public func ruleCrossed(_ rule: String, in workspace: WorkspaceID, outcome: String) {
        metrics.add(
            "milepost_rule_crossings_total", 1,
            ["workspace": workspace.rawValue, "rule": rule, "outcome": outcome])
    }

    public func judged(_ decision: InterceptDecision, on connection: Connection) {
        metrics.add(
            "milepost_intercepts_total", 1,
            [
                "integration": connection.integration.description, "hook": decision.integration.description,
                "verdict": decision.verdict.rawValue, "effect": decision.effect.rawValue,
            ])
        metrics.observe(
            "milepost_intercept_duration_seconds",
            Double(max(0, (decision.answeredAt - decision.askedAt).wholeMilliseconds)) / 1000)
        let facts = metadata(connection).merging([
            "delivery": "\(decision.delivery)", "hook": "\(decision.integration)",
            "verdict": "\(decision.verdict.rawValue)", "effect": "\(decision.effect.rawValue)",
        ]) { _, new in new }
        if decision.verdict == .drop {
            logger.notice("vetoed by hook: \(decision.sentence)", metadata: facts)
        } else if decision.verdict == .failed {
            logger.warning("\(decision.sentence)", metadata: facts)
        } else {
            logger.debug("\(decision.sentence)", metadata: facts)
        }
    }

    /// Counts requests that stood in line for a vendor's budget, and for how long (OBS-07).
    public func egressWaited(origin: String, for duration: Duration) {
        guard duration > .zero else { return }
        metrics.add("milepost_egress_limiter_waits_total", 1, ["origin": origin])
        metrics.add(
            "milepost_egress_limiter_wait_milliseconds_total", Int(duration.wholeMilliseconds), ["origin": origin])
    }

    /// Counts what the plugin host tells of a plugin.
    public func pluginEvent(plugin: PluginName, event: String, code: String) {
        metrics.add("milepost_plugin_events_total", 1, ["plugin": plugin.rawValue, "event": event, "code": code])
    }

    private func metadata(_ connection: Connection) -> Logger.Metadata {
        ["integration": "\(connection.integration)", "workspace": "\(connection.workspace)"]
    }
}
