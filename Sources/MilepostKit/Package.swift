// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
//
// MilepostKit: the Swift SDK for plugin authors. A package of its own without dependencies, so that building a plugin
// resolves none of the daemon's. The public header is not copied: the module map points at it.

import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .strictMemorySafety(),
]

let package = Package(
    name: "MilepostKit",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "MilepostKit", targets: ["MilepostKit"]),
        .library(name: "MilepostKitTesting", targets: ["MilepostKitTesting"]),
    ],
    targets: [
        .systemLibrary(name: "CMilepostPlugin"),
        .target(name: "MilepostKit", dependencies: ["CMilepostPlugin"], swiftSettings: strict),
        // A host in Swift that plays a script: for the tests of a plugin, never part of a plugin.
        .target(
            name: "MilepostKitTesting", dependencies: ["MilepostKit", "CMilepostPlugin"], swiftSettings: strict),
        .testTarget(
            name: "MilepostKitTests", dependencies: ["MilepostKit", "MilepostKitTesting", "CMilepostPlugin"],
            swiftSettings: strict),
    ]
)
