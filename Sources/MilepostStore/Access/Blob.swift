// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

// GRDB stores `Data`; the rest of Milepost speaks `[UInt8]`.
extension [UInt8] {
    var blob: Data { Data(self) }
    init(blob: Data) { self.init(blob) }
}
