// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Rows under headings, as wide as their widest cell.
public struct Table: Sendable {
    private let headings: [String]
    private var rows: [[String]] = []
    /// The column whose words are states and take their colour.
    private let stateColumn: Int?

    public init(_ headings: [String], stateColumn: Int? = nil) {
        self.headings = headings
        self.stateColumn = stateColumn
    }

    public mutating func add(_ cells: [String]) { rows.append(cells.map { Terminal.harmless($0) }) }

    public func text(_ terminal: Terminal) -> String {
        guard !rows.isEmpty else { return "" }
        let widths = headings.indices.map { column in
            ([headings] + rows).map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
        }
        func line(_ cells: [String], colour: (Int) -> Terminal.Colour?) -> String {
            var text = ""
            for (column, cell) in cells.enumerated() {
                let isLast = column == cells.count - 1
                let padding = isLast ? "" : String(repeating: " ", count: widths[column] - cell.count + 2)
                text += terminal.paint(cell, colour(column)) + padding
            }
            return text
        }
        let body = rows.map { row in
            line(row) { $0 == stateColumn ? Terminal.colour(ofState: row[$0]) : nil }
        }
        return ([line(headings.map { $0.uppercased() }) { _ in .grey }] + body).joined(separator: "\n")
    }
}

extension JSONValue {
    /// A cell's text: nothing for null, plain text for the rest.
    public var cell: String {
        switch self {
        case .null: "-"
        case .bool(let value): value ? "yes" : "no"
        case .integer(let value): String(value)
        case .number(let value): String(value)
        case .string(let value): value
        case .array(let items): items.map(\.cell).joined(separator: ",")
        case .object(let members):
            members.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.cell)" }.joined(separator: " ")
        }
    }
}

/// Times as people say them.
public enum RelativeTime {
    /// `3 m ago`, `in 2 h`; the text itself when it is no time, `-` when there is none.
    public static func text(_ value: JSONValue?, now: Timestamp) -> String {
        guard let text = value?.string else { return "-" }
        guard let time = Timestamp(rfc3339: text) else { return text }
        let seconds = (now.milliseconds - time.milliseconds) / 1000
        let amount = span(seconds: abs(seconds))
        return abs(seconds) < 1 ? "now" : seconds > 0 ? "\(amount) ago" : "in \(amount)"
    }

    public static func span(seconds: Int64) -> String {
        switch seconds {
        case ..<90: "\(seconds) s"
        case ..<5400: "\(seconds / 60) m"
        case ..<172_800: "\(seconds / 3600) h"
        default: "\(seconds / 86_400) d"
        }
    }
}
