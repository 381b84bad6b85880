// SPDX-License-Identifier: Apache-2.0

/// All that the sandbox knows: the emulated vendors, the faults that are set and the ledger.
///
/// A value without clock, lock or socket. `SandboxServer` holds one behind a lock and carries out the verdicts.
package struct SandboxWorld: Sendable {
    /// What the server is to do with a request.
    package enum Verdict: Hashable, Sendable {
        case answer(VendorResponse, afterMilliseconds: Int)
        /// Close the connection without a byte.
        case cut
        /// Promise the whole body, send half of it, then close the connection.
        case half(VendorResponse)
    }

    /// A request whose connection was cut and whose work is still to be done.
    private struct LateCommit: Sendable {
        let request: VendorRequest
        let due: Instant
        let entry: Int
    }

    package let settings: SandboxSettings
    var pipedrive: Pipedrive
    var hubspot: HubSpot
    var generic: Generic
    package internal(set) var faults = FaultBook()
    /// What the receiver of webhooks answers.
    var hooks = HookPlan()
    /// With which keys what is sent there is checked.
    var hookGuard: HookGuard
    package internal(set) var ledger = RequestLedger()
    private var lateCommits: [LateCommit] = []
    /// Whether anybody has asked HubSpot anything; until then the tables for people leave it out.
    private(set) var isHubSpotUsed = false
    /// Requests to do again after a restart, since the last call of `takeJournal`.
    private var replayLines: [JSONValue] = []
    /// True once the objects have been dropped: the ledger file starts anew.
    package internal(set) var mustTruncateFile = false

    package init(settings: SandboxSettings, now: Instant) {
        self.settings = settings
        pipedrive = Self.freshPipedrive(settings, now: now)
        hubspot = Self.freshHubSpot(settings, now: now)
        generic = Self.freshGeneric(settings, now: now)
        hookGuard = settings.hookGuard
        replayLines = [Self.startLine(at: now)]
    }

    /// Makes HubSpot, the generic vendor and the grants as they are on the first day, begun at a given moment.
    mutating func restart(at now: Instant) {
        hubspot = Self.freshHubSpot(settings, now: now)
        generic = Self.freshGeneric(settings, now: now)
        pipedrive.oauth = Self.freshPipedrive(settings, now: now).oauth
        replayLines = [Self.startLine(at: now)]
        isHubSpotUsed = false
    }

    /// Forgets what doing old requests again has left behind: the file has these lines already.
    mutating func forgetReplayed() {
        replayLines.removeAll()
        ledger = RequestLedger()
    }

    /// Keeps a request of the control API that changed something.
    mutating func keepForReplay(_ request: VendorRequest, at now: Instant) {
        if !request.path.hasPrefix("/_sandbox/generic") { isHubSpotUsed = true }
        if request.method != "GET" { replayLines.append(Self.replayLine(of: request, at: now)) }
    }

    static func freshPipedrive(_ settings: SandboxSettings, now: Instant) -> Pipedrive {
        Pipedrive(
            token: settings.token, plan: settings.plan, dailyBudget: settings.dailyBudget,
            searchLagMilliseconds: settings.searchLagMilliseconds, seed: settings.seed, now: now)
    }

    static func freshHubSpot(_ settings: SandboxSettings, now: Instant) -> HubSpot {
        HubSpot(
            isLimited: settings.plan != .off, searchLagMilliseconds: settings.searchLagMilliseconds,
            seed: settings.seed, now: now)
    }

    static func freshGeneric(_ settings: SandboxSettings, now: Instant) -> Generic {
        Generic(isLimited: settings.plan != .off, now: now)
    }

    private enum Vendor: String { case pipedrive, hubspot, generic, hooks }

    private static func vendor(of request: VendorRequest) -> Vendor? {
        if Pipedrive.owns(path: request.path) || Pipedrive.ownsOAuth(request) { return .pipedrive }
        if request.path == "/hooks" || request.path.hasPrefix("/hooks/") { return .hooks }
        if Generic.owns(path: request.path) { return .generic }
        return HubSpotPath.owns(request.path) ? .hubspot : nil
    }

    private func accepts(_ request: VendorRequest, _ vendor: Vendor, now: Instant) -> Bool {
        switch vendor {
        case .pipedrive: pipedrive.accepts(request, now: now)
        case .hubspot: hubspot.accepts(request, now: now)
        case .generic: generic.accepts(request)
        case .hooks: true
        }
    }

    /// Lets the vendor of a request answer it, and notes what it did against the vendor's documents.
    mutating func answer(_ request: VendorRequest, entry: Int, now: Instant) -> VendorResponse {
        defer {
            for (vendor, breaches) in [
                (Vendor.hubspot, hubspot.violations + hubspot.oauth.violations),
                (Vendor.pipedrive, pipedrive.oauth.violations), (Vendor.generic, generic.violations),
            ] {
                for breach in breaches {
                    ledger.note(
                        ContractViolation(request: entry, at: now, vendor: vendor.rawValue, detail: breach))
                }
            }
            hubspot.violations.removeAll()
            hubspot.oauth.violations.removeAll()
            pipedrive.oauth.violations.removeAll()
            generic.violations.removeAll()
        }
        let vendor = Self.vendor(of: request)
        if vendor == .hubspot { isHubSpotUsed = true }
        let response =
            switch vendor {
            case .hubspot?: hubspot.answer(request, now: now)
            case .generic?: generic.answer(request, now: now)
            // A receiver of webhooks: takes everything, the ledger shows it.
            case .hooks?: receive(request, entry: entry).0
            case .pipedrive?, nil: pipedrive.answer(request, now: now)
            }
        // Pipedrive's objects are in the file one by one; its grants are not.
        let isReplayed = vendor == .hubspot || vendor == .generic || request.path.hasPrefix("/oauth/")
        if isReplayed, Self.isKept(request, status: response.status) {
            replayLines.append(Self.replayLine(of: request, at: now))
        }
        return response
    }

    /// Handles one request, to a vendor or to the control API.
    package mutating func handle(_ request: VendorRequest, now: Instant) -> Verdict {
        settle(now: now)
        if request.path == "/_sandbox" || request.path.hasPrefix("/_sandbox/") {
            return .answer(control(request, now: now), afterMilliseconds: 0)
        }
        guard let vendor = Self.vendor(of: request) else {
            return .answer(Self.lost(request), afterMilliseconds: 0)
        }
        let entry = ledger.add(request, at: now, isTokenGood: accepts(request, vendor, now: now))
        if vendor == .hooks, let finding = hookGuard.judge(request, now: now) {
            ledger.update(entry) { $0.hook = finding }
        }
        guard let fault = faults.strike(request) else {
            if vendor == .hooks {
                let (response, delay) = receive(request, entry: entry)
                return .answer(note(response, in: entry), afterMilliseconds: delay)
            }
            return .answer(note(answer(request, entry: entry, now: now), in: entry), afterMilliseconds: 0)
        }
        ledger.update(entry) { $0.fault = fault.kind.rawValue }
        return carryOut(fault, request, entry: entry, now: now)
    }

    /// What the receiver of webhooks answers, and after how many milliseconds: what is refused uses up no planned answer.
    private mutating func receive(_ request: VendorRequest, entry: Int) -> (VendorResponse, Int) {
        if let refusal = ledger.entry(entry)?.hook?.refusal { return (refusal, 0) }
        return hooks.answer(request)
    }

    /// Does the late work that is due. Called before everything else, so that nobody sees the world as it was before.
    package mutating func settle(now: Instant) {
        let due = lateCommits.filter { $0.due <= now }.sorted { $0.due < $1.due }
        guard !due.isEmpty else { return }
        lateCommits.removeAll { $0.due <= now }
        for late in due {
            let response = answer(late.request, entry: late.entry, now: late.due)
            ledger.update(late.entry) { $0.lateCommit = (late.due, response.status) }
        }
    }

    /// Drops the work that was to be done late.
    mutating func forgetLateCommits() { lateCommits.removeAll() }

    /// The committed objects since the last call, as lines for the ledger file.
    package mutating func takeJournal() -> [JSONValue] {
        defer {
            pipedrive.journal.removeAll()
            replayLines.removeAll()
        }
        return replayLines + pipedrive.journal
    }

    /// Takes back one line of a ledger file.
    /// - Returns: false when the line is none of ours.
    package mutating func restore(_ line: JSONValue, now: Instant) -> Bool {
        if line["vendor"] == "replay" {
            let isTaken = replay(line)
            replayLines.removeAll()
            return isTaken
        }
        return line["vendor"] == "pipedrive" && pipedrive.restore(line, now: now)
    }

    // MARK: Faults

    private mutating func carryOut(_ fault: Fault, _ request: VendorRequest, entry: Int, now: Instant) -> Verdict {
        let delay = fault.delayMilliseconds
        switch fault.kind {
        case .delay:
            return .answer(note(answer(request, entry: entry, now: now), in: entry), afterMilliseconds: delay)
        case .cutBody: return .half(note(answer(request, entry: entry, now: now), in: entry))
        case .dropBeforeCommit: return .cut
        case .dropAfterCommit:
            _ = answer(request, entry: entry, now: now)
            return .cut
        case .lateCommit:
            lateCommits.append(LateCommit(request: request, due: now.adding(milliseconds: Int64(delay)), entry: entry))
            return .cut
        case .status, .garbage, .html403, .echoToken401:
            if fault.commits { _ = answer(request, entry: entry, now: now) }
            return .answer(note(Self.response(of: fault, request), in: entry), afterMilliseconds: delay)
        }
    }

    /// The answer of a fault that answers.
    private static func response(of fault: Fault, _ request: VendorRequest) -> VendorResponse {
        var response: VendorResponse
        switch fault.kind {
        case .garbage:
            response = VendorResponse(
                status: 200, headers: [Header("content-type", "application/json; charset=utf-8")],
                body: Array("{\"success\":true,\"data\":{\"id\":5".utf8) + [0xFF, 0xFE, 0x00])
        case .html403:
            response = VendorResponse(
                status: 403, headers: [Header("content-type", "text/html; charset=UTF-8")],
                body: Array(
                    "<!DOCTYPE html><html><head><title>Access denied</title></head><body>Blocked</body></html>".utf8))
        case .echoToken401:
            response = VendorResponse(
                status: 401, json: echo(of: credential(of: request), vendor: vendor(of: request)))
        case .status, .delay, .dropBeforeCommit, .dropAfterCommit, .lateCommit, .cutBody:
            response = VendorResponse(
                status: fault.status, json: fault.body ?? body(ofStatus: fault.status, vendor(of: request)))
        }
        let replaced = Set(fault.headers.map(\.name))
        response.headers.removeAll { replaced.contains($0.name) }
        response.headers += fault.headers
        return response
    }

    /// A refusal that repeats the credential.
    private static func echo(of credential: String, vendor: Vendor?) -> JSONValue {
        let text = "unauthorized access for token \(credential)"
        if vendor == .hubspot {
            return HubSpotFailure(status: 401, category: "INVALID_AUTHENTICATION", text).body(
                correlationID: "b3f2d1c0-0000-4000-8000-000000000001")
        }
        if vendor == .generic { return GenericFailure(status: 401, code: "unauthorized", message: text).body }
        return .object([("success", .bool(false)), ("error", .string(text)), ("errorCode", .integer(401))])
    }

    /// The secret that a request carries: a token in its headers, or in the form of a token endpoint.
    private static func credential(of request: VendorRequest) -> String {
        if request.path.hasPrefix("/oauth/") {
            let form = PercentCoding.form(String(decoding: request.body, as: UTF8.self))
            for name in ["refresh_token", "code", "token"] {
                if let item = form.first(where: { $0.name == name }) { return item.value }
            }
        }
        return Pipedrive.credential(of: request) ?? ""
    }

    /// What the vendor says with a status that a fault has set.
    private static func body(ofStatus status: Int, _ vendor: Vendor?) -> JSONValue {
        let text = "Fault \(status) set in the sandbox"
        if vendor == .hooks { return .object([("error", .string(text))]) }
        if vendor == .generic { return GenericFailure(status: status, code: "fault", message: text).body }
        if vendor == .hubspot {
            let failure: HubSpotFailure =
                switch status {
                case 401: .unauthorized
                case 429: HubSpot.overLimit("ten_secondly_rolling", policy: "TEN_SECONDLY_ROLLING")
                default:
                    HubSpotFailure(status: status, category: status < 500 ? "VALIDATION_ERROR" : "INTERNAL_ERROR", text)
                }
            return failure.body(correlationID: "b3f2d1c0-0000-4000-8000-000000000001")
        }
        return switch status {
        case 401: PipedriveFailure.unauthorized.body
        case 429: PipedriveFailure.overLimit.body
        default: PipedriveFailure(status: status, error: text).body
        }
    }

    private mutating func note(_ response: VendorResponse, in entry: Int) -> VendorResponse {
        ledger.update(entry) { $0.status = response.status }
        return response
    }

    /// For a person who opened the wrong address.
    private static func lost(_ request: VendorRequest) -> VendorResponse {
        VendorResponse(
            status: 404,
            json: .object([
                ("error", .string("no vendor of the sandbox lives at \(request.path)")),
                (
                    "hint",
                    .string(
                        "Pipedrive is at /api/v2/..., /api/v1/... and /v1/..., HubSpot at /crm/..., "
                            + "/integrators/timeline/... and /events/..., both at /oauth/..., a plain REST API for trying plugins "
                            + "at /generic/v1/..., a receiver of webhooks at /hooks/...; "
                            + "the sandbox itself at /_sandbox")
                ),
            ]))
    }
}
