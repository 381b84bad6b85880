// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import MilepostEngine
import MilepostModel
import MilepostServer
import MilepostStore
import MilepostVault
import Testing

@Suite("problem documents")
struct ProblemTests {
    struct Unforeseen: Error {}

    @Test("every code of the engine has its status and keeps its name")
    func engine() throws {
        let table: [(EngineError.Code, Int)] = [
            (.notFound, 404), (.conflict, 409), (.managed, 409), (.validationFailed, 422), (.credentialRefused, 422),
            (.permissionMissing, 422), (.pluginUnavailable, 503), (.vendorUnavailable, 502), (.rateLimited, 429),
            (.needsReauth, 409), (.secretUnavailable, 503),
        ]
        for (code, status) in table {
            let problem = try #require(Problem(EngineError(code: code, detail: "why")))
            #expect(problem.status.code == status && problem.code == code.rawValue && problem.detail == "why")
        }
    }

    @Test("a store's own words stay inside; what the client can do about it does not")
    func store() throws {
        let table: [(StoreError.Code, Int, String)] = [
            (.storageFull, 507, "storage_full"), (.corrupt, 503, "storage_corrupt"), (.notFound, 404, "not_found"),
            (.conflict, 409, "conflict"), (.closed, 503, "storage_unavailable"), (.locked, 503, "storage_unavailable"),
            (.schemaTooNew, 503, "storage_unavailable"), (.failed, 503, "storage_unavailable"),
            (.backupUnwritable, 422, "backup_unwritable"),
            (.upgradeDiffers, 503, "storage_unavailable"), (.downgradeLosesData, 503, "storage_unavailable"),
        ]
        for (code, status, name) in table {
            let problem = try #require(Problem(StoreError(code: code, detail: "SQLITE_IOERR in /var/lib")))
            #expect(problem.status.code == status && problem.code == name, "\(code)")
            if status >= 500 { #expect(!problem.detail.contains("SQLITE"), "\(code)") }
        }
    }

    @Test("every code of the vault maps to a stable one, without its text where it is internal")
    func vault() throws {
        for code in VaultError.Code.allCases {
            let problem = try #require(Problem(VaultError(code, "row 7 of data_keys")))
            #expect(
                ["conflict", "key_ring_read_only", "not_found", "secret_unavailable"].contains(problem.code), "\(code)")
            if problem.code == "secret_unavailable" { #expect(!problem.detail.contains("data_keys")) }
        }
    }

    @Test("JSON that is too large, too deep or broken has a code each")
    func json() throws {
        let errors: [(String, JSONLimits, String, Int)] = [
            ("[[[1]]]", JSONLimits(depth: 2), "too_deep", 400), ("{", JSONLimits(), "bad_request", 400),
            ("[1,2]", JSONLimits(bytes: 2), "body_too_large", 413),
        ]
        for (text, limits, code, status) in errors {
            do throws(JSONError) {
                _ = try JSONValue(parsing: text, limits: limits)
                Issue.record("\(text) was taken")
            } catch {
                let problem = try #require(Problem(error))
                #expect(problem.code == code && problem.status.code == status)
            }
        }
    }

    @Test("an error that nobody foresaw is none a client reads about")
    func unforeseen() { #expect((Problem(Unforeseen()) as Problem?)?.code == nil) }
}
