// SPDX-License-Identifier: Apache-2.0

import Glibc
import MilepostSupervision
import Testing

@Suite struct JournalStreamTests {
    @Test("a stream is the journal's only when JOURNAL_STREAM names its own device and inode")
    func comparison() throws {
        let descriptor = unsafe open("/dev/null", O_WRONLY)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        var status = stat()
        try #require(unsafe fstat(descriptor, &status) == 0)
        func takes(_ text: String?) -> Bool {
            JournalStream.takes(descriptor, environment: text.map { ["JOURNAL_STREAM": $0] } ?? [:])
        }
        #expect(takes("\(status.st_dev):\(status.st_ino)"))
        #expect(!takes(nil))
        #expect(!takes("\(status.st_dev):\(status.st_ino + 1)"))
        #expect(!takes("\(status.st_dev + 1):\(status.st_ino)"))
        for text in ["", ":", "x:y", "\(status.st_dev)", "\(status.st_dev):\(status.st_ino):"] { #expect(!takes(text)) }
        #expect(!JournalStream.takes(-1, environment: ["JOURNAL_STREAM": "\(status.st_dev):\(status.st_ino)"]))
    }

    @Test("each line of a message has its priority, and a message cannot give itself another one")
    func prefixes() {
        #expect(JournalStream.prefixed("one", priority: 3) == "<3>one")
        #expect(JournalStream.prefixed("one\n two\r\nthree\n", priority: 4) == "<4>one\n<4> two\n<4>three")
        #expect(JournalStream.prefixed("one\n<7>hidden", priority: 3) == "<3>one\n<3><7>hidden")
    }
}
