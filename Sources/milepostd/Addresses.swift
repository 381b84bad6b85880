// SPDX-License-Identifier: Apache-2.0

import Foundation
import Logging
import MilepostConfiguration
import MilepostServer
import MilepostSupervision
import ServiceLifecycle

/// Where this daemon listens: on the sockets that the service manager handed over, or else on those of `listen`.
///
/// Never on both: an address in two places would be bound twice, and nobody could say which of them to change.
struct Addresses {
    let configuration: Configuration
    let handed: [HandedSocket]
    let logger: Logger

    /// As the status shows them.
    var all: [String] { handed.isEmpty ? configuration.listen.map(\.description) : handed.map(\.address) }

    /// Whether a standby must wait before it listens. Handed sockets may be the active daemon's, too, and a connection that
    /// the standby took would be turned away.
    var areTaken: Bool {
        !handed.isEmpty || configuration.listen.contains { !Self.isFree(host: $0.host, port: $0.port) }
    }

    func services(of server: MilepostServer, framework: Logger, announcement: Announcement) -> [any Service] {
        func limits(_ host: String, _ port: Int) -> ListenerSettings {
            ListenerSettings(
                host: host, port: port, maximumConnections: configuration.limits.connections,
                idleTimeout: configuration.limits.idleTimeout)
        }
        guard !handed.isEmpty else {
            return configuration.listen.map { address in
                let application = server.application(
                    on: limits(address.host, address.port), frameworkLogger: framework
                ) { port in
                    logger.info("listening on http://\(ListenAddress(host: address.host, port: port))")
                    announcement.arrived()
                }
                return NamedListener(listener: application, address: address)
            }
        }
        sayWhatIsNotUsed()
        return handed.map { socket in
            server.service(on: socket.descriptor, limits: limits("", 0), frameworkLogger: framework) {
                let place = socket.port == nil ? "unix:" : "http://"
                logger.info(
                    "listening on \(place)\(socket.address), handed over by the service manager",
                    metadata: ["name": "\(socket.name)"])
                announcement.arrived()
            }
        }
    }

    private func sayWhatIsNotUsed() {
        let unused = configuration.listen.map(\.description).filter { !all.contains($0) }
        guard !unused.isEmpty else { return }
        logger.notice(
            "'listen' is not used, because the service manager hands the sockets over: change ListenStream= of milepost.socket instead",
            metadata: ["listen": "\(unused.joined(separator: ", "))", "handed_over": "\(all.joined(separator: ", "))"])
    }

    /// Whether nobody listens there now. A standby with the active daemon's own address listens only once that one is gone.
    static func isFree(host: String, port: Int) -> Bool {
        guard port != 0 else { return true }
        var hints = unsafe addrinfo()
        unsafe hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        guard unsafe getaddrinfo(host, String(port), &hints, &found) == 0, let first = unsafe found else { return true }
        defer { unsafe freeaddrinfo(found) }
        let descriptor = unsafe socket(first.pointee.ai_family, first.pointee.ai_socktype, 0)
        guard descriptor >= 0 else { return true }
        defer { close(descriptor) }
        var one: Int32 = 1
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        return unsafe bind(descriptor, first.pointee.ai_addr, first.pointee.ai_addrlen) == 0
    }
}

/// A listener that says which address of the configuration it could not take.
private struct NamedListener: Service {
    let listener: any Service
    let address: ListenAddress

    func run() async throws {
        do { try await listener.run() } catch {
            if let known = ListenError(error, at: address.description) { throw known }
            throw error
        }
    }
}
