// SPDX-License-Identifier: Apache-2.0

import MilepostClient
import MilepostModel
import Testing

@Suite("advice")
struct AdviceTests {
    @Test(
        "each cause of trouble has its cure in plain words",
        arguments: [
            ("TRB-01", "credential_refused", ["token", "make a new one", "connect again"]),
            ("TRB-02", "permission_missing", ["right", "administrator"]),
            ("TRB-03", "email_missing", ["without an e-mail", "left out"]),
            ("TRB-04", "field_unknown", ["40-character key", "milepost options"]),
            ("TRB-05", "webhook_unreachable", ["public_url", "https", "firewall"]),
            ("TRB-06", "duplicate_person", ["one e-mail", "merge them in the CRM"]),
            ("TRB-07", "rate_limited", ["resumes by itself", "time shown"]),
        ])
    func cures(id: String, code: String, words: [String]) throws {
        let cure = try #require(Advice.cure(for: code), "\(id)")
        for word in words { #expect(cure.contains(word), "\(id): \(cure)") }
        #expect(Advice.cure(for: "nothing_known") == nil)
    }

    @Test("whoever has no token is not told to use one")
    func lostToken() throws {
        let cure = try #require(Advice.cure(for: "unauthenticated"))
        #expect(cure.contains("milepost init") && cure.contains("stop the daemon") && !cure.contains("tokens create"))
    }

    @Test("PCON-03: where the token is comes from the plugin's manifest, and harms no terminal")
    func guide() {
        let answer: JSONValue = [
            "plugins": [
                [
                    "name": "acme",
                    "credentials": [
                        [
                            "name": "key", "title": "API key", "description": "Under \u{1b}[31mSettings, API.",
                            "help": "https://acme.example/keys",
                        ]
                    ],
                ], ["name": "other", "credentials": []],
            ]
        ]
        let guides = CredentialGuide.all(of: "acme", in: answer)
        #expect(guides.map(\.name) == ["key"])
        #expect(guides[0].text == "API key\n  Under \u{fffd}[31mSettings, API.\n  https://acme.example/keys\n")
        #expect(CredentialGuide.all(of: "other", in: answer).isEmpty)
        #expect(CredentialGuide.all(of: "none", in: .null).isEmpty)
    }
}
