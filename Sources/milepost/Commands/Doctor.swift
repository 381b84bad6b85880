// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostConfiguration
import MilepostModel

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look for what is wrong, with or without a daemon.",
        discussion: "Never opens the database. Exit status 1 when something needs a person.")
    @Option(help: "The main configuration file.") var config = "/etc/milepost/milepost.yaml"
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        var findings = Examination(environment: session.environment, now: ProcessEnvironment.now).run(path: config)
        do throws(ClientError) {
            let before = try session.ask("GET", "/v1/admin/status")
            findings += Self.unchecked(before) { path throws(ClientError) in
                try session.ask("POST", path, body: .object([:]))
            }
            let status = try session.ask("GET", "/v1/admin/status")
            for problem in status["problems"]?.array ?? [] {
                let code = problem["code"]?.string ?? "problem"
                findings.append(
                    Finding(
                        code: code, severity: .problem, what: problem["message"]?.string ?? code,
                        cause: "the daemon says so",
                        cure: problem["cure"]?.string ?? Advice.cure(for: code) ?? "see 'milepost status'"))
            }
            findings += Self.pasted(status)
        } catch {
            findings.append(
                Finding(
                    code: error.code, severity: .warning, what: "the daemon could not be asked", cause: error.detail,
                    cure: error.advice ?? "see 'milepost status'"))
        }
        let terminal = session.pages.terminal
        session.show(.object(["findings": .array(findings.map(\.json))])) { _ in
            findings.map { finding in
                let colour: Terminal.Colour =
                    switch finding.severity {
                    case .ok: .green
                    case .warning: .yellow
                    case .problem: .red
                    }
                let head = terminal.paint(finding.severity.rawValue, colour) + "  " + Terminal.harmless(finding.what)
                guard finding.severity != .ok else { return head }
                return head + "\n  because \(Terminal.harmless(finding.cause, keepingLines: true))\n  → \(finding.cure)"
            }.joined(separator: "\n")
        }
        if findings.contains(where: { $0.severity == .problem }) { throw ExitCode(ExitStatus.failure.rawValue) }
    }

    /// Has the vendors asked whether settings still fit (TRB-09); what does not is among the daemon's problems afterwards.
    private static func unchecked(
        _ status: JSONValue, ask: (String) throws(ClientError) -> JSONValue
    ) -> [Finding] {
        (status["connections"]?.array ?? []).compactMap { connection in
            guard connection["state"]?.string == "active", let name = connection["integration"]?.string,
                let workspace = connection["workspace"]?.string
            else { return nil }
            do throws(ClientError) {
                _ = try ask("/v1/workspaces/\(workspace)/integrations/\(name)/check")
                return nil
            } catch {
                return Finding(
                    code: "settings_unchecked", severity: .warning,
                    what: "whether the settings of \(workspace)/\(name) still fit is not known", cause: error.detail,
                    cure: error.advice ?? "milepost integrations check \(name) -w \(workspace)")
            }
        }
    }

    /// Z-18: a pasted token has all rights of its user and ends with them; an installation has those that were consented to.
    private static func pasted(_ status: JSONValue) -> [Finding] {
        let installable = (status["plugins"]?.array ?? []).filter { plugin in
            (plugin["auth"]?.array ?? []).contains { $0["scheme"]?.string == "oauth2" }
        }.compactMap { $0["name"]?.string }
        return (status["connections"]?.array ?? []).compactMap { connection in
            guard let plugin = connection["plugin"]?.string, installable.contains(plugin),
                connection["oauth"] == .null, connection["state"]?.string != "disconnected",
                let name = connection["integration"]?.string, let workspace = connection["workspace"]?.string
            else { return nil }
            return Finding(
                code: "oauth_recommended", severity: .warning, what: "\(workspace)/\(name) holds a pasted token",
                cause: "such a token may do whatever its user may, and marketplaces demand OAuth",
                cure: "milepost connect \(name) --oauth -w \(workspace)")
        }
    }
}
