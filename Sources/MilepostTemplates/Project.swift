// SPDX-License-Identifier: Apache-2.0

/// Languages that a project can be generated in.
public enum TemplateLanguage: String, Sendable, CaseIterable {
    case c
    case swift
    case cxx = "c++"
    case rust
}

/// Why a project cannot be made.
public struct TemplateError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
}

/// A connector project: manifest, source, tests, build file, `debian` folder, README. Complete, and green under
/// `milepost plugin check` as it is.
public struct TemplateProject: Sendable {
    public struct File: Sendable, Equatable {
        /// Below the project's folder.
        public let path: String
        public let bytes: [UInt8]
        public let isExecutable: Bool
    }

    public let name: String
    public let language: TemplateLanguage
    public let files: [File]

    /// - Parameters:
    ///   - name: becomes file stem, manifest name and package name.
    ///   - date: for the changelog, as RFC 5322 has it.
    /// - Throws: what is wrong with the name.
    public init(name: String, language: TemplateLanguage, date: String) throws(TemplateError) {
        try Self.check(name)
        self.name = name
        self.language = language
        let words = name.split(separator: "-").map { $0.prefix(1).uppercased() + $0.dropFirst() }
        var values = Self.values(language)
        values["name"] = name
        values["title"] = words.joined(separator: " ")
        values["type"] = words.joined()
        values["date"] = date
        let year = date.split(separator: " ").first { $0.utf8.count == 4 && Int($0) != nil }
        values["year"] = year.map(String.init) ?? ""
        // The name that embedding gives to the manifest.
        values["resource"] = name.replacing("-", with: "_") + "_json"
        files = (Self.common + Self.own(language)).map { path, template in
            File(
                path: Self.filled(path, values), bytes: Array(Self.filled(template.text, values).utf8),
                isExecutable: path == "debian/rules")
        }.sorted { $0.path < $1.path }
    }

    /// The rule of the manifest's `name`, and no name that means something else to a build tool or to the daemon.
    static func check(_ name: String) throws(TemplateError) {
        let isShaped =
            (2...40).contains(name.utf8.count)
            && name.utf8.allSatisfy { (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2d }
            && (name.utf8.first.map { (0x61...0x7a).contains($0) } ?? false) && !name.hasSuffix("-")
            && name.firstRange(of: "--") == nil
        guard isShaped else {
            throw TemplateError(
                description:
                    "'\(name)' cannot be a plugin's name: 2 to 40 small letters, digits and single hyphens, a letter "
                    + "first, such as acme-crm")
        }
        let taken = ["milepost", "milepostd", "plugin", "plugins", "test", "core", "std", "main", "self", "api"]
        if taken.contains(name) { throw TemplateError(description: "'\(name)' is taken; choose the vendor's name") }
    }

    private static func filled(_ text: String, _ values: [String: String]) -> String {
        values.reduce(text) { $0.replacing("{{\($1.key)}}", with: $1.value) }
    }

    private static func values(_ language: TemplateLanguage) -> [String: String] {
        switch language {
        case .c:
            [
                "language": "C", "build_command": "make", "source": "`src/plugin.c`",
                "build_depends": "debhelper-compat (= 13), milepost-dev",
            ]
        case .cxx:
            [
                "language": "C++17", "build_command": "make", "source": "`src/plugin.cpp`",
                "build_depends": "debhelper-compat (= 13), milepost-dev",
            ]
        case .swift:
            [
                "language": "Swift", "build_command": "make", "source": "`Sources/Plugin.swift`",
                "build_depends": "debhelper-compat (= 13), milepost-dev",
            ]
        case .rust:
            [
                "language": "Rust", "build_command": "make", "source": "`src/plugin.rs`",
                "build_depends": "debhelper-compat (= 13), cargo, milepost-dev",
            ]
        }
    }

    private struct Template {
        let text: String
        init(_ bytes: [UInt8]) { text = String(decoding: bytes, as: UTF8.self) }
    }

    private static var common: [(String, Template)] {
        [
            ("{{name}}.json", Template(PackageResources.manifest_json_template)),
            ("{{name}}.vendor.json", Template(PackageResources.vendor_json_template)),
            ("README.md", Template(PackageResources.readme_md_template)),
            (".gitignore", Template(PackageResources.gitignore_template)),
            ("export.map", Template(PackageResources.export_map_template)),
            ("debian/control", Template(PackageResources.debian_control_template)),
            ("debian/rules", Template(PackageResources.debian_rules_template)),
            ("debian/changelog", Template(PackageResources.debian_changelog_template)),
            ("debian/copyright", Template(PackageResources.debian_copyright_template)),
            ("debian/source/format", Template(PackageResources.debian_source_format_template)),
        ]
    }

    private static func own(_ language: TemplateLanguage) -> [(String, Template)] {
        switch language {
        case .c:
            [
                ("Makefile", Template(PackageResources.c_Makefile_template)),
                ("src/plugin.c", Template(PackageResources.c_plugin_c_template)),
                ("tests/plugin_test.c", Template(PackageResources.c_plugin_test_c_template)),
            ]
        case .cxx:
            [
                ("Makefile", Template(PackageResources.cxx_Makefile_template)),
                ("src/plugin.cpp", Template(PackageResources.cxx_plugin_cpp_template)),
                ("src/json.hpp", Template(PackageResources.cxx_json_hpp_template)),
                ("tests/json_test.cpp", Template(PackageResources.cxx_json_test_cpp_template)),
            ]
        case .swift:
            [
                ("Makefile", Template(PackageResources.swift_Makefile_template)),
                ("Package.swift", Template(PackageResources.swift_Package_swift_template)),
                ("Entry/Entry.swift", Template(PackageResources.swift_Entry_swift_template)),
                ("Sources/Plugin.swift", Template(PackageResources.swift_Plugin_swift_template)),
                ("Tests/PluginTests.swift", Template(PackageResources.swift_PluginTests_swift_template)),
            ]
        case .rust:
            [
                ("Makefile", Template(PackageResources.rust_Makefile_template)),
                ("Cargo.toml", Template(PackageResources.rust_Cargo_toml_template)),
                ("src/lib.rs", Template(PackageResources.rust_lib_rs_template)),
                ("src/ffi.rs", Template(PackageResources.rust_ffi_rs_template)),
                ("src/json.rs", Template(PackageResources.rust_json_rs_template)),
                ("src/plugin.rs", Template(PackageResources.rust_plugin_rs_template)),
            ]
        }
    }
}
