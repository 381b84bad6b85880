// SPDX-License-Identifier: Apache-2.0

import Glibc
public import MilepostModel

/// Looks at everything around a daemon that may keep it from working, without the daemon and without its database
/// (decisions 34). Blocks on file reads.
public struct Examination {
    /// A clock before this release's year is not set.
    static let earliestClock = Timestamp(seconds: 1_767_225_600)  // 2026-01-01T00:00:00Z

    private let environment: [String: String]
    private let now: Timestamp
    private let unitFolders: [String]

    public init(environment: [String: String], now: Timestamp) {
        self.init(environment: environment, now: now, unitFolders: UnitFile.folders)
    }

    /// For tests: units of their own.
    package init(environment: [String: String], now: Timestamp, unitFolders: [String]) {
        self.environment = environment
        self.now = now
        self.unitFolders = unitFolders
    }

    /// What was found, and what is left to look at over the network.
    public struct Result: Sendable {
        public var findings: [Finding]
        /// Where the plugins that are switched on send requests to.
        public var endpoints: [VendorEndpoint] = []
        /// As the configuration says; nil also when it cannot be read.
        public var publicURL: String?
        /// Addresses of `listen` that somebody listens on: right where it is the daemon, which is not judged here.
        public var takenPorts: [ListenAddress] = []
        /// Plugins that a finding says cannot be loaded as their files are.
        public var unloadable: Set<String> = []
    }

    public func run(path: String) -> Result {
        var result = Result(findings: [clock()])
        do throws(ConfigurationError) {
            let loaded = try Configuration.examine(path: path, environment: environment)
            result.findings.append(
                Finding(.configuration, code: "configuration", severity: .ok, what: "configuration \(path) is right"))
            result.findings += loaded.warnings.map {
                Finding(
                    .configuration, code: "unknown_variable", severity: .warning, what: $0.message,
                    cause: "it begins with MILEPOST_",
                    cure: "unset it, or mend its name")
            }
            let configuration = loaded.configuration
            let unit = ServiceUnit(configuration: path, folders: unitFolders)
            result.findings += loaded.files.compactMap(writable) + unreadable(loaded.files, of: configuration, unit)
            result.findings += dataDirectory(configuration, unit) + key(configuration, unit)
            result.findings += plugins(configuration, into: &result.unloadable)
            result.findings += space(configuration)
            for address in configuration.listen {
                guard let finding = port(address) else {
                    result.takenPorts.append(address)
                    continue
                }
                result.findings.append(finding)
            }
            result.endpoints = VendorEndpoint.all(of: configuration)
            result.publicURL = configuration.publicURL
        } catch {
            result.findings.append(
                Finding(
                    .configuration, code: "configuration", severity: .problem, what: "the configuration cannot be used",
                    cause: error.description,
                    cure: "mend the lines named, then run 'milepost config check --config \(path)'"))
        }
        return result
    }

    /// Whoever may write it may send tokens elsewhere and switch plugins on.
    private func writable(_ file: String) -> Finding? {
        guard let status = FileStatus(path: file), status.mode & 0o022 != 0 else { return nil }
        return Finding(
            .permissions, code: "configuration_mode", severity: .problem,
            what: "others may write the configuration \(file)",
            cause: "its mode is \(String(status.mode, radix: 8))", cure: "chmod go-w \(file)")
    }

    private func clock() -> Finding {
        now >= Self.earliestClock
            ? Finding(.clock, code: "clock", severity: .ok, what: "the clock is set")
            : Finding(
                .clock, code: "clock", severity: .problem, what: "the clock says \(now)", cause: "it was never set",
                cure: "switch on time synchronisation (systemd-timesyncd or chrony)")
    }

    private func dataDirectory(_ configuration: Configuration, _ unit: ServiceUnit?) -> [Finding] {
        let path = configuration.dataDirectory
        guard let status = FileStatus(path: path) else {
            return [
                Finding(
                    .permissions, code: "data_dir", severity: .problem, what: "data_dir \(path) is not there",
                    cause: "it does not exist, or this user may not look",
                    cure: "run 'milepost init' as root or as the daemon's user")
            ]
        }
        guard status.isDirectory, status.mode & 0o077 == 0 else {
            return [
                Finding(
                    .permissions, code: "data_dir_mode", severity: .problem, what: "data_dir \(path) is open to others",
                    cause: "its mode is \(String(status.mode, radix: 8)), or it is no folder",
                    cure: "chmod 0700 \(path)")
            ]
        }
        let database = path + "/milepost.db"
        let file = FileStatus(path: database)
        // Where the unit does not say who works here, a folder of root's was made by mistake if the database is another's.
        let user = unit?.user?.id ?? (status.owner == 0 ? file?.owner : nil) ?? status.owner
        if status.owner != user || file.map({ $0.owner != user }) == true {
            let fileOwner = file.map { ", \(database) to uid \($0.owner)" } ?? ""
            return [
                Finding(
                    .permissions, code: "data_dir_owner", severity: .problem,
                    what: "data_dir \(path) or its database is not the daemon's user's",
                    cause:
                        "\(path) belongs to uid \(status.owner)\(fileOwner); was the daemon or 'milepost init' run as "
                        + "another user?",
                    // With the colon its login group comes along.
                    cure: "chown -R \(Account(id: user).map { "\($0.name):" } ?? "\(user)") \(path)")
            ]
        }
        let found = [Finding(.permissions, code: "data_dir", severity: .ok, what: "data_dir \(path) is private")]
        guard FileStatus.isAbsent(database) else { return found }
        return found + [
            Finding(
                .daemon, code: "not_set_up", severity: .problem, what: "nothing is set up yet",
                cause: "there is no database \(database), and so no token",
                cure: "run 'milepost init' as root or as the daemon's user, or 'milepost restore' with a backup")
        ]
    }

    /// Who the daemon runs as: what the unit says, else the owner of data_dir.
    static func daemonUser(_ configuration: Configuration, _ unit: ServiceUnit?) -> UInt32? {
        unit?.user?.id ?? FileStatus(path: configuration.dataDirectory)?.owner
    }

    private func key(_ configuration: Configuration, _ unit: ServiceUnit?) -> [Finding] {
        let path = configuration.kms.path
        guard let status = FileStatus(path: path) else {
            return [
                Finding(
                    .key, code: "kek", severity: .problem, what: "the key ring \(path) is not there",
                    cause: "it does not exist, or this user may not look",
                    cure: FileStatus.isAbsent(configuration.dataDirectory + "/milepost.db")
                        ? "run 'milepost init', which makes one for a new installation"
                        : "restore it from its own backup; only if it is lost for good: 'milepostd --make-key', after which each "
                            + "integration has to be connected again")
            ]
        }
        guard status.isRegular, status.mode & 0o077 == 0 else {
            return [
                Finding(
                    .permissions, code: "kek_mode", severity: .problem,
                    what: "the key ring \(path) can be read by others",
                    cause: "its mode is \(String(status.mode, radix: 8))", cure: "chmod 0400 \(path)")
            ]
        }
        // With systemd the ring is a copy that belongs to root or to the daemon's user.
        if let user = Self.daemonUser(configuration, unit), status.owner != user,
            environment["CREDENTIALS_DIRECTORY"] == nil, !(status.owner == 0 && isHandedOn(path))
        {
            return [
                Finding(
                    .permissions, code: "kek_owner", severity: .problem,
                    what: "the daemon cannot read the key ring \(path)",
                    cause: "it belongs to uid \(status.owner), data_dir to uid \(user)",
                    cure: "let both belong to the daemon's user: chown \(user) \(path)")
            ]
        }
        if Self.isRing(path) == false {
            return [
                Finding(
                    .key, code: "kek_malformed", severity: .problem, what: "the key ring \(path) holds something else",
                    cause: "a ring has a line 'mpkek1 ID KEY TIME' for each key and nothing else",
                    cure: "restore it from its own backup; without it stored credentials are lost")
            ]
        }
        return [Finding(.key, code: "kek", severity: .ok, what: "the key ring \(path) is private")]
    }

    /// By its outward form; what opens what is for the daemon to say. Nil when this user may not read it. The bytes are
    /// wiped: they are keys.
    private static func isRing(_ path: String) -> Bool? {
        let descriptor = unsafe open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 16 << 10)
        let count = unsafe bytes.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
        let isRight = looksRight(bytes[..<max(0, count)])
        // No slice of them is left, so this is no copy.
        unsafe bytes.withUnsafeMutableBytes { unsafe explicit_bzero($0.baseAddress!, $0.count) }
        return isRight
    }

    private static func looksRight(_ ring: ArraySlice<UInt8>) -> Bool {
        let lines = ring.split(separator: 0x0A).filter { $0.first != 0x23 }
        return !lines.isEmpty
            && lines.allSatisfy { $0.starts(with: "mpkek1 ".utf8) && $0.split(separator: 0x20).count == 4 }
    }

    /// Whether an installed unit loads this file as a credential: systemd then reads it as root for the daemon.
    private func isHandedOn(_ path: String) -> Bool {
        let unit = UnitFile(name: "milepost.service", folders: unitFolders)
        return unit.settings("LoadCredential").contains("kek:\(path)")
    }

    private func plugins(_ configuration: Configuration, into unloadable: inout Set<String>) -> [Finding] {
        let names = configuration.plugins.filter(\.value.enabled).keys.sorted()
        var findings: [Finding] = []
        for name in names {
            let finding = plugin(name, in: configuration)
            if finding.severity == .problem { unloadable.insert(name) }
            findings.append(finding)
        }
        let needsWorker = configuration.plugins.values.contains { $0.enabled && $0.isolation == .worker }
        let worker = configuration.workerPath ?? "/usr/lib/milepost/milepost-plugin-worker"
        if needsWorker, unsafe access(worker, X_OK) != 0 {
            findings.append(
                Finding(
                    .plugins, code: "worker", severity: configuration.workerPath == nil ? .warning : .problem,
                    what: "the worker launcher \(worker) cannot be run",
                    cause: "it is not there, or not executable; the daemon also looks beside its own binary",
                    cure: "install the package, or set worker_path"))
        }
        return findings
    }

    private func plugin(_ name: String, in configuration: Configuration) -> Finding {
        let candidates = configuration.pluginDirectories.map { "\($0)/\(name).so" }
        guard let path = candidates.first(where: { FileStatus(path: $0) != nil }), let status = FileStatus(path: path)
        else {
            return Finding(
                .plugins, code: "plugin_missing", severity: .problem,
                what: "plugin \(name) is switched on and not installed",
                cause: "none of \(candidates.joined(separator: ", ")) is there",
                cure: "install its package, or set plugins.\(name).enabled: false")
        }
        guard FileStatus(path: path.dropLast(2) + "json") != nil else {
            return Finding(
                .plugins, code: "manifest_missing", severity: .problem, what: "plugin \(name) has no manifest",
                cause: "\(path.dropLast(2))json is not beside it", cure: "install the plugin's package again")
        }
        let dataOwner = FileStatus(path: configuration.dataDirectory)?.owner
        guard status.owner == 0 || status.owner == dataOwner, status.mode & 0o022 == 0 else {
            return Finding(
                .permissions, code: "plugin_untrusted", severity: .problem, what: "plugin \(name) would be refused",
                cause: "\(path) belongs to uid \(status.owner) with mode \(String(status.mode, radix: 8))",
                cure: "chown root \(path) && chmod 0644 \(path)")
        }
        return Finding(.plugins, code: "plugin", severity: .ok, what: "plugin \(name) is installed at \(path)")
    }

    private func space(_ configuration: Configuration) -> [Finding] {
        var volume = statvfs()
        guard unsafe statvfs(configuration.dataDirectory, &volume) == 0 else { return [] }
        let free = UInt64(volume.f_bavail) * UInt64(volume.f_frsize)
        guard free < UInt64(configuration.limits.leastFreeDisk) else {
            return [Finding(.disk, code: "disk_space", severity: .ok, what: "\(free >> 20) MiB are free for data_dir")]
        }
        return [
            Finding(
                .disk, code: "disk_space", severity: .problem, what: "only \(free >> 20) MiB are free for data_dir",
                cause:
                    "limits.least_free_disk is \(Units.text(bytes: configuration.limits.leastFreeDisk)), and clicks are "
                    + "refused once the disk is full",
                cure: "make room on the disk of \(configuration.dataDirectory), or shorten retention.clicks_days")
        ]
    }

    /// Nil for one that is taken.
    private func port(_ address: ListenAddress) -> Finding? {
        guard address.port > 0, let result = tryToBind(address) else {
            return Finding(
                .configuration, code: "port", severity: .ok, what: "\(address) is checked by the daemon itself")
        }
        switch result {
        case 0: return Finding(.configuration, code: "port", severity: .ok, what: "\(address) is free")
        case EADDRINUSE: return nil
        default:
            return Finding(
                .configuration, code: "port", severity: .problem, what: "\(address) cannot be used",
                cause: unsafe String(cString: strerror(result)),
                cure: "change 'listen'; ports below 1024 need a capability")
        }
    }

    /// errno of a bind that is undone at once, for an address of either family; nil for a name, which the daemon itself
    /// resolves when it starts.
    private func tryToBind(_ address: ListenAddress) -> Int32? {
        let host = address.host.hasPrefix("[") ? String(address.host.dropFirst().dropLast()) : address.host
        var hints = unsafe addrinfo()
        unsafe hints.ai_flags = AI_NUMERICHOST | AI_PASSIVE
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        guard unsafe getaddrinfo(host, String(address.port), &hints, &found) == 0, let first = unsafe found else {
            return nil
        }
        defer { unsafe freeaddrinfo(first) }
        let descriptor = unsafe socket(first.pointee.ai_family, first.pointee.ai_socktype, 0)
        guard descriptor >= 0 else { return errno }
        defer { close(descriptor) }
        // As the daemon does: connections of one that has just ended hold nobody up.
        var isReused: Int32 = 1
        _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &isReused, socklen_t(MemoryLayout<Int32>.size))
        let result = unsafe bind(descriptor, first.pointee.ai_addr, first.pointee.ai_addrlen)
        return result == 0 ? 0 : errno
    }
}
