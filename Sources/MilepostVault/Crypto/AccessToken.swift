// SPDX-License-Identifier: Apache-2.0

/// A REST token as it is stored: its SHA-256.
///
/// A token has 256 random bits, so there is nothing to guess and a slow hash would only slow every request down. The
/// hash finds the row (it may be an index) and is compared in constant time.
public struct TokenHash: Hashable, Sendable {
    public let bytes: [UInt8]

    public init(of token: String) { bytes = Digest.sha256(Array(token.utf8)) }

    /// - Returns: nil unless there are exactly 32 bytes.
    public init?(bytes: [UInt8]) {
        guard bytes.count == Digest.byteCount else { return nil }
        self.bytes = bytes
    }

    /// Constant time.
    public func matches(_ token: String) -> Bool { Digest.isEqual(bytes, TokenHash(of: token).bytes) }

    public var hex: String { Digest.hex(bytes) }
}

/// A fresh REST token. Shown once, never stored: the store keeps `hash`.
public struct AccessToken: Sendable, CustomStringConvertible, CustomReflectable {
    /// Finds leaked tokens in other people's repositories and logs; `mpt_` and 43 characters of base64url.
    public static let prefix = "mpt_"
    static let randomByteCount = 32

    /// The token in clear, for the one who asked for it.
    public let text: String
    public var hash: TokenHash { TokenHash(of: text) }

    public static func generate(random: any SecureRandomSource) throws(VaultError) -> AccessToken {
        AccessToken(text: prefix + Base64.encodeURL(try random.bytes(randomByteCount)))
    }

    /// Whether `text` has a token's form; says nothing about whether it is one.
    public static func isWellFormed(_ text: String) -> Bool {
        let body = text.utf8.dropFirst(prefix.utf8.count)
        return text.hasPrefix(prefix) && body.count == 43 && body.allSatisfy(Base64.isURLDigit)
    }

    public var description: String { "\(Self.prefix)<secret>" }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
