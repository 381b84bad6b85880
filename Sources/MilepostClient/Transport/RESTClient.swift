// SPDX-License-Identifier: Apache-2.0

import CMilepostCurl

/// The daemon's REST API over one kept-alive connection.
///
/// Blocks the calling thread until the answer is there: made for a command line, which has nothing else to do. Not for
/// several threads at once.
public final class RESTClient: ClientTransport {
    /// Bytes of one answer; an export of a contact is the largest.
    public static let maximumAnswer = 256 << 20

    private let settings: ClientSettings
    private let curl: CurlHandle
    /// Longest silence between connecting and the end of an answer; a tick answers when it is done.
    private let timeoutSeconds: Int

    public init(settings: ClientSettings, timeoutSeconds: Int = 600) throws(ClientError) {
        self.settings = settings
        self.timeoutSeconds = timeoutSeconds
        curl = try CurlHandle()
    }

    /// Whether anybody answers at all, be it with a refusal.
    ///
    /// - Throws: `unreachable` and `bad_url`.
    public func checkLife() throws(ClientError) {
        do throws(ClientError) {
            _ = try send(ClientRequest("GET", "/healthz"))
        } catch { if error.status == nil { throw error } }
    }

    public func send(_ request: ClientRequest) throws(ClientError) -> ClientResponse {
        var headers = ["Accept: application/json", "User-Agent: milepost"]
        if let token = settings.token { headers.append("Authorization: Bearer \(token)") }
        // libcurl adds a wait for "100 Continue" to larger bodies, which only costs a round trip here.
        if request.body != nil { headers += ["Content-Type: \(request.contentType)", "Expect:"] }
        let (status, body): (Int, [UInt8])
        do throws(CurlFailure) {
            (status, body) = try curl.perform(
                method: request.method, url: settings.url + request.target, headers: headers, body: request.body,
                timeoutSeconds: timeoutSeconds, limit: Self.maximumAnswer)
        } catch {
            guard error.isUnreachable else {
                throw ClientError(code: "bad_url", detail: "\(settings.url): \(error.message)")
            }
            throw ClientError(
                code: "unreachable", detail: "no answer from \(settings.url): \(error.message)",
                advice: "is milepostd running, and is MILEPOST_URL right? 'milepost doctor' looks without it")
        }
        guard (200..<300).contains(status) else {
            let problem = ClientError.problem(status: status, body: body)
            guard settings.token == nil, status == 401 else { throw problem }
            throw ClientError(
                code: "no_token", detail: "the daemon wants a token and none was given",
                advice: "set MILEPOST_TOKEN, or stop the daemon and make a token with 'milepost init'; looked in "
                    + settings.tokenFiles.joined(separator: " and "), status: status, document: problem.document)
        }
        return ClientResponse(status: status, body: body)
    }
}
