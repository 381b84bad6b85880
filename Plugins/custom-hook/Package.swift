// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
//
// The custom-hook plugin: a shared object of its own, built like an outsider's.

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
    name: "custom-hook",
    platforms: [.macOS(.v15)],
    products: [.library(name: "custom-hook", type: .dynamic, targets: ["CustomHookPlugin"])],
    dependencies: [.package(path: "../../Sources/MilepostKit")],
    targets: [
        .target(
            name: "CustomHook", dependencies: [kit], path: ".", exclude: ["Entry", "Tests", "README.md", "export.map"],
            sources: ["Sources"], resources: [.embedInCode("custom-hook.json")], swiftSettings: strict),
        // The entry alone: so that the tests can link the rest without the flags of a shared object.
        .target(
            name: "CustomHookPlugin", dependencies: ["CustomHook", kit], path: "Entry", swiftSettings: strict,
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
            name: "CustomHookTests",
            dependencies: ["CustomHook", kit, .product(name: "MilepostKitTesting", package: "MilepostKit")],
            path: "Tests/CustomHookTests", swiftSettings: strict),
    ]
)
