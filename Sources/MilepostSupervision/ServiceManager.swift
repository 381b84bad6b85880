// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux

/// The service manager that started this process, if one did: systemd, or whatever else speaks its notification protocol
/// (sd_notify(3)).
///
/// Any thread may tell it things. Without a manager every message is dropped, so that callers need no branch.
public struct ServiceManager: Sendable {
    /// Where messages go: a path or, with `@` in front, an abstract name. Nil when nobody listens.
    public let address: String?
    /// How often to send `watchdog`: half of the time after which the manager takes the daemon for hung. Nil when it does
    /// not watch.
    public let watchdogInterval: Duration?

    /// - Parameters:
    ///   - environment: what the manager set: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    ///   - processID: this process's; a watchdog that is meant for another one is not ours to feed.
    public init(environment: [String: String], processID: Int32) {
        let address = environment["NOTIFY_SOCKET"].flatMap { $0.hasPrefix("/") || $0.hasPrefix("@") ? $0 : nil }
        self.address = address
        let isOurs = environment["WATCHDOG_PID"].map { $0 == String(processID) } ?? true
        watchdogInterval = environment["WATCHDOG_USEC"].flatMap { text in
            guard address != nil, isOurs, let period = Int64(text), period > 1 else { return nil }
            return .microseconds(period / 2)
        }
    }

    /// Sends one message, waiting a second at most.
    ///
    /// - Throws: `SupervisionError` when the manager's socket does not take it. The daemon goes on: the manager's own
    ///   time-outs are the judge.
    public func tell(_ news: ServiceNews) throws(SupervisionError) {
        guard let address else { return }
        let text = news.text
        let result = unsafe address.withCString { name in
            unsafe text.withCString { unsafe milepost_notify_send(name, $0, text.utf8.count) }
        }
        guard result == 0 else { throw SupervisionError(address: address, errno: -result) }
    }
}

/// What a service may tell its manager.
public enum ServiceNews: Sendable, Equatable {
    /// Start-up, or a reload, is over.
    case ready(status: String)
    /// A reload begins, at `CLOCK_MONOTONIC`'s microseconds; `ready` ends it.
    case reloading(at: UInt64)
    case stopping(status: String)
    /// One line for people, shown by `systemctl status`.
    case status(String)
    /// Start-up takes that much longer from now on: a manager that waits for `ready` must not give up meanwhile.
    case extends(Duration, status: String)
    /// Still alive.
    case watchdog

    /// The datagram. A status is cut to one line, because a line break would begin another assignment.
    public var text: String {
        switch self {
        case .ready(let status): "READY=1\nSTATUS=\(Self.line(status))"
        case .reloading(let time): "RELOADING=1\nMONOTONIC_USEC=\(time)\nSTATUS=reloading"
        case .stopping(let status): "STOPPING=1\nSTATUS=\(Self.line(status))"
        case .extends(let time, let status):
            "EXTEND_TIMEOUT_USEC=\(max(1, time.components.seconds) * 1_000_000)\nSTATUS=\(Self.line(status))"
        case .status(let status): "STATUS=\(Self.line(status))"
        case .watchdog: "WATCHDOG=1"
        }
    }

    private static func line(_ text: String) -> String {
        String(text.unicodeScalars.prefix { $0 != "\n" && $0 != "\r" && $0 != "\0" }.prefix(400).map(Character.init))
    }
}

/// The manager's socket did not take a message.
public struct SupervisionError: Error, CustomStringConvertible {
    public static let code = "service_manager_unreachable"
    public let description: String

    init(address: String, errno: Int32) {
        description =
            "the service manager's socket \(address) takes no message (errno \(errno)): it may end this daemon as hung; "
            + "see whether the unit has Type=notify and NotifyAccess=main"
    }
}
