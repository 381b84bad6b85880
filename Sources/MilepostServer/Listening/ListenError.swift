// SPDX-License-Identifier: Apache-2.0

import NIOCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Why the daemon cannot listen where `listen` says.
public struct ListenError: Error, CustomStringConvertible {
    public enum Code: String, Sendable {
        /// Another process listens at an address of `listen`: `ss -ltnp` shows which.
        case inUse = "address_in_use"
        /// The daemon's user may not listen at an address of `listen`: ports below 1024 are root's.
        case forbidden = "address_forbidden"
        /// No interface of the machine has an address of `listen`.
        case absent = "address_unavailable"
    }
    public let code: Code
    public let detail: String

    /// - Parameters:
    ///   - error: what binding ended with; nil is returned for one that has nothing to do with the address.
    ///   - address: as it stands in the setting.
    public init?(_ error: any Error, at address: String) {
        guard let error = error as? IOError else { return nil }
        switch error.errnoCode {
        case EADDRINUSE:
            code = .inUse
            detail =
                "another process listens at \(address), which the setting 'listen' names: 'ss -ltnp' shows who has the port; "
                + "stop that, or change 'listen'"
        case EACCES, EPERM:
            code = .forbidden
            detail =
                "the daemon's user may not listen at \(address), which the setting 'listen' names, because ports below 1024 are "
                + "root's: take one from 1024 on behind a reverse proxy, or switch on milepost.socket, which systemd opens"
        case EADDRNOTAVAIL:
            code = .absent
            detail =
                "no interface of this machine has the address \(address), which the setting 'listen' names: 'ip address' shows "
                + "which there are; change 'listen', or bring the interface up"
        default: return nil
        }
    }

    public var description: String { "\(code.rawValue): \(detail)" }
}
