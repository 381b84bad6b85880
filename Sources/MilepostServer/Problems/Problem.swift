// SPDX-License-Identifier: Apache-2.0

package import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
package import MilepostRules
import MilepostStore
import MilepostVault

/// An error as a client sees it: an RFC 9457 problem document with a stable `code`.
package struct Problem: Error, Sendable {
    package var status: HTTPResponse.Status
    package var code: String
    /// What happened, to what, why, what to do next. Never a secret, never an internal error's text.
    package var detail: String
    package var errors: [SettingError] = []
    var headers: HTTPFields = [:]

    static func badRequest(_ detail: String, code: String = "bad_request") -> Problem {
        Problem(status: .badRequest, code: code, detail: detail)
    }
    static func notFound(_ detail: String) -> Problem { Problem(status: .notFound, code: "not_found", detail: detail) }

    var response: Response {
        var body: [String: JSONValue] = [
            "type": .string("https://milepost.dev/problems/\(code)"), "title": .string(Self.title(code)),
            "status": .integer(Int64(status.code)), "code": .string(code), "detail": .string(detail),
        ]
        if !errors.isEmpty {
            body["errors"] = .array(
                errors.map {
                    ["pointer": .string($0.pointer), "code": .string($0.code), "message": .string($0.message)]
                })
        }
        var fields = headers
        fields[.contentType] = "application/problem+json"
        return Response(
            status: status, headers: fields,
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: JSONValue.object(body).bytes)))
    }

    /// `storage_full` becomes `Storage full`.
    private static func title(_ code: String) -> String {
        let words = code.replacing("_", with: " ")
        return words.prefix(1).uppercased() + words.dropFirst()
    }
}

extension Problem {
    /// Translates an error of a lower room; nil when it is none that a client should read about.
    package init?(_ error: any Error) {
        switch error {
        case let problem as Problem: self = problem
        case let error as EngineError: self.init(error)
        case let error as StoreError: self.init(error)
        case let error as VaultError: self.init(error)
        case let error as JSONError:
            self.init(
                status: error.code == .tooLarge ? .contentTooLarge : .badRequest,
                code: error.code == .malformed ? "bad_request" : error.code.rawValue, detail: error.detail)
        case let error as HTTPError: self.init(error)
        default: return nil
        }
    }

    private init(_ error: EngineError) {
        let status: HTTPResponse.Status =
            switch error.code {
            case .notFound: .notFound
            case .conflict, .managed, .needsReauth, .singleAccount: .conflict
            case .authorizationUnknown: .badRequest
            case .validationFailed, .credentialRefused, .permissionMissing, .authorizationRefused, .appRefused,
                .scopeMissing:
                .unprocessableContent
            case .pluginUnavailable, .secretUnavailable: .serviceUnavailable
            case .vendorUnavailable: .badGateway
            case .rateLimited: .tooManyRequests
            }
        self.init(status: status, code: error.code.rawValue, detail: error.detail, errors: error.errors)
    }

    private init(_ error: StoreError) {
        switch error.code {
        case .storageFull:
            self.init(
                status: HTTPResponse.Status(code: 507, reasonPhrase: "Insufficient Storage"), code: "storage_full",
                detail:
                    "The disk is full: nothing of this request was stored. Free space; the daemon goes on by itself.")
        case .corrupt:
            self.init(
                status: .serviceUnavailable, code: "storage_corrupt",
                detail: "The database is damaged and writing has stopped: see milepost doctor and restore a backup.")
        case .notFound: self.init(status: .notFound, code: "not_found", detail: error.detail)
        case .conflict: self.init(status: .conflict, code: "conflict", detail: error.detail)
        case .backupUnwritable:
            self.init(status: .unprocessableContent, code: "backup_unwritable", detail: error.detail)
        case .closed, .locked, .schemaTooNew, .upgradeDiffers, .downgradeLosesData, .failed:
            self.init(
                status: .serviceUnavailable, code: "storage_unavailable",
                detail: "The store does not answer now; try again, and see milepost status.")
        }
    }

    private init(_ error: VaultError) {
        switch error.code {
        case .keyInUse, .keyRingBusy, .keyInsideDataDirectory:
            self.init(status: .conflict, code: "conflict", detail: error.detail)
        case .keyRingReadOnly: self.init(status: .conflict, code: "key_ring_read_only", detail: error.detail)
        case .keyUnknown: self.init(status: .notFound, code: "not_found", detail: error.detail)
        default:
            self.init(
                status: .serviceUnavailable, code: "secret_unavailable",
                detail: "The vault could not seal or open a credential (\(error.code.rawValue)): see milepost doctor.")
        }
    }

    private init?(_ error: HTTPError) {
        switch error.status {
        case .notFound: self = .notFound("There is no such resource; the routes are listed in /openapi.json.")
        case .contentTooLarge:
            self.init(
                status: .contentTooLarge, code: "body_too_large", detail: "The body is larger than this route takes.")
        case .badRequest: self = .badRequest("The request could not be read.")
        default: return nil
        }
    }
}
