// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
//
// Milepost: the daemon, its command line, the CRM sandbox and the worker launcher.
//
// One target per room of docs/architecture.md; imports point downward only (Tests/Tidy reads the import lines and fails
// otherwise). Plugins and MilepostKit are packages of their own, so that building a plugin resolves none of these
// dependencies and ours look exactly like an outsider's.

import PackageDescription

/// The language settings every Swift room shares. A room that needs an exception says so beside its name.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .strictMemorySafety(),
]

let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let metrics = Target.Dependency.product(name: "Metrics", package: "swift-metrics")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

/// Links the Swift runtime and Foundation statically, so that a binary needs only Debian's own libraries. Said here and not
/// by `--static-swift-stdlib`, because that flag also changes how modules are compiled, and the test runner needs the
/// dynamic ones: this way one build serves both.
func staticRuntime(_ foundation: String...) -> [LinkerSetting] {
    [
        .unsafeFlags(
            ["-static-stdlib", "-Xlinker", "--start-group"] + foundation + [
                "-l_FoundationCShims", "-l_FoundationCollections", "-lswiftSynchronization", "-Xlinker", "--end-group",
                "-lstdc++", "-Xlinker", "--gc-sections", "-Xlinker", "-z", "-Xlinker", "now",
            ])
    ]
}

/// GRDB and Hummingbird need all of Foundation, which brings ICU with 30 MB of data.
let wholeFoundation = staticRuntime("-lCoreFoundation", "-l_FoundationICU")
/// Nothing below these programs imports more than FoundationEssentials; a test of the packages looks for ICU in them.
let essentials = staticRuntime()

func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(_ room: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .testTarget(
        name: "\(room)Tests",
        dependencies: [.target(name: room)] + dependencies,
        swiftSettings: strict
    )
}

let package = Package(
    name: "milepost",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "milepostd", targets: ["milepostd"]),
        .executable(name: "milepost", targets: ["milepost"]),
        .executable(name: "milepost-sandbox", targets: ["milepost-sandbox"]),
        .executable(name: "milepost-plugin-worker", targets: ["milepost-plugin-worker"]),
        .executable(name: "milepost-plugin-check", targets: ["milepost-plugin-check"]),
    ],
    dependencies: [
        .package(url: "https://github.com/hummingbird-project/hummingbird", exact: "2.28.1"),
        .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", exact: "2.13.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
    ],
    targets: [
        // MARK: The C boundary: system libraries and typed shims, nothing else.
        .systemLibrary(name: "CMilepostABI", path: "Sources/CMilepostABI"),
        .systemLibrary(
            name: "COpenSSL", path: "Sources/COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CZlib", path: "Sources/CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CYAML", path: "Sources/CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
        .target(name: "CMilepostCurl", linkerSettings: [.linkedLibrary("curl")]),
        .target(name: "CMilepostLinux"),
        .target(name: "CMilepostProbe"),

        // MARK: Rooms, lowest first.
        room("MilepostModel"),
        .target(name: "MilepostTemplates", resources: [.embedInCode("Templates")], swiftSettings: strict),
        room("MilepostRules", ["MilepostModel"]),
        room("MilepostVault", ["MilepostModel", "COpenSSL", "CMilepostLinux"]),
        room("MilepostStore", ["MilepostModel", "CMilepostLinux", grdb]),
        room("MilepostEgress", ["MilepostModel", "CMilepostCurl", "CMilepostLinux", "COpenSSL"]),
        room("MilepostPluginHost", ["MilepostModel", "CMilepostABI", "CMilepostLinux"]),
        room("MilepostSupervision", ["CMilepostLinux"]),
        room("MilepostConfiguration", ["MilepostModel", "MilepostRules", "CYAML"]),
        room("MilepostIntake", ["MilepostModel", "COpenSSL", "CZlib"]),
        room(
            "MilepostEngine",
            [
                "MilepostModel", "MilepostRules", "MilepostVault", "MilepostStore", "MilepostEgress",
                "MilepostPluginHost", "MilepostIntake", logging, metrics,
            ]),
        room(
            "MilepostServer",
            [
                "MilepostModel", "MilepostRules", "MilepostEngine", "MilepostStore", "MilepostPluginHost",
                "MilepostIntake",
                "MilepostVault",
                hummingbird, logging, lifecycle,
            ]),
        room("MilepostClient", ["MilepostModel", "MilepostIntake", "MilepostConfiguration", "CMilepostCurl"]),
        room("MilepostSandbox", ["COpenSSL", hummingbird, logging]),
        // The schemas are a link to include/milepost/schemas: the validator judges by the published ones.
        .target(
            name: "MilepostValidator",
            dependencies: ["MilepostModel", "MilepostPluginHost", "CMilepostProbe", "CMilepostLinux"],
            resources: [.embedInCode("Schemas")], swiftSettings: strict),

        // MARK: Executables: wiring and life cycle, no logic.
        .executableTarget(
            name: "milepostd",
            dependencies: [
                "MilepostServer", "MilepostEngine", "MilepostConfiguration", "MilepostStore", "MilepostVault",
                "MilepostEgress", "MilepostPluginHost", "MilepostIntake", "CMilepostLinux", arguments, lifecycle,
                "MilepostModel", "MilepostRules", "MilepostSupervision", hummingbird, logging,
            ],
            swiftSettings: strict, linkerSettings: wholeFoundation),
        .executableTarget(
            name: "milepost",
            dependencies: ["MilepostClient", "MilepostConfiguration", "MilepostModel", "MilepostTemplates", arguments],
            swiftSettings: strict, linkerSettings: essentials),
        .executableTarget(
            name: "milepost-sandbox",
            dependencies: ["MilepostSandbox", arguments, hummingbird, logging],
            swiftSettings: strict, linkerSettings: wholeFoundation),
        .executableTarget(
            name: "milepost-plugin-check",
            dependencies: ["MilepostValidator", "MilepostModel", arguments],
            swiftSettings: strict, linkerSettings: essentials),
        .executableTarget(
            name: "milepost-plugin-worker",
            path: "Sources/plugin-worker",
            cSettings: [
                .unsafeFlags(["-std=gnu11", "-Wall", "-Wextra", "-Werror"]), .headerSearchPath("../../include"),
            ],
            // The one symbol that plugins find in the launcher; thread_facts.c says why. It is plain C: without Swift's start
            // files nothing asks for the runtime, so that it runs where no Swift is installed.
            linkerSettings: [
                .unsafeFlags([
                    "-static-stdlib", "-nostartfiles", "-Xlinker", "--gc-sections", "-Xlinker", "-z", "-Xlinker", "now",
                    "-Xlinker", "--no-export-dynamic", "-Xlinker", "--export-dynamic-symbol=open",
                ])
            ]),

        // MARK: Tests, one target per room.
        tests("MilepostConfiguration", ["MilepostModel"]),
        tests("MilepostClient", ["MilepostModel", "MilepostConfiguration"]),
        tests("MilepostEgress"),
        tests("MilepostIntake", ["MilepostModel"]),
        tests("MilepostPluginHost", ["MilepostModel"]),
        tests("MilepostSandbox"),
        tests("MilepostModel"),
        tests("MilepostSupervision"),
        tests("MilepostStore", ["MilepostModel", grdb]),
        tests("MilepostVault"),
        tests("MilepostValidator", ["MilepostModel"]),
        tests("MilepostTemplates"),
        tests("MilepostRules", ["MilepostModel"]),
        tests(
            "MilepostServer",
            [
                "MilepostModel", "MilepostEngine", "MilepostEgress", "MilepostIntake", "MilepostPluginHost",
                "MilepostStore",
                "MilepostVault", hummingbird, logging,
            ]),
        tests(
            "MilepostEngine",
            [
                "MilepostModel", "MilepostRules", "MilepostStore", "MilepostEgress", "MilepostPluginHost",
                "MilepostIntake",
                "MilepostVault",
            ]),
    ]
)
