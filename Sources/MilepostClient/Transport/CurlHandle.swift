// SPDX-License-Identifier: Apache-2.0

import CMilepostCurl
import MilepostModel

/// Why libcurl gave no answer.
struct CurlFailure: Error {
    let message: String
    /// False when the URL itself cannot be used.
    let isUnreachable: Bool
}

/// One easy handle: it keeps the connection between requests. Freed exactly once.
@safe final class CurlHandle {
    private let easy: UnsafeMutableRawPointer

    /// libcurl wants this once a process; the first handle pays for it.
    private static let isInitialised: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK

    init() throws(ClientError) {
        guard Self.isInitialised, let easy = unsafe curl_easy_init() else {
            throw ClientError(code: "internal", detail: "libcurl cannot start; is memory short?")
        }
        unsafe self.easy = easy
    }

    deinit { unsafe curl_easy_cleanup(easy) }

    /// Gathers an answer; lives on the caller's stack for the length of one transfer.
    private final class Answer {
        var bytes: [UInt8] = []
        let limit: Int
        init(limit: Int) { self.limit = limit }
    }

    func perform(
        method: String, url: String, headers: [String], body: [UInt8]?, timeoutSeconds: Int, limit: Int
    ) throws(CurlFailure) -> (status: Int, body: [UInt8]) {
        // Reset keeps connections and the DNS cache, and forgets every option, so that no request inherits another's.
        unsafe curl_easy_reset(easy)
        let answer = Answer(limit: limit)
        var list: UnsafeMutablePointer<curl_slist>?
        for header in headers { unsafe list = curl_slist_append(list, header) }
        defer { unsafe curl_slist_free_all(list) }
        let body = body ?? []
        let sendsBody = !body.isEmpty || method == "POST" || method == "PUT" || method == "PATCH"
        let result = unsafe body.withUnsafeBufferPointer { bytes -> CURLcode in
            unsafe configure(method: method, url: url, list: list, timeoutSeconds: timeoutSeconds)
            if sendsBody {
                _ = unsafe mp_curl_set_long(easy, CURLOPT_POST, 1)
                _ = unsafe mp_curl_set_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(bytes.count))
                let start = unsafe UnsafeMutableRawPointer(mutating: bytes.baseAddress)
                _ = unsafe mp_curl_set_pointer(easy, CURLOPT_POSTFIELDS, start)
            }
            _ = unsafe mp_curl_set_string(easy, CURLOPT_CUSTOMREQUEST, method)
            return receive(into: answer)
        }
        guard result == CURLE_OK else { throw failure(result) }
        var status = 0
        _ = unsafe mp_curl_get_long(easy, CURLINFO_RESPONSE_CODE, &status)
        return (status, answer.bytes)
    }

    /// One look at an address without credentials (`Probe`).
    ///
    /// - Parameter detail: libcurl's sentence for what went wrong.
    func transfer(
        url: String, kind: Probe.Kind, connectSeconds: Int, wholeSeconds: Int, limit: Int, into probe: inout Probe,
        saying detail: inout String
    ) -> CURLcode {
        unsafe curl_easy_reset(easy)
        let answer = Answer(limit: limit)
        let result = unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(CURL_ERROR_SIZE)) { said in
            unsafe said.initialize(repeating: 0)
            unsafe configure(method: "GET", url: url, list: nil, timeoutSeconds: wholeSeconds)
            _ = unsafe mp_curl_set_long(easy, CURLOPT_CONNECTTIMEOUT, connectSeconds)
            // Each look is to be one of its own: a kept connection proves no name and no certificate.
            _ = unsafe mp_curl_set_long(easy, CURLOPT_FRESH_CONNECT, 1)
            _ = unsafe mp_curl_set_long(easy, CURLOPT_FORBID_REUSE, 1)
            _ = unsafe mp_curl_set_string(easy, CURLOPT_USERAGENT, "milepost-doctor")
            _ = unsafe mp_curl_set_pointer(easy, CURLOPT_ERRORBUFFER, said.baseAddress)
            switch kind {
            case .connection: _ = unsafe mp_curl_set_long(easy, CURLOPT_CONNECT_ONLY, 1)
            case .head: _ = unsafe mp_curl_set_long(easy, CURLOPT_NOBODY, 1)
            case .body: break
            }
            let result = receive(into: answer)
            if result != CURLE_OK {
                let text = unsafe String(cString: said.baseAddress!)
                detail = unsafe text.isEmpty ? String(cString: curl_easy_strerror(result)) : text
            }
            // The buffer ends with this closure.
            _ = unsafe mp_curl_set_pointer(easy, CURLOPT_ERRORBUFFER, nil)
            return result
        }
        _ = unsafe mp_curl_get_long(easy, CURLINFO_RESPONSE_CODE, &probe.status)
        probe.body = answer.bytes
        var header: UnsafeMutablePointer<curl_header>?
        if unsafe curl_easy_header(easy, "date", 0, UInt32(CURLH_HEADER), -1, &header) == CURLHE_OK,
            let value = unsafe header?.pointee.value
        {
            let seconds = unsafe curl_getdate(value, nil)
            if seconds > 0 { probe.date = Timestamp(seconds: Int64(seconds)) }
        }
        return result
    }

    private func receive(into answer: Answer) -> CURLcode {
        let receiver = unsafe Unmanaged.passUnretained(answer).toOpaque()
        _ = unsafe mp_curl_set_pointer(easy, CURLOPT_WRITEDATA, receiver)
        _ = unsafe mp_curl_set_write_function(easy, CURLOPT_WRITEFUNCTION) { data, size, count, context in
            guard let data = unsafe data, let context = unsafe context else { return 0 }
            let answer = unsafe Unmanaged<Answer>.fromOpaque(context).takeUnretainedValue()
            let received = unsafe UnsafeRawBufferPointer(start: data, count: size * count)
            guard answer.bytes.count + received.count <= answer.limit else { return 0 }
            unsafe answer.bytes.append(contentsOf: received)
            return received.count
        }
        return unsafe curl_easy_perform(easy)
    }

    private func configure(
        method: String, url: String, list: UnsafeMutablePointer<curl_slist>?, timeoutSeconds: Int
    ) {
        _ = unsafe mp_curl_set_string(easy, CURLOPT_URL, url)
        _ = unsafe mp_curl_set_list(easy, CURLOPT_HTTPHEADER, list)
        // The token must go nowhere but to the daemon: no redirects, no proxy of the environment, no other protocol.
        _ = unsafe mp_curl_set_string(easy, CURLOPT_PROTOCOLS_STR, "http,https")
        _ = unsafe mp_curl_set_string(easy, CURLOPT_PROXY, "")
        _ = unsafe mp_curl_set_long(easy, CURLOPT_FOLLOWLOCATION, 0)
        _ = unsafe mp_curl_set_long(easy, CURLOPT_NOSIGNAL, 1)
        _ = unsafe mp_curl_set_long(easy, CURLOPT_CONNECTTIMEOUT, 10)
        _ = unsafe mp_curl_set_long(easy, CURLOPT_TIMEOUT, timeoutSeconds)
    }

    private func failure(_ result: CURLcode) -> CurlFailure {
        let text = unsafe String(cString: curl_easy_strerror(result))
        let isURL = result == CURLE_URL_MALFORMAT || result == CURLE_UNSUPPORTED_PROTOCOL
        return CurlFailure(
            message: result == CURLE_WRITE_ERROR ? "the answer is too large" : text, isUnreachable: !isURL)
    }
}
