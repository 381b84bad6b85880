// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Connect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Connect a CRM account, or connect it again.",
        discussion: """
            With nothing but the plugin's name it asks for what is missing: the token, which is not shown while it is \
            typed, then pipeline and stage from the vendor's live lists. 'milepost plugins show PLUGIN' says where the \
            vendor shows the token. It is proven before anything is stored; Ctrl-C stores nothing.

              milepost connect pipedrive -w acme
              milepost connect pipedrive -w acme --token-stdin \\
                  --set pipeline_id=1 --set stage_id=11 < token-file

            What was reached before the first connect makes no deal; later crossings do. A second account of one plugin is \
            named PLUGIN@NAME. Connecting again keeps all history. What a person may choose: 'milepost options PLUGIN PICKER'.

            Plugins that are installed by consent (OAuth 2.0) need no token: a link is printed, and the command waits until \
            the vendor's page was agreed to. Connecting again in the same way restores a broken installation.
            """)

    @Argument(help: "The plugin, or PLUGIN@NAME.")
    var integration: String
    @Flag(name: .customLong("token-stdin"), help: "Read the token from standard input.")
    var readsToken = false
    @Option(
        name: .customLong("credential"),
        help: ArgumentHelp(
            "A credential from a file or in clear, which others on this machine may see; may be repeated.",
            valueName: "name=@file|name=value"))
    var credentials: [String] = []
    @Option(
        name: .customLong("credential-name"),
        help: ArgumentHelp("Which credential is read or asked for.", valueName: "name"))
    var credentialName: String?
    @Flag(name: .customLong("oauth"), help: "Install the vendor's app by consent, even where a token would do.")
    var installs = false
    @Option(name: .customLong("feature"), help: "Ask for the scopes of rules, provision, email_match or timeline too.")
    var features: [String] = []
    @Flag(name: .customLong("no-wait"), help: "Print the link and end.")
    var endsEarly = false
    @Option(
        name: .customLong("authorization"), help: "The id of a link printed before: wait for it, or with --code end it."
    )
    var authorization: String?
    @Option(help: "The code that the vendor's page showed.")
    var code: String?
    @Option(name: .customLong("redirect-url"), help: "The whole address that the vendor sent you back with.")
    var redirectURL: String?
    @Option(
        name: .customLong("set"),
        help: ArgumentHelp("A setting, such as pipeline_id=1; may be repeated.", valueName: "name=value"))
    var settings: [String] = []
    @Option(
        help: ArgumentHelp("Totals that make a deal; 100,1000,10000 unless said.", valueName: "number,number"))
    var thresholds: String?
    @Option(help: ArgumentHelp("Count each link, or each folder's sum.", valueName: "link|folder"))
    var aggregation: String?
    @Option(help: ArgumentHelp("Count all clicks, or leave robots out.", valueName: "all|people"))
    var count: String?
    @Flag(name: .customLong("dry-run"), help: "Prove the credentials and store nothing.")
    var isDryRun = false
    @Flag(help: "Ask nothing, also on a terminal; fail when something is missing.")
    var yes = false
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        let installation = Installation(session: session, integration: integration)
        if let returned = redirectURL ?? code { return try installation.complete(returned, id: authorization) }
        if let authorization { return try installation.wait(for: authorization) }
        var body = try ConnectRequest.settings(settings)
        let offered = offer(session)
        let bringsToken = readsToken || !credentials.isEmpty
        if installs || (!bringsToken && offered.first?["scheme"]?.string == "oauth2") {
            if let thresholds { body["thresholds"] = try ConnectRequest.thresholds(thresholds) }
            if let aggregation { body["aggregation"] = .string(aggregation) }
            if let count { body["count"] = .string(count) }
            if !features.isEmpty { body["features"] = .array(features.map(JSONValue.string)) }
            return try installation.begin(.object(body), waits: !endsEarly)
        }
        let credentialName =
            self.credentialName ?? offered.first { $0["scheme"]?.string != "oauth2" }?["credential"]?.string
            ?? "api_token"
        let secrets = JSONValue.object(try gatherCredentials(credentialName, session))
        body["credentials"] = secrets
        if let thresholds { body["thresholds"] = try ConnectRequest.thresholds(thresholds) }
        if let aggregation { body["aggregation"] = .string(aggregation) }
        if let count { body["count"] = .string(count) }
        if settings.isEmpty, !yes, !isDryRun, Prompt.isPossible, try takes("pipeline_id", session) {
            try pick("pipelines", into: "pipeline_id", session, secrets, &body)
            try pick("stages", into: "stage_id", session, secrets, &body)
        }
        let answer = try session.ask(
            "POST", session.path("integrations", integration), query: ["dry_run": isDryRun ? "true" : nil],
            body: .object(body))
        session.show(answer) {
            isDryRun ? session.pages.facts($0, ["account", "warnings"]) : session.pages.connection($0)
        }
    }

    /// The ways to connect that the plugin offers; empty when the daemon does not say, because a token that may not list
    /// plugins can still connect.
    private func offer(_ session: Session) -> [JSONValue] {
        let plugin = String(integration.prefix { $0 != "@" })
        let plugins = (try? session.ask("GET", "/v1/admin/plugins"))?["plugins"]?.array ?? []
        return plugins.first { $0["name"]?.string == plugin }?["auth"]?.array ?? []
    }

    private func gatherCredentials(_ credentialName: String, _ session: Session) throws -> [String: JSONValue] {
        var gathered = try ConnectRequest.credentials(credentials)
        if readsToken {
            gathered[credentialName] = .string(ConnectRequest.trimmed(readLine() ?? ""))
        } else if gathered.isEmpty, !yes, Prompt.isPossible {
            sayWhereItIs(credentialName, session)
            let secret = Prompt.secret("\(integration) \(credentialName): ")
            gathered[credentialName] = .string(ConnectRequest.trimmed(secret ?? ""))
        }
        guard !gathered.isEmpty, gathered.values.allSatisfy({ $0 != "" }) else {
            throw ClientError(
                code: "bad_input", detail: "no credentials for \(integration)",
                advice: "pipe the token in with --token-stdin, or pass --credential \(credentialName)=@FILE")
        }
        return gathered
    }

    /// In the plugin's own words. A token that may not list plugins connects without them.
    private func sayWhereItIs(_ credentialName: String, _ session: Session) {
        guard let answer = try? session.ask("GET", "/v1/admin/plugins") else { return }
        let plugin = String(integration.prefix { $0 != "@" })
        for guide in CredentialGuide.all(of: plugin, in: answer) where guide.name == credentialName {
            Prompt.say(guide.text)
        }
    }

    /// Whether the plugin has a setting; a daemon that does not say is believed to have it.
    private func takes(_ setting: String, _ session: Session) throws(ClientError) -> Bool {
        let plugins = try session.ask("GET", "/v1/admin/plugins")["plugins"]?.array ?? []
        let name = String(integration.prefix { $0 != "@" })
        guard let known = plugins.first(where: { $0["name"]?.string == name })?["settings"]?.array else { return true }
        return known.contains(.string(setting))
    }

    /// Lets the person choose from what the vendor offers; plugins without this picker are passed over.
    private func pick(
        _ picker: String, into setting: String, _ session: Session, _ secrets: JSONValue,
        _ body: inout [String: JSONValue]
    ) throws(ClientError) {
        var values = body
        values["credentials"] = nil
        let answer: JSONValue
        do {
            answer = try session.ask(
                "POST", session.path("integrations", integration, "options", picker),
                body: .object(["credentials": secrets, "values": .object(values)]))
        } catch {
            guard error.code == "not_found" else { throw error }
            return
        }
        let items = (answer["items"]?.array ?? []).filter { $0["disabled"]?.bool != true }
        let suggested = items.firstIndex { $0["value"] != nil && $0["value"] == answer["suggested"] }
        guard !items.isEmpty,
            let index = Prompt.choose(picker, items.map { $0["label"]?.cell ?? "-" }, suggested: suggested)
        else { return }
        body[setting] = items[index]["value"]
    }
}
