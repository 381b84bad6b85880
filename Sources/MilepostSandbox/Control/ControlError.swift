// SPDX-License-Identifier: Apache-2.0

/// A refusal of the control API: what is wrong with the request, for the person who sent it.
package struct ControlError: Error, Hashable, Sendable {
    package let status: Int
    package let detail: String

    package init(_ detail: String, status: Int = 400) {
        self.status = status
        self.detail = detail
    }
}
