// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin

extension Instance {
    /// Takes an event of the host: copies what it holds and wakes whoever waits. Tokens nobody waits for are ignored:
    /// a second event, or one of a kind that a later minor added.
    func receive(_ event: mp_event) {
        let token = unsafe event.token
        switch unsafe event.kind {
        case MP_EVENT_HTTP: unsafe resumeHTTP(token, Self.answer(of: event))
        case MP_EVENT_JOURNAL: resumeStatus(token, unsafe event.status)
        default: break
        }
    }

    private static func answer(of event: mp_event) -> Result<HTTPAnswer, HTTPFailure> {
        // An event whose JSON cannot be read still carries wire state and status, which are what matters.
        let facts = unsafe event.json.copied.flatMap { try? jsonValue($0, as: HTTPEventBody.self) }
        let wire = unsafe HTTPFailure.Wire(rawValue: event.wire) ?? .maybeSent
        let status = unsafe Int(event.http_status)
        let call = unsafe event.status
        guard wire == .answered, call == MP_CALL_OK, (100...599).contains(status) else {
            return .failure(
                HTTPFailure(
                    wire: wire, code: facts?.error?.code ?? "host_call_\(call)",
                    message: facts?.error?.message ?? "The request has no answer."))
        }
        let headers = (facts?.headers ?? []).filter { $0.count == 2 }.map { (name: $0[0], value: $0[1]) }
        let response = unsafe HTTPResponse(
            status: status, headers: headers, body: event.data.copied ?? [], isTruncated: facts?.truncated ?? false)
        return unsafe .success(HTTPAnswer(response: response, blob: event.blob, blobLength: event.blob_len))
    }
}
