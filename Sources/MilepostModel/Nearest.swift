// SPDX-License-Identifier: Apache-2.0

/// The word that a mistyped one most likely means.
public enum Nearest {
    /// - Returns: the candidate with the fewest edits, nil when even that one differs in more than half its letters
    ///   (two letters of a short word, so that `lgo` finds `log`).
    public static func match(for word: String, among candidates: some Sequence<String>) -> String? {
        let word = word.prefix(128).lowercased()
        let ranked = candidates.map { (name: $0, distance: distance(word, $0.lowercased())) }
        guard let best = ranked.min(by: { ($0.distance, $0.name) < ($1.distance, $1.name) }) else { return nil }
        let longest = max(best.name.count, word.count)
        return best.distance < longest && best.distance <= max(2, longest / 2) ? best.name : nil
    }

    /// Levenshtein's distance: insertions, deletions and replacements, one each.
    static func distance(_ left: String, _ right: String) -> Int {
        let right = Array(right)
        var row = Array(0...right.count)
        for (i, letter) in left.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for j in right.indices {
                let replaced = diagonal + (letter == right[j] ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = min(replaced, row[j] + 1, diagonal + 1)
            }
        }
        return row[right.count]
    }
}
