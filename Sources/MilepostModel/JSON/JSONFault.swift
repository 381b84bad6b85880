// SPDX-License-Identifier: Apache-2.0

/// Why a JSON text was not taken, and where. Carries no text, so that throwing it costs nothing; the sentence is made
/// only for the faults that are reported.
package struct JSONFault: Error, Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
        case endOfInput, unexpectedByte(UInt8), controlCharacter, trailingData
        case invalidUTF8, invalidEscape, loneSurrogate, nulCharacter
        case invalidNumber, numberOutOfRange
        case duplicateKey
        case tooDeep(Int), tooManyMembers(Int), stringTooLong(Int)
    }
    package let kind: Kind
    /// Byte offset in the text that was scanned.
    package let offset: Int

    package init(_ kind: Kind, at offset: Int) {
        self.kind = kind
        self.offset = offset
    }

    /// Stable: appears in REST answers and docs.
    package var code: String {
        switch kind {
        case .endOfInput, .unexpectedByte, .controlCharacter, .invalidNumber: "invalid_json"
        case .trailingData: "trailing_data"
        case .invalidUTF8: "invalid_utf8"
        case .invalidEscape, .loneSurrogate: "invalid_escape"
        case .nulCharacter: "nul_character"
        case .numberOutOfRange: "number_out_of_range"
        case .duplicateKey: "duplicate_key"
        case .tooDeep: "too_deep"
        case .tooManyMembers: "too_many_members"
        case .stringTooLong: "string_too_long"
        }
    }

    /// Whether the text may still be JSON: a reader of an array can then skip this element and go on. After any other
    /// fault nobody knows where the next element begins.
    package var isOfSizeOnly: Bool {
        switch kind {
        case .duplicateKey, .tooDeep, .tooManyMembers, .stringTooLong, .numberOutOfRange, .nulCharacter: true
        case .endOfInput, .unexpectedByte, .controlCharacter, .trailingData, .invalidUTF8, .invalidEscape,
            .loneSurrogate, .invalidNumber:
            false
        }
    }

    /// For the sender; columns count bytes from 1.
    package var message: String {
        let what =
            switch kind {
            case .endOfInput: "the text ends inside a value"
            case .unexpectedByte(let byte): "\(Self.name(byte)) does not belong here"
            case .controlCharacter: "a control character inside text must be escaped"
            case .trailingData: "something follows the end of the value"
            case .invalidUTF8: "not valid UTF-8"
            case .invalidEscape: "not a JSON escape"
            case .loneSurrogate: "half of a surrogate pair stands alone"
            case .nulCharacter: "a NUL character is never taken"
            case .invalidNumber: "not a JSON number"
            case .numberOutOfRange: "the number is out of range"
            case .duplicateKey: "the key appears twice in one object"
            case .tooDeep(let limit): "nested deeper than \(limit) levels"
            case .tooManyMembers(let limit): "an object with more than \(limit) members"
            case .stringTooLong(let limit): "a text of more than \(limit) bytes"
            }
        return "column \(offset + 1): \(what)"
    }

    private static func name(_ byte: UInt8) -> String {
        (0x21...0x7e).contains(byte) ? "'\(Character(Unicode.Scalar(byte)))'" : "byte 0x\(String(byte, radix: 16))"
    }
}
