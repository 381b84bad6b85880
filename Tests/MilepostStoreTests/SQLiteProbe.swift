// SPDX-License-Identifier: Apache-2.0

import GRDB

/// Does to a closed file what no daemon would.
func sqlite(_ path: String, _ sql: String) throws {
    let queue = try DatabaseQueue(path: path)
    try queue.writeWithoutTransaction { try $0.execute(sql: sql) }
    try queue.close()
}

func sqliteValue(_ path: String, _ sql: String) throws -> String? {
    let queue = try DatabaseQueue(path: path)
    defer { try? queue.close() }  // the value was read; a failing close would fail the next open
    return try queue.writeWithoutTransaction { try String.fetchOne($0, sql: sql) }
}
