// SPDX-License-Identifier: Apache-2.0

import MilepostValidator
import Testing

@Suite("Transcripts of two modes")
struct TranscriptTests {
    private func difference(_ inline: [String], _ worker: [String], _ again: [String]...) -> String? {
        Transcript.difference(
            inline.map(Transcript.words), worker.map(Transcript.words), again.map { $0.map(Transcript.words) })
    }

    @Test("what differs between two inline runs may differ in the worker, and nothing beside it")
    func times() {
        let first = #"http POST body={"sent_at":"2026-01-01T10:00:00Z","key":"dlv_1"}"#
        let later = #"http POST body={"sent_at":"2026-01-02T11:01:01Z","key":"dlv_1"}"#
        let worker = #"http POST body={"sent_at":"2026-01-01T10:00:03Z","key":"dlv_1"}"#
        let other = #"http POST body={"sent_at":"2026-01-01T10:00:03Z","key":"dlv_2"}"#
        #expect(difference([first], [worker], [later]) == nil)
        #expect(difference([first], [worker], [first]) != nil)
        #expect(difference([first], [worker], [first], [later]) == nil)
        #expect(difference([first], [other], [later]) != nil)
    }

    @Test("a line or a word more is a difference, whatever else varies")
    func counts() {
        #expect(difference(["ping ends ok"], ["ping ends ok", "log 2 hello"], ["ping ends ok"]) != nil)
        #expect(difference(["at 1"], ["at 2, in a worker"], ["at 3"]) != nil)
        #expect(difference([], [], []) == nil)
    }

    @Test("words put together are the line again")
    func words() {
        for line in ["", "a", " a  b ", #"{"at":"2026-01-01T10:00:00.5+01:00"}"#, "\u{1f600} ü 1"] {
            #expect(Transcript.words(line).joined() == line)
        }
    }
}
