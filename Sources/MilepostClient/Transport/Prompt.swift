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

    /// One line that is not shown while it is typed.
    public static func secret(_ question: String) -> String? {
        say(question)
        var before = termios()
        guard unsafe tcgetattr(STDIN_FILENO, &before) == 0 else { return readLine(strippingNewline: true) }
        var silent = before
        silent.c_lflag &= ~tcflag_t(ECHO)
        unsafe tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent)
        defer {
            unsafe tcsetattr(STDIN_FILENO, TCSAFLUSH, &before)
            say("\n")
        }
        return readLine(strippingNewline: true)
    }

    /// A choice from a numbered list; nil when nothing was chosen.
    public static func choose(_ title: String, _ labels: [String]) -> Int? {
        say(labels.enumerated().map { "  \($0 + 1)) \(Terminal.harmless($1))\n" }.joined())
        for _ in 0..<5 {
            guard let text = line("\(title) [1-\(labels.count)]: ") else { return nil }
            if let number = Int(text), labels.indices.contains(number - 1) { return number - 1 }
        }
        return nil
    }
}
