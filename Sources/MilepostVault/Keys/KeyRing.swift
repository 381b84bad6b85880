// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Key-encryption keys by id, in the order they were added; the last one is current.
///
/// As text, a line each: `mpkek1 <id> <base64 of 32 bytes> <created, RFC 3339>`; empty lines and lines that begin with `#` are
/// skipped. Keys go between file and locked memory without passing through a `String` or an array.
public struct KeyRing: Sendable {
    /// One rotation a month fills it in five years; old keys are dropped after the re-wrap anyway.
    public static let maximumKeyCount = 64
    public static let maximumFileByteCount = 16 * 1024
    static let lineLabel = "mpkek1"

    public struct Key: Sendable {
        public let id: String
        /// For the operator only.
        public let created: Timestamp
        let bytes: SecretBytes
    }

    public private(set) var keys: [Key]

    public var current: Key { keys[keys.count - 1] }

    public func key(_ id: String) -> Key? { keys.first { $0.id == id } }

    /// A ring of one fresh key.
    public init(createdAt time: Timestamp, random: any SecureRandomSource) throws(VaultError) {
        keys = []
        try add(createdAt: time, random: random)
    }

    /// Adds a fresh key, which becomes current.
    public mutating func add(createdAt time: Timestamp, random: any SecureRandomSource) throws(VaultError) {
        guard keys.count < Self.maximumKeyCount else {
            throw VaultError(
                .limitExceeded,
                "the key ring holds \(keys.count) keys, the most it takes: drop old ones with milepost keys drop")
        }
        let id = "kek-\(time.day)-\(Digest.hex(try random.bytes(4)))"
        guard key(id) == nil else { throw VaultError(.systemFailure, "the random source repeats itself: \(id) exists") }
        let bytes = try SecretBytes(count: AuthenticatedCipher.keyByteCount, random: random)
        keys.append(Key(id: id, created: time, bytes: bytes))
    }

    public mutating func drop(_ id: String) throws(VaultError) {
        guard key(id) != nil else {
            throw VaultError(
                .keyUnknown, "the key ring has no key \(id): it has \(keys.map(\.id).joined(separator: ", "))")
        }
        guard current.id != id else {
            throw VaultError(.keyInUse, "\(id) is the current key: make a new one first with milepost keys new")
        }
        keys.removeAll { $0.id == id }
    }

    // MARK: Text

    /// - Parameter origin: names the file in errors, which give the line and never its content.
    init(parsing text: SecretBytes, origin: String) throws(VaultError) {
        keys = []
        try unsafe text.withBytes { (text: UnsafeRawBufferPointer) throws(VaultError) in
            var number = 0
            var rest = unsafe text[...]
            while unsafe !rest.isEmpty {
                number += 1
                let end = unsafe rest.firstIndex(of: UInt8(ascii: "\n")) ?? rest.endIndex
                let line = unsafe UnsafeRawBufferPointer(rebasing: rest[..<end])
                unsafe rest = rest[min(end + 1, rest.endIndex)...]
                do throws(LineError) {
                    guard let key = try unsafe Self.parse(line) else { continue }
                    guard self.key(key.id) == nil else { throw LineError("the id \(key.id) is there twice") }
                    guard keys.count < Self.maximumKeyCount else { throw LineError("more than \(keys.count) keys") }
                    keys.append(key)
                } catch {
                    throw error.cause
                        ?? VaultError(
                            .keyRingMalformed,
                            "the key ring \(origin) is damaged, line \(number): \(error.reason); restore it from where you "
                                + "keep a copy")
                }
            }
        }
        guard !keys.isEmpty else {
            throw VaultError(.keyRingMalformed, "\(origin) holds no key: restore it from where you keep a copy")
        }
    }

    private struct LineError: Error {
        let reason: String
        var cause: VaultError?
        init(_ reason: String, cause: VaultError? = nil) {
            self.reason = reason
            self.cause = cause
        }
    }

    private static func parse(_ line: UnsafeRawBufferPointer) throws(LineError) -> Key? {
        guard let first = unsafe line.first, first != UInt8(ascii: "#") else { return nil }
        let fields = unsafe line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
        guard unsafe fields.count == 4, unsafe fields[0].elementsEqual(lineLabel.utf8) else {
            throw LineError("expected '\(lineLabel) <id> <base64 of 32 bytes> <created>'")
        }
        guard unsafe isID(fields[1]) else { throw LineError("a key's id has 1 to 64 of a-z, 0-9, - and _") }
        guard unsafe fields[3].count <= 40,
            let created = unsafe Timestamp(rfc3339: String(decoding: fields[3], as: UTF8.self))
        else {
            throw LineError("the fourth field is the time of creation, like 2026-01-31T12:00:00Z")
        }
        let id = unsafe String(decoding: fields[1], as: UTF8.self)
        var isDecoded = false
        let bytes: SecretBytes
        do throws(VaultError) {
            bytes = try unsafe SecretBytes(count: AuthenticatedCipher.keyByteCount) { room in
                isDecoded = unsafe Base64.decode(UnsafeRawBufferPointer(rebasing: fields[2]), into: room)
            }
        } catch {
            throw LineError("", cause: error)
        }
        guard isDecoded else { throw LineError("the key \(id) is not 32 bytes in base64") }
        return Key(id: id, created: created, bytes: bytes)
    }

    private static func isID(_ field: Slice<UnsafeRawBufferPointer>) -> Bool {
        unsafe (1...64).contains(field.count)
            && field.allSatisfy {
                (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2d || $0 == 0x5f
            }
    }

    func serialized() throws(VaultError) -> SecretBytes {
        let encodedCount = Base64.encodedCount(AuthenticatedCipher.keyByteCount)
        let heading = "# Milepost key-encryption keys; the last one is current. Keep a copy apart from the data.\n"
        let lines = keys.map { (head: "\(Self.lineLabel) \($0.id) ", key: $0.bytes, tail: " \($0.created)\n") }
        let count = lines.reduce(heading.utf8.count) { $0 + $1.head.utf8.count + encodedCount + $1.tail.utf8.count }
        return try unsafe SecretBytes(count: count) { room in
            var position = 0
            func append(_ text: String) {
                for byte in text.utf8 {
                    unsafe room[position] = byte
                    position += 1
                }
            }
            append(heading)
            for line in lines {
                append(line.head)
                unsafe line.key.withBytes {
                    unsafe Base64.encode(
                        $0, into: UnsafeMutableRawBufferPointer(rebasing: room[position..<position + encodedCount]))
                }
                position += encodedCount
                append(line.tail)
            }
        }
    }
}
