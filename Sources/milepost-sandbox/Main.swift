// SPDX-License-Identifier: Apache-2.0

public import ArgumentParser
import Logging
public import MilepostSandbox

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

@main
struct SandboxCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "milepost-sandbox",
        abstract: "Emulates the CRMs that Milepost talks to, on this machine only.",
        discussion: """
            Try Milepost, or your own plugin, with no CRM account: start the sandbox, point the plugin's endpoint at it, \
            and see what was really created.

              milepost-sandbox --listen 127.0.0.1:8899
              curl -H 'x-api-token: sandbox-token' http://127.0.0.1:8899/v1/users/me
              curl -H 'x-api-token: sandbox-token' -H 'content-type: application/json' \\
                   -d '{"title":"First deal","pipeline_id":1,"stage_id":11}' \\
                   http://127.0.0.1:8899/api/v2/deals
              curl http://127.0.0.1:8899/_sandbox/ledger.txt

            Milepost's own configuration points there with

              plugins:
                pipedrive: { enabled: true, endpoints: { api: "http://127.0.0.1:8899" } }

            Pipedrive is served at /api/v2, /api/v1 and /v1. The account has the pipelines Inbound (1: stages 11 New, \
            12 Contacted, 13 Qualified) and Renewals (2), and custom deal fields; GET /_sandbox/state shows all.

            HubSpot is served at /crm, /integrators/timeline and /events, in the v3/v4 and the dated generations. The account \
            (hub 62515) has the contact 37765128953 (a@x.test) with the deal 9001, and the pipeline default:

              curl -H 'authorization: Bearer sandbox-private-app-token' -X PATCH -H 'content-type: application/json' \\
                   -d '{"properties":{"dealstage":"qualifiedtobuy"}}' http://127.0.0.1:8899/crm/v3/objects/deals/9001

            OAuth of both at /oauth: HubSpot's app is sandbox-client with the secret sandbox-secret (app id 54321, developer \
            key sandbox-developer-key), Pipedrive's sandbox-pipedrive-client with sandbox-pipedrive-secret. The authorise page \
            needs nobody: it redirects at once.

            A plain REST vendor for trying a plugin of your own is served at /generic/v1, with the token sandbox-generic-token.

            Whatever is sent to /hooks/... is taken with 200 and stands in the ledger, for outbound webhooks. With --hook-key \
            their signatures are checked (Standard Webhooks), and the ledger says of each whether it is valid, and why not; \
            --require-signed-hooks answers 401 to the others.

              milepost-sandbox --hook-key whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw --require-signed-hooks
              curl '127.0.0.1:8899/_sandbox/ledger?only=requests&path=/hooks/*'

            Make things go wrong, here by losing the answer to the next deal after it was created:

              curl http://127.0.0.1:8899/_sandbox/faults -d \\
                '{"match":{"method":"POST","path":"/api/v2/deals"},
                  "kind":"drop_after_commit"}'

            GET /_sandbox lists every call of the sandbox itself.
            """)

    @Option(help: "Address and port. Loopback only; port 0 lets the system choose, and the choice is printed.")
    var listen = "127.0.0.1:8899"

    @Option(help: "API token of the account's administrator.")
    var token = "sandbox-token"

    @Option(help: "How long search does not see what was created: 5s, 500ms, 0.")
    var searchLag = "5s"

    @Option(help: "Decides the keys of custom fields. The same seed gives the same keys.")
    var seed: UInt64 = 1

    @Option(help: "File that keeps what was created over a restart (JSON lines, appended).")
    var ledger: String?

    @Option(
        help:
            "Limits of Pipedrive's plan: lite, growth, premium or ultimate; HubSpot has its own. off: no limits anywhere."
    )
    var rateLimit: PipedrivePlan = .premium

    @Option(help: "Cost tokens per day, instead of the plan's.")
    var dailyBudget: Int?

    @Option(
        help: ArgumentHelp(
            "Key to check what is sent to /hooks/... with: whsec_, whpk_ or whsk_ and base64. Several while one is rotated.",
            valueName: "key"))
    var hookKey: [String] = []

    @Flag(help: "Answer 401 to what is sent to /hooks/... without a valid signature.")
    var requireSignedHooks = false

    @Flag(help: "Print the address and nothing else.")
    var quiet = false

    func validate() throws {
        guard Self.milliseconds(searchLag) != nil else {
            throw ValidationError("--search-lag: \(searchLag) is not like 5s or 500ms")
        }
        guard let address = Self.address(listen) else {
            throw ValidationError("--listen: \(listen) is not like 127.0.0.1:8899")
        }
        guard !requireSignedHooks || !hookKey.isEmpty else {
            throw ValidationError("--require-signed-hooks: with which --hook-key?")
        }
        guard ["127.0.0.1", "localhost", "::1"].contains(address.host) else {
            throw ValidationError(
                "--listen: the sandbox has no secrets and no access control, so it listens on loopback only")
        }
    }

    func run() async throws {
        guard let address = Self.address(listen), let lag = Self.milliseconds(searchLag) else { return }
        var settings = SandboxSettings(
            token: token, searchLagMilliseconds: lag, seed: seed, plan: rateLimit, dailyBudget: dailyBudget)
        if let problem = settings.setHookKeys(hookKey, refuses: requireSignedHooks) {
            throw ValidationError("--hook-key: \(problem)")
        }
        let server = try SandboxServer(settings: settings, ledgerPath: ledger, clock: Self.milliseconds)
        var logger = Logger(label: "milepost-sandbox") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = .error
        let isQuiet = quiet
        let host = address.host.contains(":") ? "[\(address.host)]" : address.host
        try await server.run(host: address.host, port: address.port, logger: logger) { port in
            // Scripts wait for this line, so it must not stay in a buffer.
            Self.say("listening on http://\(host):\(port)")
            if !isQuiet {
                Self.say(
                    "what was created: http://\(host):\(port)/_sandbox/ledger.txt   help: http://\(host):\(port)/_sandbox"
                )
            }
        }
    }

    /// One line on standard output, past every buffer.
    private static func say(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        // A reader that has gone away is no reason to stop serving.
        _ = unsafe bytes.withUnsafeBytes { unsafe write(STDOUT_FILENO, $0.baseAddress, $0.count) }
    }

    /// The wall clock, in milliseconds since 1970.
    @Sendable private static func milliseconds() -> Int64 {
        var time = timespec()
        _ = unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }

    private static func address(_ text: String) -> (host: String, port: Int)? {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            return nil
        }
        let host = text[..<colon].filter { $0 != "[" && $0 != "]" }
        return host.isEmpty ? nil : (String(host), Int(port))
    }

    private static let units: [(String, Double)] = [("ms", 1), ("s", 1000), ("m", 60_000), ("", 1000)]

    private static func milliseconds(_ text: String) -> Int64? {
        for (unit, factor) in units where text.hasSuffix(unit) {
            guard let number = Double(text.dropLast(unit.count)), number >= 0, number < 1e6 else { continue }
            return Int64(number * factor)
        }
        return nil
    }
}

extension PipedrivePlan: ExpressibleByArgument {}
