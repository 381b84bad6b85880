// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin

extension Instance {
    /// Takes an event of the host: copies what it holds and wakes whoever waits. Tokens nobody waits for are ignored:
    /// a second event, or one of a kind that a later minor added.
    func receive(_ event: mp_event) {
        let token = unsafe event.token
        switch unsafe event.kind {
        case MP_EVENT_HTTP: unsafe calls.receive(Self.answer(of: event), for: token)
        case MP_EVENT_JOURNAL, MP_EVENT_KV, MP_EVENT_TIMER, MP_EVENT_SIGNATURE:
            let answer = unsafe HostCalls.HostAnswer(
                status: event.status, json: event.json.copied ?? [], data: event.data.copied ?? [])
            calls.receive(answer, for: token)
        case MP_EVENT_CREDENTIAL: unsafe tellCredential(event.json.copied ?? [])
        case MP_EVENT_CONFIG: unsafe tellConfiguration(event.json.copied ?? [])
        default: break
        }
    }

    private func tellCredential(_ json: [UInt8]) {
        guard let observer = plugin as? any CredentialObserving else { return }
        guard let facts = try? JSONValue(parsing: json), facts.object != nil else {
            return context.log(.error, "the host told of a credential in a form that cannot be read")
        }
        observer.credentialChanged(facts)
    }

    private func tellConfiguration(_ json: [UInt8]) {
        guard let observer = plugin as? any ConfigurationObserving else { return }
        guard let configuration = try? jsonValue(json, as: InstanceConfiguration.self) else {
            return context.log(.error, "the host told of a configuration in a form that cannot be read")
        }
        observer.configurationChanged(configuration)
    }

    private static func answer(of event: mp_event) -> Result<HostCalls.HTTPAnswer, HTTPFailure> {
        // An event whose JSON cannot be read still carries wire state and status, which are what matters.
        let facts = unsafe event.json.copied.flatMap { try? JSONValue(parsing: $0) }
        let wire = unsafe HTTPFailure.Wire(rawValue: event.wire) ?? .maybeSent
        let status = unsafe Int(event.http_status)
        let call = unsafe event.status
        guard wire == .answered, call == MP_CALL_OK, (100...599).contains(status) else {
            return .failure(
                HTTPFailure(
                    wire: wire, code: facts?["error"]?["code"]?.string ?? "host_call_\(call)",
                    message: facts?["error"]?["message"]?.string ?? "The request has no answer."))
        }
        let headers = (facts?["headers"]?.array ?? []).compactMap { pair -> (name: String, value: String)? in
            guard let name = pair[0]?.string, let value = pair[1]?.string, pair[2] == nil else { return nil }
            return (name, value)
        }
        let response = unsafe HTTPResponse(
            status: status, headers: headers, body: event.data.copied ?? [],
            isTruncated: facts?["truncated"]?.bool ?? false)
        return unsafe .success(HostCalls.HTTPAnswer(response: response, blob: event.blob, blobLength: event.blob_len))
    }
}
