// SPDX-License-Identifier: Apache-2.0

/// Everything an administrator may set about the daemon and its plugins (decisions 32); connections and rules are not here.
///
/// A value is complete and checked: every number lies in its range, every name is known. It holds no secret, only paths to
/// them. The defaults are those of `init()`, and `Configuration.reference()` prints each with its meaning.
public struct Configuration: Sendable, Equatable {
    /// Addresses the HTTP server binds, at least one.
    public var listen: [ListenAddress] = [ListenAddress(host: "127.0.0.1", port: 8787)]
    /// Where the database and its lock live; absolute.
    public var dataDirectory = "/var/lib/milepost"
    /// Folders searched for `<name>.so` with `<name>.json` beside it, in this order.
    public var pluginDirectories = ["/usr/lib/milepost/plugins"]
    /// The worker launcher; nil means `milepost-plugin-worker` beside the daemon, else in `/usr/lib/milepost`.
    public var workerPath: String?
    public var kms = KeyManagement()
    /// The address under which the internet reaches this daemon, without a trailing slash; nil when there is none.
    public var publicURL: String?
    /// Where a person can look at a link or folder, with `{workspace}`, `{link}`, `{folder}` and `{scope}` to be filled in;
    /// nil when notes carry no link (DEAL-04).
    public var analyticsURL: String?
    /// Proxies (addresses or CIDR blocks) whose `X-Forwarded-For` is believed when a log line or an audit row names the
    /// client (decisions 36).
    public var trustedProxies: [String] = []
    /// What happens to a worker when the kernel lacks Landlock or seccomp.
    public var sandbox = SandboxPolicy.strict
    public var schedule = Schedule()
    public var delivery = Delivery()
    public var retention = Retention()
    public var intake = Intake()
    public var limits = Limits()
    public var log = Log()
    public var metrics = Metrics()
    public var bots = Bots()
    public var identity = Identity()
    /// Plans by name; none means that everything is allowed (PLAN-05).
    public var plans: [String: Plan] = [:]
    /// Plugins by name, which is file stem, REST name and key at once (decisions 18).
    public var plugins: [String: Plugin] = [:]

    public init() {}
}

/// A host and a TCP port; IPv6 hosts are written in brackets.
public struct ListenAddress: Sendable, Hashable, CustomStringConvertible {
    /// A name or an address, without brackets.
    public var host: String
    /// 0 lets the kernel choose.
    public var port: Int

    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// What happens where the kernel cannot confine a worker fully.
public enum SandboxPolicy: String, Sendable, CaseIterable {
    /// The plugin is refused.
    case strict
    /// The plugin runs with what the kernel offers, and status says what is missing.
    case bestEffort = "best-effort"
}

extension Configuration {
    /// Where the key that encrypts all others comes from.
    public struct KeyManagement: Sendable, Equatable {
        public enum Kind: String, Sendable, CaseIterable { case file }
        public var type = Kind.file
        /// The key ring; never inside `data_dir`. `$CREDENTIALS_DIRECTORY/kek` wins when that variable is set (decisions 33).
        public var path = "/etc/milepost/credentials/kek"
        public init() {}
    }

    /// The threshold schedule. A tick reads what came in since the last one by a cursor, however late, so that it needs
    /// neither a window nor a buffer (Z-03).
    public struct Schedule: Sendable, Equatable {
        /// Time between two ticks.
        public var thresholdInterval = Duration.seconds(300)
        public init() {}
    }

    /// Limits of one delivery and of its attempts.
    public struct Delivery: Sendable, Equatable {
        /// One HTTP exchange with a vendor.
        public var requestTimeout = Duration.seconds(30)
        /// Attempts before a delivery becomes a dead letter (Z-04).
        public var maxAttempts = 600
        /// Age at which a delivery becomes a dead letter; stands still while it waits for a person (decisions 9).
        public var maxAge = Duration.seconds(86_400)
        /// Retries inside one tick after 429 or 503 (THR-14).
        public var inTickRetries = 2
        /// Ceiling of the first retry's jitter; doubles with each attempt.
        public var retryBase = Duration.milliseconds(500)
        /// One plugin operation, all its requests included.
        public var operationTimeout = Duration.seconds(60)
        /// HTTP/1.1 connections to one vendor's server at once.
        public var connectionsPerHost = 8
        public init() {}
    }

    /// How long things are kept. Totals are kept for ever.
    public struct Retention: Sendable, Equatable {
        /// Days of receipt for which raw clicks are kept.
        public var clicksDays = 90
        /// Days for which finished deliveries and their journals are kept.
        public var deliveriesDays = 365
        /// Days for which an event id is remembered; never below `clicksDays` (decisions 7).
        public var dedupeDays = 90
        public init() {}
    }

    /// Limits of the door through which clicks come.
    public struct Intake: Sendable, Equatable {
        /// Bytes of one request body after decompression.
        public var maxBody = 32 << 20
        /// Bytes of one NDJSON line.
        public var maxLine = 64 << 10
        /// Nesting of one JSON document.
        public var maxDepth = 16
        /// Clicks that share one transaction, hence one fsync.
        public var groupCommitMax = 8192
        /// How far ahead of the clock a click's time may lie (decisions 14).
        public var futureTolerance = Duration.seconds(300)
        public init() {}
    }

    /// Bounds that keep one tenant or client from starving the others.
    public struct Limits: Sendable, Equatable {
        /// HTTP connections open at once on each listener; more wait in the kernel's queue.
        public var connections = 1024
        /// Time a connection may stay silent.
        public var idleTimeout = Duration.seconds(75)
        /// Bytes of a JSON body on every route but events.
        public var maxJSONBody = 1 << 20
        /// Workspaces on this daemon.
        public var workspaces = 10_000
        /// Connections of one workspace.
        public var integrationsPerWorkspace = 50
        /// Bytes free on the disk of the data directory below which status and doctor ask for room.
        public var leastFreeDisk = 1 << 30
        public init() {}
    }

    /// The daemon's log, on standard error.
    public struct Log: Sendable, Equatable {
        public enum Level: String, Sendable, CaseIterable { case error, warning, info, debug, trace }
        public enum Format: String, Sendable, CaseIterable { case text, json }
        public var level = Level.info
        public var format = Format.text
        public init() {}
    }

    /// `/metrics`.
    public struct Metrics: Sendable, Equatable {
        /// Whether `/metrics` answers without a token.
        public var isPublic = false
        public init() {}
    }

    /// Robots beside those Milepost knows.
    public struct Bots: Sendable, Equatable {
        /// Words that mark a user agent as a robot's, compared without case.
        public var extraAgents: [String] = []
        public init() {}
    }

    /// How clicks find their contact (RES-06).
    public struct Identity: Sendable, Equatable {
        /// How far apart a click and the form that names its sender may be.
        public var matchWindow = Duration.seconds(14 * 86_400)
        /// How long a click waits for such a form.
        public var hold = Duration.seconds(72 * 3600)
        public init() {}
    }

    /// What a workspace on one plan may do (PLAN-05).
    public struct Plan: Sendable, Equatable {
        /// Plugins a workspace may connect; nil means all.
        public var integrations: [String]?
        /// Whether crossings and rules fire.
        public var fires = true
        /// Length of a trial that ends by itself; nil means no end.
        public var trialDays: Int?
        public init() {}
    }

    /// One plugin.
    public struct Plugin: Sendable, Equatable {
        public enum Isolation: String, Sendable, CaseIterable { case worker, inline }
        /// Plugins run only when switched on.
        public var enabled = false
        /// `worker` is a confined process of its own, `inline` a thread of the daemon.
        public var isolation = Isolation.worker
        /// Base URLs in place of the manifest's, by the manifest's names (sandboxes, proxies).
        public var endpoints: [String: String] = [:]
        /// Which of the manifest's rate plans applies to the vendor account; nil means the manifest's default.
        public var ratePlan: String?
        /// The object's expected SHA-256 in lower-case hexadecimal; nil trusts owner and mode alone (decisions 19).
        public var sha256: String?
        /// The vendor's page that shows where its token is, in place of the manifest's; nil keeps that.
        public var credentialHelp: String?
        public init() {}
    }
}
