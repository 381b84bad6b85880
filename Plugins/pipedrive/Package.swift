// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
//
// The Pipedrive plugin: a shared object of its own, built like an outsider's.

import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .strictMemorySafety(),
]

let kit = Target.Dependency.product(name: "MilepostKit", package: "MilepostKit")

let package = Package(
    name: "pipedrive",
    platforms: [.macOS(.v15)],
    products: [.library(name: "pipedrive", type: .dynamic, targets: ["PipedrivePlugin"])],
    dependencies: [.package(path: "../../Sources/MilepostKit")],
    targets: [
        .target(
            name: "Pipedrive", dependencies: [kit], path: ".",
            exclude: ["Entry", "Tests", "README.md", "export.map", "pipedrive.vendor.json"],
            sources: ["Sources"], resources: [.embedInCode("pipedrive.json")], swiftSettings: strict),
        // The entry alone: so that the tests can link the rest without the flags of a shared object.
        .target(
            name: "PipedrivePlugin", dependencies: ["Pipedrive", kit], path: "Entry", swiftSettings: strict,
            linkerSettings: [
                // The command line's --static-swift-stdlib does not reach shared libraries; `-z defs` finds what is
                // missing at link time, not at load time.
                .unsafeFlags(
                    [
                        "-static-stdlib", "-lswiftSynchronization",
                        "-Xlinker", "-z", "-Xlinker", "defs", "-Xlinker", "--gc-sections", "-Xlinker", "-z", "-Xlinker",
                        "relro", "-Xlinker",
                        "-z", "-Xlinker", "now", "-Xlinker", "--version-script=\(Context.packageDirectory)/export.map",
                    ], .when(platforms: [.linux]))
            ]),
        .testTarget(
            name: "PipedriveTests",
            dependencies: ["Pipedrive", kit, .product(name: "MilepostKitTesting", package: "MilepostKit")],
            path: "Tests/PipedriveTests", swiftSettings: strict),
    ]
)
