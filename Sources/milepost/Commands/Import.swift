// SPDX-License-Identifier: Apache-2.0

public import ArgumentParser
public import MilepostClient
import MilepostModel

struct Import: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Bring in clicks from elsewhere.", subcommands: [Clicks.self])

    struct Clicks: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Import a file of clicks, one JSON object a line.",
            discussion: """
                Safe to repeat: a click that arrived before counts as a duplicate. After an interruption the same command \
                goes on where it stopped.

                  milepost import clicks clicks.ndjson --format milepost -w acme --dry-run
                  gzip -dc clicks.json.gz | milepost import clicks - --format bitly

                A line of format milepost is {"link":"spring","ts":"2026-11-21T12:00:00Z"} and what else is known of the \
                click; the administrator's guide has the table. The others are the exports of those shorteners.
                """)

        @Argument(help: "The file, or - for standard input.") var file: String
        @Option(help: "milepost, bitly, dub or shlink.") var format: ClickImport.Format
        @Option(help: "Clicks of one request.") var batch = 5000
        @Flag(name: .customLong("dry-run"), help: "Read and judge every line, send nothing.") var isDryRun = false
        @Flag(
            name: .customLong("no-facts"),
            help: "Leave out what the lines say about their links, such as destinations.")
        var isWithoutFacts = false
        @Option(help: "Write every rejected line's number and reason to this file, as NDJSON.") var rejects: String?
        @OptionGroup var common: Common

        func validate() throws {
            guard (1...100_000).contains(batch) else { throw ValidationError("--batch takes 1 to 100000.") }
        }

        func run() throws {
            let session = try common.session()
            var options = ClickImport.Options(path: file, format: format, workspace: session.settings.workspace)
            options.batch = batch
            options.isDryRun = isDryRun
            options.sendsFacts = !isWithoutFacts
            options.environment = session.environment
            options.destination = session.settings.url
            let isResumed = try ClickImport.resumes(options)
            let output = try rejects.map { (path) throws(ClientError) in
                try RejectFile(path: path, isResumed: isResumed)
            }
            let bar = ImportProgressBar(terminal: session.pages.terminal, clock: { ProcessEnvironment.now })
            var clickImport = ClickImport(
                options: options, transport: session.client, pause: ProcessEnvironment.pause,
                progress: { if !session.isJSON { bar.show($0) } }, rejected: { output?.append($0) },
                waiting: { bar.wait($0, atMost: $1) })
            let summary = try clickImport.run()
            bar.finish()
            session.show(summary.json) { _ in session.pages.importSummary(summary, isDryRun: isDryRun) }
            try output?.finish()
        }
    }
}

extension ClickImport.Format: ExpressibleByArgument {}
