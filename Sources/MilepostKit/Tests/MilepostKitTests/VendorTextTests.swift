// SPDX-License-Identifier: Apache-2.0

import MilepostKit
import Testing

@Suite("texts from outside")
struct VendorTextTests {
    @Test(
        "a line has no controls, no directions, no runs of space, and a bound",
        arguments: [
            ("  a\n\u{202E}b\t ", "a b"), ("", ""), ("x\u{0}y", "x y"), ("\u{E000}z", "z"),
        ])
    func lines(text: String, line: String) { #expect(VendorText.line(text, longest: 10) == line) }

    @Test("a line is never longer than asked, whatever it is made of")
    func bound() {
        for text in ["👩‍👩‍👧", "é", "<", " ", "a "] {
            let long = String(repeating: text, count: 500)
            #expect(VendorText.line(long, longest: 40).unicodeScalars.count <= 40)
        }
    }

    @Test("a part of an address holds unreserved characters only")
    func encoded() {
        #expect(VendorText.urlEncoded("a@x.test/../?&%é") == "a%40x.test%2F..%2F%3F%26%25%C3%A9")
    }

    @Test("markup is text after escaping, and only plain web addresses count as such")
    func markup() {
        #expect(VendorText.escaped("<a href=\"x\">'&") == "&lt;a href=&quot;x&quot;&gt;&#39;&amp;")
        #expect(VendorText.isWebAddress("https://a.test/x") && !VendorText.isWebAddress("javascript:x"))
        #expect(!VendorText.isWebAddress("https://a.test/ x"))
    }

    @Test(
        "Retry-After is read in seconds, a day at most",
        arguments: [
            ("9", Duration.seconds(9)), ("999999", .seconds(86_400)), ("-1", nil),
            ("Wed, 21 Oct 2026 07:28:00 GMT", nil),
        ])
    func retryAfter(text: String, wait: Duration?) {
        #expect(HTTPResponse(status: 429, headers: [("Retry-After", text)]).retryAfter == wait)
    }
}
