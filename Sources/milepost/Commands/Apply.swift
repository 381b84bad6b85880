// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostConfiguration
import MilepostModel

struct Apply: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make connections, rolling rules and plans what files say.",
        discussion: """
            A file, or a folder of *.yaml, such as:

              plans:
                free: { fires: false }
              workspaces:
                acme:
                  plan: pro
                  connections:
                    pipedrive:
                      credentials: { api_token: { env: CRM_TOKEN } }
                      thresholds: [100, 1000]
                      settings: { pipeline_id: 1, stage_id: 11 }
                  rules:
                    - name: Collateral moves the deal on
                      trigger: { link_tag: collateral, contact_window: 30d, click_threshold: 50 }
                      action: { type: hubspot.deal_stage, from_stage: a, to_stage: b }

            A secret is named and never written: { env: NAME } or { file: PATH }. Look first with --plan. What a file \
            made is changed by that file only: other commands and REST answer 'managed'. A thing that a file no longer names \
            stays until a run with --prune. Needs a token with scope admin for the whole daemon; the files name the \
            workspaces, --workspace means nothing here. Exit status 1 when something failed; the rest is done all the same.
            """)
    @Argument(help: "Files and folders.", completion: .file()) var paths: [String]
    @Flag(name: [.customLong("plan"), .customLong("dry-run")], help: "Show what would change, and change nothing.")
    var plansOnly = false
    @Flag(help: "Take away what these files made and no longer name: disconnects, removes rules; history stays.")
    var prune = false
    @OptionGroup var common: Common

    func run() throws {
        do {
            try apply()
        } catch let error as ConfigurationError {
            print(
                common.json
                    ? JSONValue.object(["issues": .array(error.issues.map(\.json))]).description : error.description)
            throw ExitCode(ExitStatus.failure.rawValue)
        }
    }

    private func apply() throws {
        let session = try common.session()
        let desired = try DesiredState.load(paths: paths)
        let application = try Application(desired, over: session.client, environment: session.environment)
        let plan = try application.plan(prunes: prune)
        var report = ApplyReport(elsewhere: plan.elsewhere)
        for step in plan.steps {
            guard !plansOnly, step.action != .leave else {
                report.add(step, .planned)
                continue
            }
            do throws(ClientError) {
                try application.perform(step)
                report.add(step, .done)
            } catch {
                report.add(step, .failed(Application<RESTClient>.complaints(error, about: step)))
            }
        }
        session.show(report.json) { _ in report.text(session.pages.terminal) }
        if report.hasFailed { throw ExitCode(ExitStatus.failure.rawValue) }
    }
}
