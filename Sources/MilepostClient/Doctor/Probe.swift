// SPDX-License-Identifier: Apache-2.0

import CMilepostCurl
package import MilepostModel

/// What one look at an address told.
package struct Probe: Sendable {
    package enum Kind: Sendable {
        /// TCP and TLS, no request.
        case connection
        /// A HEAD request without credentials.
        case head
        /// A GET request; the answer's first bytes are kept.
        case body
    }

    package enum Outcome: Sendable {
        /// There was an answer, whatever its status; or a connection, where no more was wanted.
        case reached
        case unresolved, certificate, silent
    }

    package var outcome: Outcome
    /// libcurl's sentence; empty when reached.
    package var detail = ""
    package var status = 0
    /// What the other side's clock said.
    package var date: Timestamp?
    package var body: [UInt8] = []

    package init(outcome: Outcome, detail: String = "", status: Int = 0, date: Timestamp? = nil, body: [UInt8] = []) {
        self.outcome = outcome
        self.detail = detail
        self.status = status
        self.date = date
        self.body = body
    }
}

extension CurlHandle {
    private static let connectSeconds = 5
    private static let wholeSeconds = 10
    private static let longestBody = 64 << 10

    /// Looks at an address; blocks for ten seconds at most.
    func probe(_ url: String, _ kind: Probe.Kind) -> Probe {
        var detail = ""
        var answer = Probe(outcome: .reached)
        let result = transfer(
            url: url, kind: kind, connectSeconds: Self.connectSeconds, wholeSeconds: Self.wholeSeconds,
            limit: Self.longestBody, into: &answer, saying: &detail)
        switch result {
        case CURLE_OK, CURLE_WRITE_ERROR: break  // the latter: more of an answer than we keep
        case CURLE_COULDNT_RESOLVE_HOST: answer.outcome = .unresolved
        case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CONNECT_ERROR, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR:
            answer.outcome = .certificate
        default: answer.outcome = .silent
        }
        if answer.outcome != .reached { answer.detail = detail }
        return answer
    }
}
