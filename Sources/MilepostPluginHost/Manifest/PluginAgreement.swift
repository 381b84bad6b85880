// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel

/// Whether what was loaded is what the manifest promised; the same for both isolation modes.
struct PluginAgreement {
    let plugin: PluginName
    let manifest: PluginManifest
    let manifestBytes: [UInt8]
    let described: [UInt8]
    let minHostMinor: UInt32
    let verbs: UInt64
    let describeCPU: UInt64
    let describeWall: UInt64

    func firstProblem(budget: Duration) -> PluginLoadError? {
        func refuse(_ code: PluginLoadError.Code, _ detail: String) -> PluginLoadError {
            PluginLoadError(code: code, plugin: plugin, detail: detail)
        }
        if minHostMinor > hostABIMinor {
            return refuse(
                .hostTooOld,
                "its code needs ABI 1.\(minHostMinor), this Milepost has 1.\(hostABIMinor); upgrade milepostd")
        }
        if describeCPU > budget.nanoseconds
            || describeWall > budget.nanoseconds.multipliedReportingOverflow(by: 10).partialValue
        {
            return refuse(
                .describeTooSlow,
                "its describe took \(describeCPU / 1_000_000) ms of CPU, \(describeWall / 1_000_000) ms in all; it must "
                    + "return static bytes")
        }
        if minHostMinor != manifest.abi.minHostMinor {
            return refuse(
                .manifestDisagrees,
                "\(plugin).json says min_host_minor \(manifest.abi.minHostMinor), the code says \(minHostMinor); "
                    + "install file and manifest of one build")
        }
        if ManifestText.withoutWhiteSpace(described) != ManifestText.withoutWhiteSpace(manifestBytes) {
            return refuse(
                .manifestDisagrees,
                "\(plugin).json differs from what the code describes; install file and manifest of one build")
        }
        for action in manifest.actions ?? [] {
            let needsReconcile = action.reconcile == true || action.idempotency == Action.Idempotency.none
            if needsReconcile && verbs & (1 << UInt64(PluginVerb.reconcile.rawValue)) == 0 {
                return refuse(
                    .manifestDisagrees,
                    "action '\(action.name)' needs the verb reconcile, which its table lacks; it could not find out "
                        + "what became of a request")
            }
        }
        return nil
    }

    private typealias Action = PluginManifest.Action

    /// One sentence for each thing that can go wrong with the file itself.
    static func refusal(
        _ code: PluginLoadError.Code, plugin: PluginName, detail: String, library: String
    ) -> PluginLoadError {
        let sentence =
            switch code {
            case .entryMissing:
                "\(library) does not export milepost_plugin_v1: it is no plugin, or one for another major of the ABI"
            case .hostTooOld: "\(detail); upgrade milepostd or install an older build of the plugin"
            case .sandboxUnavailable:
                "\(detail); set sandbox to best-effort to run it all the same, or upgrade the kernel"
            default: "\(library) cannot be loaded: \(detail)"
            }
        return PluginLoadError(code: code, plugin: plugin, detail: sentence)
    }

    static func report(_ error: PluginLoadError, plugin: LoadedPlugin) {
        plugin.core.services.metric(.host(plugin: error.plugin, event: "refused", code: error.code.rawValue))
        plugin.announce(4, error.description)
    }
}
