// SPDX-License-Identifier: Apache-2.0

import MilepostTemplates
import Testing

/// What `milepost plugin new` writes; Tests/EndToEnd/test_plugin_new.py builds and checks it.
@Suite("plugin projects")
struct TemplateTests {
    static let date = "Wed, 25 Nov 2026 10:00:00 +0000"

    @Test(
        "EXT-01: a name that could leave its folder, or means something to a tool, is refused",
        arguments: [
            "", "a", "../acme", "Acme", "acme_crm", "acme.crm", "acme-", "-acme", "acme--crm", "9lives", "test",
            "milepost",
            "acme crm", "acmé", String(repeating: "a", count: 41),
        ])
    func refusesNames(name: String) {
        #expect(throws: TemplateError.self) { try TemplateProject(name: name, language: .c, date: Self.date) }
    }

    @Test("EXT-01: every project is complete and has no place left to fill", arguments: TemplateLanguage.allCases)
    func isComplete(language: TemplateLanguage) throws {
        let project = try TemplateProject(name: "acme-crm", language: language, date: Self.date)
        let paths = project.files.map(\.path)
        for path in [
            "acme-crm.json", "acme-crm.vendor.json", "Makefile", "README.md", "export.map", "debian/control",
            "debian/rules",
            "debian/changelog", "debian/copyright", "debian/source/format",
        ] { #expect(paths.contains(path), "\(path)") }
        #expect(Set(paths).count == paths.count)
        for file in project.files where !file.path.hasSuffix(".vendor.json") {
            let text = String(decoding: file.bytes, as: UTF8.self)
            #expect(text.firstMatch(of: #/\{\{[a-z_]+\}\}/#) == nil, "\(file.path)")
            #expect(!file.bytes.isEmpty && text.hasSuffix("\n"))
        }
        #expect(project.files.filter(\.isExecutable).map(\.path) == ["debian/rules"])
    }
}
