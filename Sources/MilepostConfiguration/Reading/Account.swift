// SPDX-License-Identifier: Apache-2.0

import Glibc

/// A user of this machine, as its lists of users and groups say.
package struct Account: Sendable, Hashable {
    package let id: UInt32
    /// The login group.
    package let group: UInt32
    package let name: String

    /// - Parameter name: a name or a number, as in a unit's `User=`. Nil when nobody is called so.
    package init?(named name: String) {
        if let id = UInt32(name) {
            self.init(id: id)
        } else {
            unsafe self.init { unsafe getpwnam_r(name, $0, $1.baseAddress!, $1.count, $2) }
        }
    }

    /// Nil when nobody has the number.
    package init?(id: UInt32) {
        unsafe self.init { unsafe getpwuid_r(id, $0, $1.baseAddress!, $1.count, $2) }
    }

    private static let longestEntry = 64 << 10

    private init?(
        _ look: (
            UnsafeMutablePointer<passwd>, UnsafeMutableBufferPointer<CChar>,
            UnsafeMutablePointer<UnsafeMutablePointer<passwd>?>
        ) -> Int32
    ) {
        var entry = unsafe passwd()
        var found: UnsafeMutablePointer<passwd>?
        var room = [CChar](repeating: 0, count: Self.longestEntry)
        // The entry's texts lie in the room.
        let name: String? = unsafe room.withUnsafeMutableBufferPointer { room in
            guard unsafe look(&entry, room, &found) == 0, unsafe found != nil, let name = unsafe entry.pw_name else {
                return nil
            }
            return unsafe String(cString: name)
        }
        guard let name else { return nil }
        self.name = name
        id = unsafe entry.pw_uid
        group = unsafe entry.pw_gid
    }

    /// The login group and all others that the lists have this user in.
    var groups: Set<UInt32> {
        var groups = [gid_t](repeating: 0, count: 1024)
        var count = Int32(groups.count)
        guard unsafe getgrouplist(name, group, &groups, &count) >= 0 else { return [group] }
        return Set(groups.prefix(Int(count)))
    }

    /// - Parameter name: a name or a number, as in a unit's `Group=`.
    static func group(named name: String) -> UInt32? {
        if let id = UInt32(name) { return id }
        var entry = unsafe Glibc.group()
        var found: UnsafeMutablePointer<Glibc.group>?
        var room = [CChar](repeating: 0, count: longestEntry)
        let status = unsafe room.withUnsafeMutableBufferPointer {
            unsafe getgrnam_r(name, &entry, $0.baseAddress!, $0.count, &found)
        }
        return unsafe status == 0 && found != nil ? entry.gr_gid : nil
    }
}
