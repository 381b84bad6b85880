// SPDX-License-Identifier: Apache-2.0

import MilepostEgress
import MilepostEngine
import MilepostModel
import MilepostPluginHost
import Testing

@Suite("Answers of token endpoints, hostile bytes")
struct TokenAnswerTests {
    private let declaration: OAuthDeclaration

    init() throws {
        let manifest = try PluginManifest(parsing: Array(OnePlugin.manifest.utf8), name: "fake")
        declaration = try #require(manifest.oauth("oauth"))
    }

    private func read(_ status: Int, _ body: [UInt8], isCut: Bool = false) -> TokenAnswer {
        TokenAnswer(
            EgressOutcome(
                wire: .answered,
                response: EgressResponse(status: status, headers: [], body: body, truncated: isCut)),
            for: declaration)
    }

    private func read(_ status: Int, _ body: String) -> TokenAnswer { read(status, Array(body.utf8)) }

    private func name(_ answer: TokenAnswer) -> String {
        switch answer {
        case .granted: "granted"
        case .revoked: "revoked"
        case .operatorError: "operator"
        case .transient: "transient"
        case .uncertain: "uncertain"
        }
    }

    @Test(
        "Z-09, OAU-13, OAU-14, OAU-15: what an answer means",
        arguments: [
            (200, #"{"access_token":"a","refresh_token":"r","expires_in":10}"#, "granted"),
            (200, #"{"access_token":"a"}"#, "granted"), (200, #"{"refresh_token":"r"}"#, "uncertain"),
            (200, #"{"access_token":"a","refresh_token":7}"#, "uncertain"),
            (200, #"{"access_token":"a b","refresh_token":"r"}"#, "uncertain"), (200, "", "uncertain"),
            (204, "", "uncertain"), (302, "", "transient"), (429, "{}", "transient"), (503, "", "transient"),
            (400, #"{"status":"BAD_REFRESH_TOKEN"}"#, "revoked"), (401, #"{"error":"invalid_grant"}"#, "revoked"),
            (401, #"{"error":"invalid_client"}"#, "operator"),
            (400, #"{"error":"invalid_grant","status":"BAD_CLIENT_ID"}"#, "operator"), (404, "{}", "operator"),
            (403, "<html>blocked</html>", "transient"), (400, "<html>bad gateway</html>", "transient"),
            (400, #"{"message":"no"}"#, "revoked"), (418, "{}", "transient"),
        ])
    func meanings(status: Int, body: String, expected: String) {
        #expect(name(read(status, body)) == expected, "\(status) \(body)")
    }

    @Test(
        "OAU-01: a life is what the answer says, as number or text, within reason; else half an hour",
        arguments: [
            ("600", 600), ("\"600\"", 600), ("0", 1800), ("-5", 1800), ("\"soon\"", 1800), ("1e3", 1000), ("null", 1800),
            ("9223372036854775807", 400 * 86_400),
        ])
    func lifetimes(text: String, seconds: Int64) {
        guard case .granted(let grant) = read(200, "{\"access_token\":\"a\",\"expires_in\":\(text)}") else {
            Issue.record("\(text) is not granted")
            return
        }
        #expect(grant.lifetime == .seconds(seconds), "\(text)")
    }

    @Test("a cut, mutated or random answer is never taken for tokens that are not there, and nothing of it is repeated")
    func fuzz() {
        let random = SeededRandom(seed: 20_261_125)
        let good = Array(#"{"access_token":"sekret-access","refresh_token":"sekret-refresh","expires_in":1800}"#.utf8)
        for length in 0..<good.count { #expect(name(read(200, Array(good.prefix(length)))) == "uncertain") }
        #expect(name(read(200, good, isCut: true)) == "uncertain")
        for _ in 0..<4000 {
            var bytes = good
            for _ in 0..<(1 + Int(random.bytes(1)[0] & 3)) {
                let choice = random.bytes(3)
                bytes[Int(choice[0]) % bytes.count] = choice[1]
                if choice[2] & 7 == 0 { bytes = Array(bytes.prefix(Int(choice[2]) % bytes.count + 1)) }
            }
            let statuses = [200, 201, 400, 401, 403, 429, 500]
            let status = statuses[Int(random.bytes(1)[0]) % statuses.count]
            let answer = read(status, bytes)
            switch answer {
            case .granted(let grant): #expect(status < 300 && grant.lifetime > .zero)
            case .revoked(let reason), .operatorError(let reason), .transient(let reason, _), .uncertain(let reason):
                #expect(!reason.message.contains("sekret") && reason.message.utf8.count < 400)
            }
        }
    }

    @Test(
        "a manifest's oauth2 entry is refused with what is wrong in it",
        arguments: [
            (#""endpoint":"api","path":"/authorize""#, #""endpoint":"web","path":"/authorize""#, "authorize.endpoint"),
            (#""path":"/token""#, #""path":"token""#, "token.path"),
            (#""path":"/token""#, #""path":"//evil.test/token""#, "token.path"),
            (#""path":"/token""#, #""path":"/token?x=1""#, "token.path"),
            (#""path":"/token""#, #""path":"/token","client_auth":"jwt""#, "client_auth"),
            (#""path":"/token""#, #""path":"/token","generation_setting":"g""#, "token.paths"),
            (#""credential":"oauth""#, #""credential":"o.auth""#, "without a dot"),
            (#""margin_s":90"#, #""margin_s":-1"#, "margin_s"),
            (#""errors""#, #""pkce":"plain","errors""#, "pkce"),
            (#""errors""#, #""scopes":{"base":"all"},"errors""#, "scopes.base"),
            (#""errors""#, #""scopes":{"features":[{"scope":"x","feature":"fly"}]},"errors""#, "fly"),
            (#""auth":["#, #""auth":[{"scheme":"api_key","credential":"oauth"},"#, "twice"),
            (#""errors""#, #""hidden":"yes","errors""#, "hidden"),
        ])
    func manifests(old: String, new: String, named: String) {
        let text = OnePlugin.manifest.replacing(old, with: new)
        #expect(text != OnePlugin.manifest)
        do throws(PluginLoadError) {
            _ = try PluginManifest(parsing: Array(text.utf8), name: "fake")
            Issue.record("accepted: \(new)")
        } catch { #expect(error.detail.contains(named), "\(error.detail)") }
    }
}
