// SPDX-License-Identifier: Apache-2.0

/// Compares what a plugin did in two runs: in two modes, or in two time zones.
package enum Transcript {
    /// A line in its words, with what stands between them; times and identifiers are one word each.
    package static func words(_ line: String) -> [Substring] {
        var words: [Substring] = []
        var rest = line[...]
        while let first = rest.first {
            let isWord = isPart(first)
            let word = rest.prefix { isPart($0) == isWord }
            words.append(word)
            rest = rest[word.endIndex...]
        }
        return words
    }

    private static func isPart(_ character: Character) -> Bool {
        character.isLetter || character.isNumber || "-:.+_".contains(character)
    }

    /// Where the second run did something else than the first, in a sentence. A word may differ where it differs between the
    /// first and others of its kind as well; the number of lines and of words may not.
    package static func difference(
        _ first: [[Substring]], _ second: [[Substring]], _ others: [[[Substring]]],
        named names: (String, String) = ("inline", "in a worker")
    ) -> String? {
        func shown(_ line: [Substring]) -> String { String(line.joined().prefix(240)) }
        for (number, (line, other)) in zip(first, second).enumerated() where line != other {
            let again = others.compactMap { $0.indices.contains(number) ? $0[number] : nil }
            let isSame =
                line.count == other.count
                && line.indices.allSatisfy { place in
                    line[place] == other[place]
                        || again.contains { $0.count == line.count && $0[place] != line[place] }
                }
            if !isSame { return "\(names.0): \(shown(line)) … \(names.1): \(shown(other))" }
        }
        guard first.count == second.count else {
            return "\(first.count) calls \(names.0), \(second.count) \(names.1)"
        }
        return nil
    }
}
