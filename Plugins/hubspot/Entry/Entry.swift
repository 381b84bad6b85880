// SPDX-License-Identifier: Apache-2.0

public import CMilepostPlugin
import MilepostKit
import HubSpot

/// The one exported function. Kit does the rest.
@c @implementation
public func milepost_plugin_v1(
    _ info: UnsafePointer<mp_host_info>!, _ ret_status: UnsafeMutablePointer<Int32>!
) -> UnsafePointer<mp_plugin>! {
    unsafe PluginEntry.table(of: HubSpotPlugin.self, info, ret_status)
}
