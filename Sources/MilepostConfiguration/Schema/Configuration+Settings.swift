// SPDX-License-Identifier: Apache-2.0

extension Configuration {
    /// Every key but those below `plans` and `plugins`, in the order of the reference.
    static let settings: [Setting<Configuration>] = daemonSettings + deliverySettings + dataSettings + outputSettings

    private static let daemonSettings: [Setting<Configuration>] = [
        Setting(
            "listen", \.listen, .list(.address, "host:port, or a list of such", nonEmpty: true),
            "Address of the HTTP server, or a list of addresses. Put a TLS proxy in front before you open it to a network."
        ),
        Setting(
            "data_dir", \.dataDirectory, .path,
            "Folder of the database and its lock; owned by the daemon, mode 0700."),
        Setting(
            "plugin_dirs", \.pluginDirectories, .list(.path, "a list of absolute paths"),
            "Folders searched for plugins, first match wins. Files must belong to root or to the daemon."),
        Setting(
            "worker_path", \.workerPath, .optional(.path),
            "The worker launcher. null means milepost-plugin-worker beside milepostd, else in /usr/lib/milepost."),
        Setting(
            "kms.type", \.kms.type, .choice, "Where the key that encrypts all secrets comes from."),
        Setting(
            "kms.path", \.kms.path, .path,
            "The key ring, outside data_dir. $CREDENTIALS_DIRECTORY/kek wins where systemd sets that variable."),
        Setting(
            "public_url", \.publicURL, .optional(.httpURL),
            "Where the internet reaches this daemon, without a slash at the end; null when it does not."),
        Setting(
            "analytics_url", \.analyticsURL, .optional(.linkTemplate),
            "Link in notes, with {workspace}, {scope} (link or folder), {link}, {folder}; left out where one is missing."
        ),
        Setting(
            "trusted_proxies", \.trustedProxies, .list(.network, "a list of addresses or CIDR blocks"), hot: true,
            "Proxies whose X-Forwarded-For is believed for the client's address in log lines and audit rows."),
        Setting(
            "sandbox", \.sandbox, .choice,
            "strict refuses a worker that the kernel cannot confine; best-effort runs it and says what is missing."),
    ]

    private static let deliverySettings: [Setting<Configuration>] = [
        Setting(
            "schedule.threshold_interval", \.schedule.thresholdInterval, .duration(.seconds(1) ... .seconds(86_400)),
            "Time between two ticks. A tick takes what came in since the last one by a cursor: no window, no late buffer."
        ),
        Setting(
            "delivery.request_timeout", \.delivery.requestTimeout, .duration(.seconds(1) ... .seconds(600)),
            "One HTTP exchange with a vendor."),
        Setting(
            "delivery.max_attempts", \.delivery.maxAttempts, .integer(1...100_000),
            "Attempts before a delivery becomes a dead letter."),
        Setting(
            "delivery.max_age", \.delivery.maxAge, .duration(.seconds(60) ... .seconds(2_592_000)),
            "Age at which a delivery becomes a dead letter; time spent waiting for a person does not count."),
        Setting(
            "delivery.in_tick_retries", \.delivery.inTickRetries, .integer(0...10),
            "Retries within one tick after the vendor answered 429 or 503."),
        Setting(
            "delivery.retry_base", \.delivery.retryBase, .duration(.milliseconds(1) ... .seconds(60)),
            "Longest wait before the first retry; doubles with each one."),
        Setting(
            "delivery.operation_timeout", \.delivery.operationTimeout, .duration(.seconds(1) ... .seconds(3600)),
            "One operation of a plugin with all its requests; at least request_timeout."),
        Setting(
            "delivery.connections_per_host", \.delivery.connectionsPerHost, .integer(1...1024),
            "Connections to one server at once; where it speaks HTTP/2, one carries many requests."),
    ]

    private static let dataSettings: [Setting<Configuration>] = [
        Setting(
            "identity.match_window", \.identity.matchWindow, .duration(.seconds(60) ... .seconds(90 * 86_400)),
            "How far apart a click and a form with the same gclid or fbclid may be to be one person's."),
        Setting(
            "identity.hold", \.identity.hold, .duration(.seconds(1) ... .seconds(30 * 86_400)),
            "How long a click whose contact nobody knows waits for such a form."),
        Setting(
            "retention.clicks_days", \.retention.clicksDays, .integer(1...3650), hot: true,
            "Days for which raw clicks are kept. Totals stay for ever."),
        Setting(
            "retention.deliveries_days", \.retention.deliveriesDays, .integer(1...3650), hot: true,
            "Days for which finished deliveries and their journals are kept."),
        Setting(
            "retention.dedupe_days", \.retention.dedupeDays, .integer(1...3650), hot: true,
            "Days for which a click's id is remembered, so that a repeat counts once; at least clicks_days."),
        Setting(
            "intake.max_body", \.intake.maxBody, .size(1 << 10...1 << 30), hot: true,
            "Bytes of one request after decompression."),
        Setting(
            "intake.max_line", \.intake.maxLine, .size(256...16 << 20), hot: true,
            "Bytes of one click; at most max_body."),
        Setting("intake.max_depth", \.intake.maxDepth, .integer(2...64), hot: true, "Nesting of one click's JSON."),
        Setting(
            "intake.group_commit_max", \.intake.groupCommitMax, .integer(1...65_536),
            "Clicks that share one transaction."),
        Setting(
            "intake.future_tolerance", \.intake.futureTolerance, .duration(.zero ... .seconds(86_400)), hot: true,
            "How far ahead of the clock a click's time may lie."),
        Setting(
            "limits.connections", \.limits.connections, .integer(1...100_000),
            "HTTP connections open at once on each listener; more wait."),
        Setting(
            "limits.idle_timeout", \.limits.idleTimeout, .duration(.seconds(1) ... .seconds(3600)),
            "Time a connection may stay silent."),
        Setting(
            "limits.max_json_body", \.limits.maxJSONBody, .size(1 << 10...64 << 20), hot: true,
            "Bytes of a JSON body on every route but events."),
        Setting(
            "limits.workspaces", \.limits.workspaces, .integer(1...1_000_000), hot: true, "Workspaces on this daemon."),
        Setting(
            "limits.integrations_per_workspace", \.limits.integrationsPerWorkspace, .integer(1...1000), hot: true,
            "Connections of one workspace."),
        Setting(
            "limits.least_free_disk", \.limits.leastFreeDisk, .size(0...1 << 50), hot: true,
            "Free bytes on the disk of data_dir below which status and doctor ask for room."),
    ]

    private static let outputSettings: [Setting<Configuration>] = [
        Setting(
            "log.level", \.log.level, .choice, hot: true,
            "The least level that is written, by plugins too."),
        Setting("log.format", \.log.format, .choice, "Lines for people or JSON for collectors, on standard error."),
        Setting("metrics.public", \.metrics.isPublic, .boolean, hot: true, "Whether /metrics answers without a token."),
        Setting(
            "bots.extra_agents", \.bots.extraAgents, .list(.text("a word"), "a list of words"), hot: true,
            "Words that mark a user agent as a robot's, beside those Milepost knows."),
    ]
}

extension Configuration.Plan {
    /// Keys of one plan, in the order of the reference.
    static let settings: [Setting<Configuration.Plan>] = [
        Setting(
            "integrations", \.integrations, .optional(.list(.text("a plugin's name"), "a list of plugin names")),
            "Plugins a workspace may connect; null means all."),
        Setting("fires", \.fires, .boolean, "Whether crossings and rules fire."),
        Setting(
            "trial_days", \.trialDays, .optional(.integer(0...36_500)),
            "Days for which it fires from the trial's start; null means no end."),
    ]
}

extension Configuration.Plugin {
    /// Keys of one plugin, in the order of the reference.
    static let settings: [Setting<Configuration.Plugin>] = [
        Setting("enabled", \.enabled, .boolean, hot: true, "Plugins run only when switched on."),
        Setting(
            "isolation", \.isolation, .choice, hot: true,
            "worker: a confined process of its own. inline: a thread of the daemon, faster, and its crash is the daemon's."
        ),
        Setting(
            "endpoints", \.endpoints, .map(.httpURL, "a map from the manifest's endpoint names to URLs"), hot: true,
            "Base URLs in place of the manifest's, for sandboxes and proxies."),
        Setting(
            "rate_plan", \.ratePlan, .optional(.text("a name")), hot: true,
            "The vendor plan whose rate limits apply; null means the manifest's default."),
        Setting(
            "sha256", \.sha256, .optional(.sha256), hot: true,
            "Pins the content of <name>.so, checked before it is loaded; null trusts owner and mode alone."),
        Setting(
            "credential_help", \.credentialHelp, .optional(.httpURL), hot: true,
            "The vendor's page on where its token is, when it has moved; null keeps the manifest's."),
    ]
}
