// SPDX-License-Identifier: Apache-2.0

private import CYAML

/// What the system's libyaml reads in a text, one piece after the other. Owns the parser and a copy of the text; used by one
/// thread at a time.
@safe struct YAMLEvents: ~Copyable {
    /// A piece of a document; lines count from 1.
    enum Event {
        case scalar(String, isQuoted: Bool, line: Int)
        case listStart(line: Int)
        case mapStart(line: Int)
        case alias(line: Int)
        /// A list's or a map's end.
        case end
        case documentStart(line: Int)
        case documentEnd
        case textEnd

        /// Nil for what has no place of its own.
        var line: Int? {
            switch self {
            case .scalar(_, _, let line), .listStart(let line), .mapStart(let line), .alias(let line),
                .documentStart(let line):
                line
            case .end, .documentEnd, .textEnd: nil
            }
        }
    }

    /// Why libyaml could not go on.
    struct Failure: Error {
        /// Nil where libyaml knows none.
        let line: Int?
        let problem: String
    }

    private let parser: UnsafeMutablePointer<yaml_parser_t>
    private let text: UnsafeMutableBufferPointer<UInt8>

    /// - Parameter text: UTF-8.
    init(_ text: [UInt8]) throws(Failure) {
        unsafe self.text = .allocate(capacity: text.count)
        _ = unsafe self.text.initialize(from: text)
        unsafe parser = .allocate(capacity: 1)
        unsafe parser.initialize(to: yaml_parser_t())
        guard unsafe yaml_parser_initialize(parser) == 1 else {
            throw Failure(line: nil, problem: "no memory is left for reading it")
        }
        unsafe yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
        unsafe yaml_parser_set_input_string(parser, self.text.baseAddress, text.count)
    }

    deinit {
        unsafe yaml_parser_delete(parser)
        unsafe parser.deallocate()
        unsafe text.deallocate()
    }

    /// The next piece; `.textEnd` is the last.
    mutating func next() throws(Failure) -> Event {
        while true {
            var event = unsafe yaml_event_t()
            guard unsafe yaml_parser_parse(parser, &event) == 1 else { throw failure() }
            defer { unsafe yaml_event_delete(&event) }
            if let found = unsafe Self.event(event) { return found }
        }
    }

    /// Nil for a piece that says nothing about the content.
    private static func event(_ event: yaml_event_t) -> Event? {
        let line = unsafe event.start_mark.line + 1
        switch unsafe event.type {
        case YAML_SCALAR_EVENT:
            let scalar = unsafe event.data.scalar
            let bytes = unsafe UnsafeBufferPointer(start: scalar.value, count: scalar.length)
            let isQuoted = unsafe [YAML_SINGLE_QUOTED_SCALAR_STYLE, YAML_DOUBLE_QUOTED_SCALAR_STYLE]
                .contains(scalar.style)
            return unsafe .scalar(String(decoding: bytes, as: UTF8.self), isQuoted: isQuoted, line: line)
        case YAML_SEQUENCE_START_EVENT: return .listStart(line: line)
        case YAML_MAPPING_START_EVENT: return .mapStart(line: line)
        case YAML_ALIAS_EVENT: return .alias(line: line)
        case YAML_SEQUENCE_END_EVENT, YAML_MAPPING_END_EVENT: return .end
        case YAML_DOCUMENT_START_EVENT: return .documentStart(line: line)
        case YAML_DOCUMENT_END_EVENT: return .documentEnd
        case YAML_STREAM_END_EVENT, YAML_NO_EVENT: return .textEnd
        default: return nil
        }
    }

    private func failure() -> Failure {
        let problem = unsafe parser.pointee.problem.map { unsafe String(cString: $0) } ?? "it cannot be read"
        // The reader knows an offset only.
        let hasMark = unsafe parser.pointee.error == YAML_SCANNER_ERROR || parser.pointee.error == YAML_PARSER_ERROR
        return unsafe Failure(line: hasMark ? parser.pointee.problem_mark.line + 1 : nil, problem: problem)
    }
}
