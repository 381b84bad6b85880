// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
//
// The HubSpot plugin: a shared object of its own, built like an outsider's.

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
    name: "hubspot",
    platforms: [.macOS(.v15)],
    products: [.library(name: "hubspot", type: .dynamic, targets: ["HubSpotPlugin"])],
    dependencies: [.package(path: "../../Sources/MilepostKit")],
    targets: [
        .target(
            name: "HubSpot", dependencies: [kit], path: ".",
            exclude: ["Entry", "Tests", "README.md", "export.map", "hubspot.vendor.json"],
            sources: ["Sources"], resources: [.embedInCode("hubspot.json")], swiftSettings: strict),
        // The entry alone: so that the tests can link the rest without the flags of a shared object.
        .target(
            name: "HubSpotPlugin", dependencies: ["HubSpot", kit], path: "Entry", swiftSettings: strict,
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
            name: "HubSpotTests",
            dependencies: ["HubSpot", kit, .product(name: "MilepostKitTesting", package: "MilepostKit")],
            path: "Tests/HubSpotTests", swiftSettings: strict),
    ]
)
