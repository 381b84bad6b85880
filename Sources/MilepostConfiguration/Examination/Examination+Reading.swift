// SPDX-License-Identifier: Apache-2.0

/// Whether the daemon can read its configuration: root, who runs doctor, can read everything.
extension Examination {
    func unreadable(
        _ files: [String], of configuration: Configuration, _ unit: ServiceUnit?
    ) -> [Finding] {
        guard let user = Self.daemonUser(configuration, unit), user != 0 else { return [] }
        let account = Account(id: user)
        let reader = Reader(user: user, groups: (account?.groups ?? []).union(unit?.groups ?? []))
        var seen: Set<String> = []
        return files.flatMap(Self.way).compactMap { step in
            guard seen.insert(step.path).inserted, let status = FileStatus(path: step.path),
                !reader.may(step.bits, status)
            else { return nil }
            return Finding(
                .permissions, code: "configuration_unreadable", severity: .problem,
                what: "the daemon's user \(account?.name ?? "\(user)") cannot read \(step.path)",
                cause:
                    "it belongs to uid \(status.owner) with mode \(String(status.mode, radix: 8)), and a daemon that cannot "
                    + "read its configuration ends with status 78",
                cure: "chmod a+\(step.bits == 0o4 ? "r" : "rx") \(step.path)")
        }
    }

    private struct Step {
        var path: String
        /// What is needed of `rwx`.
        var bits: UInt32
    }

    /// The folders down to a file, and the file. `conf.d` is listed, the others are only passed through.
    private static func way(to file: String) -> [Step] {
        var steps: [Step] = []
        for index in file.indices.dropFirst() where file[index] == "/" {
            let folder = String(file[..<index])
            steps.append(Step(path: folder, bits: folder.hasSuffix("/conf.d") ? 0o5 : 0o1))
        }
        return steps + [Step(path: file, bits: 0o4)]
    }

    private struct Reader {
        var user: UInt32
        var groups: Set<UInt32>

        /// By the mode alone, as nearly everybody does it: access lists are not looked at.
        func may(_ bits: UInt32, _ status: FileStatus) -> Bool {
            let shift: UInt32 = status.owner == user ? 6 : groups.contains(status.group) ? 3 : 0
            return status.mode >> shift & bits == bits
        }
    }
}
