// SPDX-License-Identifier: Apache-2.0

internal import CMilepostCurl
internal import MilepostModel

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// What the transfer thread needs for one hop.
package struct TransferRequest: Sendable {
    let method: String
    let url: String
    let origin: EgressPolicy.Origin
    /// `+host:port:addresses`, or nil for a literal address or behind a proxy.
    let pin: String?
    let headers: [String]
    let secrets: [SecretBytes]
    let body: [UInt8]
    let formSecrets: [SecretBytes]
    let querySecrets: [SecretBytes]
    let isIdempotent: Bool
    let timeout: Duration
    let responseCap: Int
    let mayBePrivate: Bool
    let proxy: String?
}

extension TransferRequest {
    /// A bare GET to where `pin` says, so that a test can show that the socket is judged whatever was judged before.
    package init(get origin: EgressPolicy.Origin, pin: String?, mayBePrivate: Bool, timeout: Duration) {
        self.init(
            method: "GET", url: "\(origin.scheme)://\(origin.host):\(origin.port)/", origin: origin, pin: pin,
            headers: [], secrets: [], body: [], formSecrets: [], querySecrets: [], isIdempotent: true, timeout: timeout,
            responseCap: 1 << 20, mayBePrivate: mayBePrivate, proxy: nil)
    }
}

/// What the transfer thread gives back; nothing is scrubbed yet.
package struct TransferResult: Sendable {
    package var wire: WireState
    package var status = 0
    var headers: [(name: [UInt8], value: [UInt8])] = []
    var body: [UInt8] = []
    var isTruncated = false
    package var failure: (code: EgressFailure.Code, detail: String)?
    var queued = Duration.zero
    var connect = Duration.zero
}

/// One easy handle and what its callbacks collect.
///
/// `@unchecked Sendable`: created on a task, then touched by the transfer thread alone (`CurlThread` hands it over under
/// its lock); every callback of libcurl runs on that thread. The thread sanitizer over the transfer tests would notice.
@safe final class Transfer: @unchecked Sendable {
    static let maximumHeaders = 256
    static let maximumHeaderBytes = 65_536

    let id: UInt64
    let request: TransferRequest
    private let handedOver = ContinuousClock.now
    private(set) var easy: UnsafeMutableRawPointer?
    private var lists: [UnsafeMutablePointer<curl_slist>] = unsafe []
    private var upload: UnsafeMutableRawBufferPointer?
    private let errorText: UnsafeMutablePointer<CChar>

    // Collected by the callbacks.
    private var prereqs = 0
    private var firstByteAt: ContinuousClock.Instant?
    private var refusedAddress: IPAddress?
    private var refusedResend = false
    private var headerBytes = 0
    private var headersOverflowed = false
    private var bodyOverflowed = false
    private var bodyStarted = false
    private var headEnded = false
    private var headers: [(name: [UInt8], value: [UInt8])] = []
    private var body: [UInt8] = []

    init(id: UInt64, request: TransferRequest) {
        self.id = id
        self.request = request
        unsafe errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
        unsafe errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
    }

    deinit {
        if let easy = unsafe easy { unsafe curl_easy_cleanup(easy) }
        while let list = unsafe lists.popLast() { unsafe Self.wipeAndFree(list) }
        if let upload = unsafe upload {
            unsafe explicit_bzero(upload.baseAddress!, upload.count)
            unsafe upload.deallocate()
        }
        unsafe errorText.deallocate()
    }

    /// Sets up an easy handle that is as new; false when libcurl lacks memory or refuses an option, which is a bug of ours.
    ///
    /// - Parameter spare: one from `takeBack`; nil makes one.
    func prepare(
        _ spare: UnsafeMutableRawPointer?, connectTimeout: Duration, userAgent: String, certificateAuthorities: String?
    ) -> Bool {
        guard let easy = unsafe spare ?? curl_easy_init() else { return false }
        unsafe self.easy = unsafe easy
        let context = unsafe Unmanaged.passUnretained(self).toOpaque()  // CurlThread retains us until we are removed
        var status: [CURLcode] = []
        func number(_ option: CURLoption, _ value: Int) { unsafe status.append(mp_curl_set_long(easy, option, value)) }
        func text(_ option: CURLoption, _ value: String?) {
            unsafe status.append(mp_curl_set_string(easy, option, value))
        }
        func pointer(_ option: CURLoption, _ value: UnsafeMutableRawPointer?) {
            unsafe status.append(mp_curl_set_pointer(easy, option, value))
        }
        unsafe pointer(CURLOPT_PRIVATE, context)
        unsafe pointer(CURLOPT_ERRORBUFFER, errorText)
        number(CURLOPT_NOSIGNAL, 1)
        text(CURLOPT_PROTOCOLS_STR, "http,https")
        text(CURLOPT_PROXY, request.proxy ?? "")  // empty: not even http_proxy from the environment
        text(CURLOPT_NOPROXY, request.proxy == nil ? "*" : "")
        number(CURLOPT_NETRC, Int(CURL_NETRC_IGNORED.rawValue))
        number(CURLOPT_FOLLOWLOCATION, 0)
        number(CURLOPT_SSL_VERIFYPEER, 1)
        number(CURLOPT_SSL_VERIFYHOST, 2)
        number(CURLOPT_SSLVERSION, Int(CURL_SSLVERSION_TLSv1_2))
        if let certificateAuthorities { text(CURLOPT_CAINFO, certificateAuthorities) }
        number(CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_2TLS))
        // One connection may serve all, so wait for it.
        number(CURLOPT_PIPEWAIT, request.origin.scheme == "https" ? 1 : 0)
        text(CURLOPT_ACCEPT_ENCODING, "gzip")
        text(CURLOPT_USERAGENT, userAgent)
        number(CURLOPT_TIMEOUT_MS, max(1, Int(request.timeout.wholeMilliseconds)))
        number(CURLOPT_CONNECTTIMEOUT_MS, max(1, Int(min(connectTimeout, request.timeout).wholeMilliseconds)))
        unsafe status.append(mp_curl_set_write_function(easy, CURLOPT_WRITEFUNCTION, onBody))
        unsafe pointer(CURLOPT_WRITEDATA, context)
        unsafe status.append(mp_curl_set_write_function(easy, CURLOPT_HEADERFUNCTION, onHeader))
        unsafe pointer(CURLOPT_HEADERDATA, context)
        unsafe status.append(mp_curl_set_open_socket_function(easy, onOpenSocket))
        unsafe pointer(CURLOPT_OPENSOCKETDATA, context)
        unsafe status.append(mp_curl_set_prereq_function(easy, onPrereq))
        unsafe pointer(CURLOPT_PREREQDATA, context)
        if let pin = request.pin {
            guard let list = unsafe curl_slist_append(nil, pin) else { return false }
            unsafe lists.append(list)
            unsafe status.append(mp_curl_set_list(easy, CURLOPT_RESOLVE, list))
        }
        guard setURL(), setHeaders(), setMethodAndBody() else { return false }
        return status.allSatisfy { $0 == CURLE_OK }
    }

    /// The handle, free of everything that was set, for another transfer: making one costs as much as all else.
    func takeBack() -> UnsafeMutableRawPointer? {
        guard let easy = unsafe easy else { return nil }
        unsafe self.easy = nil
        unsafe curl_easy_reset(easy)
        return unsafe easy
    }

    /// The server answered by HTTP/2, which carries many requests on one connection.
    var spokeHTTP2: Bool {
        var version = 0
        _ = unsafe mp_curl_get_long(easy, CURLINFO_HTTP_VERSION, &version)
        return version == Int(CURL_HTTP_VERSION_2_0)
    }

    private func setURL() -> Bool {
        var url = Array(request.url.utf8)
        // Room enough that no reallocation leaves a copy of a secret behind; for the body below too.
        url.reserveCapacity(url.count + request.querySecrets.reduce(1) { $0 + $1.count + 1 })
        for secret in request.querySecrets {
            url.append(url.contains(0x3F) ? 0x26 : 0x3F)
            var pair = secret.copy()
            url += pair
            wipe(&pair)
        }
        url.append(0)
        defer { wipe(&url) }
        return unsafe url.withUnsafeBytes { raw in
            let text = unsafe raw.baseAddress?.assumingMemoryBound(to: CChar.self)
            return unsafe mp_curl_set_string(easy, CURLOPT_URL, text) == CURLE_OK
        }
    }

    private func setHeaders() -> Bool {
        var list: UnsafeMutablePointer<curl_slist>?
        func append(_ line: UnsafePointer<CChar>) -> Bool {
            guard let longer = unsafe curl_slist_append(list, line) else { return false }
            unsafe list = unsafe longer
            return true
        }
        var isComplete = unsafe append("Expect:")  // a vendor that ignores it would cost a second per request
        for line in request.headers { isComplete = unsafe append(line) && isComplete }
        for secret in request.secrets {
            var line = secret.terminatedCopy()
            isComplete =
                unsafe line.withUnsafeBytes { unsafe append($0.baseAddress!.assumingMemoryBound(to: CChar.self)) }
                && isComplete
            wipe(&line)
        }
        guard let list = unsafe list else { return false }
        unsafe lists.append(list)
        return unsafe isComplete && mp_curl_set_list(easy, CURLOPT_HTTPHEADER, list) == CURLE_OK
    }

    private func setMethodAndBody() -> Bool {
        var body = request.body
        body.reserveCapacity(body.count + request.formSecrets.reduce(0) { $0 + $1.count + 1 })
        for secret in request.formSecrets {
            if !body.isEmpty { body.append(0x26) }
            var pair = secret.copy()
            body += pair
            wipe(&pair)
        }
        defer { if !request.formSecrets.isEmpty { wipe(&body) } }
        switch request.method {
        case "GET" where body.isEmpty: return unsafe mp_curl_set_long(easy, CURLOPT_HTTPGET, 1) == CURLE_OK
        case "HEAD": return unsafe mp_curl_set_long(easy, CURLOPT_NOBODY, 1) == CURLE_OK
        case "DELETE" where body.isEmpty:
            return unsafe mp_curl_set_string(easy, CURLOPT_CUSTOMREQUEST, request.method) == CURLE_OK
        default: break
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, body.count), alignment: 16)
        unsafe buffer.copyBytes(from: body)
        unsafe upload = unsafe buffer
        return unsafe mp_curl_set_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count)) == CURLE_OK
            && mp_curl_set_long(easy, CURLOPT_POST, 1) == CURLE_OK
            && mp_curl_set_pointer(easy, CURLOPT_POSTFIELDS, buffer.baseAddress) == CURLE_OK
            && mp_curl_set_string(easy, CURLOPT_CUSTOMREQUEST, request.method) == CURLE_OK
    }

    private static func wipeAndFree(_ list: UnsafeMutablePointer<curl_slist>) {
        var node: UnsafeMutablePointer<curl_slist>? = unsafe list
        while let current = unsafe node {
            unsafe explicit_bzero(current.pointee.data, strlen(current.pointee.data))
            unsafe node = unsafe current.pointee.next
        }
        unsafe curl_slist_free_all(list)
    }
}

// MARK: - Callbacks, all on the transfer thread

extension Transfer {
    /// libcurl is about to send on a connection that stands. The second time would be its own resend (decisions 1).
    fileprivate func aboutToSend(to address: String) -> Bool {
        if request.proxy == nil, !request.mayBePrivate {
            // A connection that another policy opened may be reused, so the open-socket check alone is not enough.
            guard let parsed = IPAddress(address), parsed.forbiddance == nil else {
                refusedAddress = IPAddress(address)
                return false
            }
        }
        if prereqs > 0, !request.isIdempotent {
            refusedResend = true
            return false
        }
        prereqs += 1
        if firstByteAt == nil { firstByteAt = .now }
        return true
    }

    fileprivate func mayConnect(to address: IPAddress?) -> Bool {
        if request.proxy != nil || request.mayBePrivate { return true }
        guard let address, address.forbiddance == nil else {
            refusedAddress = address
            return false
        }
        return true
    }

    fileprivate func take(header line: UnsafeRawBufferPointer) -> Bool {
        guard !bodyStarted else { return true }  // trailers: nobody asked for them
        let bytes = unsafe Array(line)
        if bytes.starts(with: Array("HTTP/".utf8)) {  // an interim answer is over
            headers = []
            headEnded = false
            return true
        }
        if bytes == [0x0D, 0x0A] || bytes == [0x0A] {
            headEnded = true
            return true
        }
        headerBytes += bytes.count
        if headerBytes > Self.maximumHeaderBytes || headers.count >= Self.maximumHeaders {
            headersOverflowed = true
            return false
        }
        guard let colon = bytes.firstIndex(of: 0x3A) else { return true }
        let isBlank: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D || $0 == 0x0A }
        let value = bytes[(colon + 1)...].drop(while: isBlank).reversed().drop(while: isBlank).reversed()
        headers.append((Array(bytes[..<colon]), Array(value)))
        return true
    }

    fileprivate func take(body chunk: UnsafeRawBufferPointer) -> Bool {
        bodyStarted = true
        let room = request.responseCap - body.count
        unsafe body.append(contentsOf: chunk.prefix(room))
        bodyOverflowed = chunk.count > room
        return !bodyOverflowed
    }
}

private func transfer(_ context: UnsafeMutableRawPointer?) -> Transfer {
    unsafe Unmanaged<Transfer>.fromOpaque(context!).takeUnretainedValue()
}

private let onBody: curl_write_callback = { bytes, size, count, context in
    let chunk = unsafe UnsafeRawBufferPointer(start: bytes, count: size * count)
    return unsafe transfer(context).take(body: chunk) ? chunk.count : Int(refusedCount)
}

private let onHeader: curl_write_callback = { bytes, size, count, context in
    let line = unsafe UnsafeRawBufferPointer(start: bytes, count: size * count)
    return unsafe transfer(context).take(header: line) ? line.count : Int(refusedCount)
}

/// Any count other than the one given fails the transfer.
private let refusedCount: UInt32 = 0xFFFF_FFFF

private let onOpenSocket: curl_opensocket_callback = { context, _, address in
    guard let address = unsafe address else { return -1 }
    let family = unsafe address.pointee.family
    let judged = unsafe withUnsafePointer(to: &address.pointee.addr) { unsafe IPAddress($0) }
    guard unsafe transfer(context).mayConnect(to: judged) else { return -1 }
    #if canImport(Glibc)
        let kind = unsafe address.pointee.socktype | Int32(SOCK_CLOEXEC.rawValue)
    #else
        let kind = unsafe address.pointee.socktype
    #endif
    return unsafe socket(family, kind, address.pointee.protocol)
}

private let onPrereq: curl_prereq_callback = { context, address, _, _, _ in
    let text = unsafe address.map { unsafe String(cString: $0) } ?? ""
    return unsafe transfer(context).aboutToSend(to: text) ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT
}

// MARK: - The verdict

extension Transfer {
    /// How the request ended, from libcurl's result and what the callbacks saw.
    func finish(_ status: CURLcode) -> TransferResult {
        var result = TransferResult(wire: prereqs == 0 ? .neverSent : .maybeSent)
        measure(&result)
        if status == CURLE_OK, !headEnded {  // libcurl 7.88 calls a head cut by a close a success
            result.failure = (.reset, "the connection closed in the middle of the answer's head")
            return result
        }
        if status == CURLE_OK || (bodyOverflowed && status == CURLE_WRITE_ERROR) {
            var code = 0
            _ = unsafe mp_curl_get_long(easy, CURLINFO_RESPONSE_CODE, &code)
            result.wire = .answered
            result.status = code
            result.headers = headers
            result.body = body
            result.isTruncated = bodyOverflowed
            return result
        }
        result.failure = failure(status)
        return result
    }

    /// Given up by the caller or by shutdown.
    func abandon(_ detail: String) -> TransferResult {
        var result = TransferResult(wire: prereqs == 0 ? .neverSent : .maybeSent)
        result.failure = (.cancelled, detail)
        return result
    }

    private func measure(_ result: inout TransferResult) {
        func time(_ info: CURLINFO) -> Int64 {
            var value: curl_off_t = 0
            _ = unsafe mp_curl_get_offset(easy, info, &value)
            return Int64(value)
        }
        let connected = max(time(CURLINFO_CONNECT_TIME_T), time(CURLINFO_APPCONNECT_TIME_T))
        let resolved = time(CURLINFO_NAMELOOKUP_TIME_T)
        var newConnections = 0
        _ = unsafe mp_curl_get_long(easy, CURLINFO_NUM_CONNECTS, &newConnections)
        let connect = newConnections > 0 ? max(0, connected - resolved) : 0
        result.connect = .microseconds(connect)
        // Not from libcurl: its times start anew when a transfer leaves the queue for a connection.
        result.queued = max(.zero, handedOver.duration(to: firstByteAt ?? .now) - result.connect)
    }

    private func failure(_ status: CURLcode) -> (code: EgressFailure.Code, detail: String) {
        if let refusedAddress {
            return (
                .refusedByPolicy,
                "\(refusedAddress) is not a public address (\(refusedAddress.forbiddance ?? "unknown"))"
            )
        }
        if refusedResend {
            return (.reset, "the connection closed without an answer; the request is not repeated by itself")
        }
        if headersOverflowed {
            return (
                .responseTooLarge,
                "the answer has more than \(Self.maximumHeaders) headers or \(Self.maximumHeaderBytes) bytes of them"
            )
        }
        let said = unsafe String(cString: errorText)
        let detail = said.isEmpty ? unsafe String(cString: curl_easy_strerror(status)) : said
        switch status {
        case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY: return (.dnsFailed, detail)
        case CURLE_COULDNT_CONNECT: return (.connectFailed, detail)
        case CURLE_OPERATION_TIMEDOUT: return (.timeout, detail)
        case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER,
            CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR, CURLE_SSL_PINNEDPUBKEYNOTMATCH,
            CURLE_SSL_INVALIDCERTSTATUS, CURLE_SSL_CLIENTCERT, CURLE_USE_SSL_FAILED:
            return (.tlsFailed, detail)
        case CURLE_BAD_CONTENT_ENCODING, CURLE_WEIRD_SERVER_REPLY, CURLE_UNSUPPORTED_PROTOCOL:
            return (.answerUnreadable, detail)
        default: return (prereqs == 0 ? .connectFailed : .reset, detail)
        }
    }
}
