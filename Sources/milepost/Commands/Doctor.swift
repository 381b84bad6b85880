// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostConfiguration
import MilepostModel

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look for what is wrong, with or without a daemon.",
        discussion: """
            Looks at configuration, permissions, key, clock, disk, plugins, connections, webhooks, TLS and DNS, and says of \
            each thing that is wrong why and what to do about it. TRB numbers are rows of "When something is wrong" in the \
            administrator's guide.

            Never opens the database. Connects to the vendors' addresses without credentials; --offline leaves that out. \
            Run it on the daemon's machine, as root or as the daemon's user. Exit status 1 when \
            there is a problem, be it one of the daemon's; 0 when there are none or only warnings, such as a daemon that does \
            not answer.
            """)
    @Option(help: "The main configuration file.") var config = "/etc/milepost/milepost.yaml"
    @Flag(help: "Connect to nobody but the daemon.") var offline = false
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        let examined = Examination(environment: session.environment, now: ProcessEnvironment.now).run(path: config)
        var findings = examined.findings
        var told = DaemonExamination.Result()
        var isAnswered = true
        do throws(ClientError) {
            // Whoever has the port may take the connection and say nothing; a daemon that lives says so at once.
            try RESTClient(settings: session.settings, timeoutSeconds: 10).checkLife()
            told = try DaemonExamination(session.client, unloadable: examined.unloadable).run()
            findings += told.findings
        } catch {
            // Every daemon answers with a problem document, others do not.
            isAnswered = error.document != nil
            let isInstalled = ServiceUnit(configuration: config) != nil
            // The client's own advice for this is to run doctor.
            let cure =
                error.code == "unreachable"
                ? "look whether it runs: \(isInstalled ? "systemctl status \(ServiceUnit.shortName)" : "is milepostd started")"
                    + ", and is MILEPOST_URL right?" : error.advice
            findings.append(
                Finding(
                    .daemon, code: error.code, severity: .warning, what: "the daemon could not be asked",
                    cause: error.detail, cure: cure ?? "see 'milepost status'"))
        }
        let reach = try ReachExamination(now: { ProcessEnvironment.now })
        findings += try reach.taken(examined.takenPorts, isAnswered: isAnswered)
        if !offline {
            findings += try reach.outward(
                endpoints: examined.endpoints, consented: told.consented, targets: told.targets)
            findings += try reach.inward(publicURL: examined.publicURL)
        }
        let report = DoctorReport(findings: findings)
        session.show(report.json) { _ in report.page(session.pages.terminal) }
        if report.hasProblem { throw ExitCode(ExitStatus.failure.rawValue) }
    }
}
