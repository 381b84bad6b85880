// SPDX-License-Identifier: Apache-2.0

/// Looks over YAML text before libyaml does: anchors and aliases are refused with their line, and nesting is bounded before
/// the parser keeps a state for each level. libyaml follows no alias, so nothing grows with those that are missed here.
///
/// Errs towards refusing: text that begins with `*` or `&` inside a block scalar is refused too, and quoting it helps.
struct DocumentScan {
    enum Finding: Equatable {
        case alias(line: Int)
        case tooDeep(line: Int)
    }

    /// Nesting a configuration may have; the deepest legal key lies at 5.
    static let maximumDepth = 32

    private enum Quote { case none, single, double }
    private var line = 1
    private var quote = Quote.none
    /// A quote right behind it goes on with the text: `'it''s'`.
    private var hasJustClosed = false
    private var brackets = 0
    private var indicators = 0
    /// The last byte that was no blank on this line: decides whether a token may begin here.
    private var previous: UInt8 = 0x0a
    private var before: UInt8 = 0x0a

    static func firstFinding(in bytes: some Collection<UInt8>) -> Finding? {
        var scan = DocumentScan()
        var isComment = false
        var isEscaped = false
        for byte in bytes {
            if byte == 0x0a || byte == 0x0d {
                if byte == 0x0a { scan.line += 1 }
                isComment = false
                isEscaped = false
                scan.startLine()
            } else if isComment {
                continue
            } else if isEscaped {
                isEscaped = false
            } else if scan.quote == .double && byte == 0x5c {
                isEscaped = true
            } else if scan.quote == .none && byte == 0x23 && scan.isBlank(scan.before) {
                isComment = true
            } else if let finding = scan.take(byte) {
                return finding
            }
            scan.before = byte
        }
        return nil
    }

    private mutating func startLine() {
        if quote == .none { previous = 0x0a }
        indicators = 0
    }

    private func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d }

    /// A token may begin at the line's start and after `- `, `? `, `: `, an opening bracket or a comma between brackets.
    private var mayBeginToken: Bool {
        switch previous {
        case 0x0a, 0x5b, 0x7b: true  // line start [ {
        case 0x2d, 0x3f, 0x3a: isBlank(before) || brackets > 0  // - ? :
        case 0x2c: brackets > 0
        default: false
        }
    }

    private mutating func take(_ byte: UInt8) -> Finding? {
        defer { if !isBlank(byte) { previous = byte } }
        let goesOn = hasJustClosed && byte == 0x27
        hasJustClosed = false
        switch quote {
        case .single:
            if byte == 0x27 {
                quote = .none
                hasJustClosed = true
            }
            return nil
        case .double:
            if byte == 0x22 { quote = .none }
            return nil
        case .none where goesOn:
            quote = .single
            return nil
        case .none: break
        }
        guard !isBlank(byte) else { return nil }
        if brackets > 0, byte == 0x5d || byte == 0x7d { brackets -= 1 }
        guard mayBeginToken else { return nil }
        switch byte {
        case 0x27: quote = .single
        case 0x22: quote = .double
        case 0x2a, 0x26: return .alias(line: line)
        case 0x5b, 0x7b: brackets += 1
        case 0x2d, 0x3f: indicators += 1
        default: break
        }
        return brackets + indicators > Self.maximumDepth ? .tooDeep(line: line) : nil
    }
}
