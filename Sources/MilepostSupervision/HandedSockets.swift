// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux

/// A listening socket that the service manager opened and keeps open while the daemon restarts: who connects meanwhile waits
/// in the kernel's queue and is not refused (systemd.socket(5), sd_listen_fds(3)).
public struct HandedSocket: Sendable, Hashable {
    /// Owned by whoever took it; closing it closes our end only.
    public let descriptor: Int32
    /// What the unit calls it (`FileDescriptorName=`), or `unknown`.
    public let name: String
    /// A numeric address with its port, or a path; an abstract name begins with `@`.
    public let address: String
    /// Nil for a Unix socket.
    public let port: Int?

    /// The first descriptor of the protocol: 0 to 2 are input, output and errors.
    static let firstDescriptor: Int32 = 3
    /// More than anybody listens on. A wrong number must not make us take descriptors that are something else.
    public static let most = 32

    /// The sockets that are meant for this process; none where no manager hands any over.
    ///
    /// Call it once, before anything else opens descriptors that somebody could take for these. They close on exec from then on.
    ///
    /// - Parameters:
    ///   - environment: what the manager set: `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`.
    ///   - processID: this process's; sockets that are meant for another one are not ours to take.
    /// - Throws: when the variables make no sense, or a descriptor is no socket that takes connections.
    public static func take(
        environment: [String: String], processID: Int32
    ) throws(HandedSocketError) -> [HandedSocket] {
        guard let text = environment["LISTEN_FDS"], environment["LISTEN_PID"] == String(processID) else { return [] }
        guard let count = Int32(text), (0...Int32(most)).contains(count) else {
            throw HandedSocketError(
                "LISTEN_FDS says '\(text.prefix(20))', and 0 to \(most) sockets can be taken: see ListenStream= of milepost.socket"
            )
        }
        let names = environment["LISTEN_FDNAMES"]?.split(separator: ":", omittingEmptySubsequences: false) ?? []
        var sockets: [HandedSocket] = []
        for index in 0..<count {
            let name = Int(index) < names.count && !names[Int(index)].isEmpty ? String(names[Int(index)]) : "unknown"
            sockets.append(try HandedSocket(descriptor: firstDescriptor + index, name: name))
        }
        return sockets
    }

    /// - Throws: when the descriptor is no listening stream socket.
    public init(descriptor: Int32, name: String) throws(HandedSocketError) {
        var port: Int32 = -1
        var host = [CChar](repeating: 0, count: 256)
        let result = unsafe milepost_listener_inspect(descriptor, &port, &host, host.count)
        guard result == 0 else {
            throw HandedSocketError(
                "descriptor \(descriptor) ('\(name)') that the service manager handed over takes no connections (errno "
                    + "\(-result)): milepost.socket needs ListenStream= and Accept=no")
        }
        let text = String(decoding: host.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        self.descriptor = descriptor
        self.name = name
        self.port = port < 0 ? nil : Int(port)
        address = port < 0 ? text : text.contains(":") ? "[\(text)]:\(port)" : "\(text):\(port)"
    }
}

/// The service manager handed something over that cannot be listened on; starting anew would not mend it.
public struct HandedSocketError: Error, CustomStringConvertible {
    public static let code = "handed_socket_unusable"
    public let description: String

    init(_ description: String) { self.description = description }
}
