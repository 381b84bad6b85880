// SPDX-License-Identifier: Apache-2.0

/// Writes `Encodable` types into a `JSONValue`. nil members are left out, as the standard library's defaults do.
struct JSONValueEncoder: Encoder {
    /// What is being built. A class, because containers outlive the call that made them and write into one place.
    final class Slot {
        var value: JSONValue?
        var members: [String: Slot]?
        var elements: [Slot]?

        /// What has been written; nothing at all is an empty object, as an empty struct writes none.
        var built: JSONValue {
            if let value { return value }
            if let elements { return .array(elements.map { $0.built }) }
            return .object((members ?? [:]).mapValues { $0.built })
        }
    }

    let slot: Slot
    var codingPath: [any CodingKey] = []
    let userInfo: [CodingUserInfoKey: Any] = [:]

    static func encode(_ value: some Encodable) throws -> JSONValue {
        let slot = Slot()
        try JSONValueEncoder(slot: slot).store(value)
        return slot.built
    }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        if slot.members == nil { slot.members = [:] }
        return KeyedEncodingContainer(KeyedWriter<Key>(slot: slot, codingPath: codingPath))
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        if slot.elements == nil { slot.elements = [] }
        return UnkeyedWriter(slot: slot, codingPath: codingPath)
    }

    func singleValueContainer() -> any SingleValueEncodingContainer { self }

    fileprivate func store<Value: Encodable>(_ value: Value) throws {
        if let value = value as? JSONValue { slot.value = value } else { try value.encode(to: self) }
    }
}

extension JSONValueEncoder: SingleValueEncodingContainer {
    func encodeNil() throws { slot.value = .null }
    func encode(_ value: Bool) throws { slot.value = .bool(value) }
    func encode(_ value: String) throws { slot.value = .string(value) }
    func encode(_ value: Double) throws { slot.value = .double(value) }
    func encode(_ value: Float) throws { slot.value = .double(Double(value)) }
    func encode(_ value: Int) throws { slot.value = .int(Int64(value)) }
    func encode(_ value: Int8) throws { slot.value = .int(Int64(value)) }
    func encode(_ value: Int16) throws { slot.value = .int(Int64(value)) }
    func encode(_ value: Int32) throws { slot.value = .int(Int64(value)) }
    func encode(_ value: Int64) throws { slot.value = .int(value) }
    func encode(_ value: UInt) throws { store(unsigned: UInt64(value)) }
    func encode(_ value: UInt8) throws { slot.value = .int(Int64(value)) }
    func encode(_ value: UInt16) throws { slot.value = .int(Int64(value)) }
    func encode(_ value: UInt32) throws { slot.value = .int(Int64(value)) }
    func encode(_ value: UInt64) throws { store(unsigned: value) }
    func encode<Value: Encodable>(_ value: Value) throws { try store(value) }

    private func store(unsigned value: UInt64) {
        slot.value = Int64(exactly: value).map { .int($0) } ?? .double(Double(value))
    }
}

private struct KeyedWriter<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let slot: JSONValueEncoder.Slot
    let codingPath: [any CodingKey]

    func encodeNil(forKey key: Key) throws { nested(key).slot.value = .null }
    func encode<Value: Encodable>(_ value: Value, forKey key: Key) throws { try nested(key).store(value) }
    func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type, forKey key: Key)
        -> KeyedEncodingContainer<Nested>
    { nested(key).container(keyedBy: type) }
    func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer { nested(key).unkeyedContainer() }
    func superEncoder() -> any Encoder { JSONValueEncoder(slot: slot, codingPath: codingPath) }
    func superEncoder(forKey key: Key) -> any Encoder { nested(key) }

    private func nested(_ key: Key) -> JSONValueEncoder {
        let member = JSONValueEncoder.Slot()
        slot.members?[key.stringValue] = member
        return JSONValueEncoder(slot: member, codingPath: codingPath + [key])
    }
}

private struct UnkeyedWriter: UnkeyedEncodingContainer {
    let slot: JSONValueEncoder.Slot
    let codingPath: [any CodingKey]
    var count: Int { slot.elements?.count ?? 0 }

    func encodeNil() throws { nested().slot.value = .null }
    func encode<Value: Encodable>(_ value: Value) throws { try nested().store(value) }
    func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) -> KeyedEncodingContainer<Nested> {
        nested().container(keyedBy: type)
    }
    func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { nested().unkeyedContainer() }
    func superEncoder() -> any Encoder { nested() }

    private func nested() -> JSONValueEncoder {
        let element = JSONValueEncoder.Slot()
        slot.elements?.append(element)
        return JSONValueEncoder(slot: element, codingPath: codingPath)
    }
}
