// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
//
// Measures what rolling windows cost in memory. Tests/Bench/bench.py copies this to a scratch folder beside a link to Sources:
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
    name: "rule-cost",
    platforms: [.macOS(.v15)],
    targets: [
        .target(name: "MilepostModel", path: "Sources/MilepostModel", swiftSettings: settings),
        .target(
            name: "MilepostRules", dependencies: ["MilepostModel"], path: "Sources/MilepostRules",
            swiftSettings: settings),
        .executableTarget(
            name: "rule-cost", dependencies: ["MilepostModel", "MilepostRules"], path: "Driver",
            swiftSettings: settings),
    ]
)
