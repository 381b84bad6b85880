// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
//
// Measures what the plugin boundary costs. Tests/Bench/bench.py copies this to a scratch folder beside a link to Sources:
// the rooms it needs have no outside dependency, so nothing else is built.

import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .strictMemorySafety(),
]

let package = Package(
    name: "abi-cost",
    platforms: [.macOS(.v15)],
    targets: [
        .systemLibrary(name: "CMilepostABI", path: "Sources/CMilepostABI"),
        .target(name: "CMilepostLinux", path: "Sources/CMilepostLinux"),
        .target(name: "MilepostModel", path: "Sources/MilepostModel", swiftSettings: settings),
        .target(
            name: "MilepostPluginHost", dependencies: ["MilepostModel", "CMilepostABI", "CMilepostLinux"],
            path: "Sources/MilepostPluginHost", swiftSettings: settings),
        .executableTarget(
            name: "abi-cost", dependencies: ["MilepostModel", "MilepostPluginHost"], path: "Driver",
            swiftSettings: settings),
    ]
)
