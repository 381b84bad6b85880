// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Asks the person at the terminal; questions go to standard error, so that standard output stays the answer's.
public enum Prompt {
    public static var isPossible: Bool { isatty(STDIN_FILENO) == 1 }

    public static func say(_ text: String) {
        let bytes = Array(text.utf8)
        _ = unsafe bytes.withUnsafeBytes { unsafe write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    /// One line; nil at the end of input.
    public static func line(_ question: String) -> String? {
        say(question)
        return readLine(strippingNewline: true)
    }

    /// One line that is not shown while it is typed; nil at the end of input.
    ///
    /// The terminal hands over each key, the interrupt too: a signal would end the command with the terminal left silent.
    public static func secret(_ question: String) -> String? {
        say(question)
        var before = termios()
        guard unsafe tcgetattr(STDIN_FILENO, &before) == 0 else { return readLine(strippingNewline: true) }
        var silent = before
        silent.c_lflag &= ~tcflag_t(ECHO | ICANON | ISIG)
        unsafe tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent)
        let (typed, isInterrupted) = keys()
        unsafe tcsetattr(STDIN_FILENO, TCSAFLUSH, &before)
        say("\n")
        if isInterrupted { raise(SIGINT) }
        return typed
    }

    /// Bytes of a line without its end.
    private static let longestSecret = 65_536

    private static func keys() -> (typed: String?, isInterrupted: Bool) {
        var line: [UInt8] = []
        var key: UInt8 = 0
        while unsafe read(STDIN_FILENO, &key, 1) == 1 {
            switch key {
            case 0x03, 0x1c: return (nil, true)  // Ctrl-C, Ctrl-\
            case 0x04: return (line.isEmpty ? nil : String(decoding: line, as: UTF8.self), false)
            case 0x0a, 0x0d: return (String(decoding: line, as: UTF8.self), false)
            case 0x08, 0x7f: _ = line.popLast()
            case 0x15: line = []  // Ctrl-U
            default: if line.count < longestSecret { line.append(key) }
            }
        }
        return (nil, false)
    }

    /// A choice from a numbered list; nil when nothing was chosen.
    ///
    /// - Parameter suggested: is marked, and taken when the person only presses Enter.
    public static func choose(_ title: String, _ labels: [String], suggested: Int? = nil) -> Int? {
        say(
            labels.enumerated().map { index, label in
                "  \(index + 1)) \(Terminal.harmless(label))\(index == suggested ? "   (suggested: press Enter)" : "")\n"
            }.joined())
        for _ in 0..<5 {
            guard let text = line("\(title) [1-\(labels.count)]: ") else { return nil }
            if text.isEmpty, let suggested { return suggested }
            if let number = Int(text), labels.indices.contains(number - 1) { return number - 1 }
        }
        return nil
    }
}
