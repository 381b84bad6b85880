// SPDX-License-Identifier: Apache-2.0

import Glibc

/// A program that is run to its end for what it prints. Not Foundation's `Process`, which would bring all of Foundation and
/// ICU's data into the command line: ten times its size.
enum ChildProgram {
    struct Outcome {
        /// The exit status; 128 and the signal's number where a signal ended it, as a shell says it.
        let status: Int32
        /// Everything from standard output. Standard input and standard error are this program's own.
        let output: [UInt8]
    }

    /// Blocks until it has ended.
    /// - Throws: `no_daemon` when it cannot be started.
    static func run(
        _ path: String, _ arguments: [String], environment: [String: String]
    ) throws(ClientError) -> Outcome {
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe(&ends) == 0 else { throw failure(path, errno) }
        defer { close(ends[0]) }
        // The command line has one thread: nobody starts a program in between.
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        unsafe posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        let words = CStrings([path] + arguments)
        let settings = CStrings(environment.map { "\($0.key)=\($0.value)" })
        var child: pid_t = 0
        let error = unsafe posix_spawn(&child, path, &actions, nil, words.pointers, settings.pointers)
        close(ends[1])
        guard error == 0 else { throw failure(path, error) }
        let output = everything(from: ends[0])
        var status: Int32 = 0
        while unsafe waitpid(child, &status, 0) < 0 && errno == EINTR {}
        let signal = status & 0x7f
        return Outcome(status: signal == 0 ? (status >> 8) & 0xff : 128 + signal, output: output)
    }

    private static func everything(from descriptor: Int32) -> [UInt8] {
        var output: [UInt8] = []
        var room = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = unsafe read(descriptor, &room, room.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return output }
            output += room.prefix(count)
        }
    }

    private static func failure(_ path: String, _ reason: Int32) -> ClientError {
        ClientError(code: "no_daemon", detail: "\(path) cannot be started (error \(reason))")
    }

    /// Words as C takes them, ended by a null.
    @safe private final class CStrings {
        let pointers: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
        private let count: Int

        init(_ words: [String]) {
            count = words.count
            unsafe pointers = .allocate(capacity: words.count + 1)
            for (index, word) in words.enumerated() {
                unsafe (pointers + index).initialize(to: strdup(word))
            }
            unsafe (pointers + words.count).initialize(to: nil)
        }

        deinit {
            for index in 0..<count { unsafe free(pointers[index]) }
            unsafe pointers.deallocate()
        }
    }
}
