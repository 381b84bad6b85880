// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore

extension MilepostServer {
    /// Plans as data (PLAN-05): a host product imposes its tiers here.
    static var planRoutes: [Route] {
        [
            .get(
                "/v1/admin/plans", "plans.get", .scope(.admin),
                "The matrix of plans that counts now, and whether it comes from here or from the configuration."
            ) { call in Answer(try await plans(call)) },
            .change(
                .put, "/v1/admin/plans", "plans.put", .scope(.admin), query: ["managed_by"],
                "Replaces the matrix of plans, from the next tick on; an empty one gives way to the configuration's."
            ) { call in
                let body = try await call.object(keys: ["plans"])
                let plans = try planRecords(body)
                try await refuseManaged("The matrix of plans", .plans, name: "", call)
                try await call.engine.store.replacePlans(plans)
                try await remember(.plans, name: "", document: plans.isEmpty ? nil : body["plans"], call)
                return Answer(
                    try await Self.plans(call),
                    auditDetail: ["plans": .array(plans.map(\.name).sorted().map(JSONValue.string))])
            },
        ]
    }

    private static func plans(_ call: Call) async throws -> JSONValue {
        let store = call.engine.store
        let isOwn = try await !store.plans().isEmpty
        let matrix = try await store.planMatrix(configured: call.engine.configuredPlans)
        let plans = matrix.plans.mapValues { plan -> JSONValue in
            [
                "fires": .bool(plan.fires),
                "integrations": plan.integrations.map { .array($0.map(\.rawValue).sorted().map(JSONValue.string)) }
                    ?? .null,
                "trial_days": plan.trialDays.map { .integer(Int64($0)) } ?? .null,
            ]
        }
        return ["plans": .object(plans), "source": .string(isOwn ? "api" : "configuration")]
    }

    /// Tiers of a product are a handful; the bound keeps a mistaken file out.
    private static let maximumPlans = 200

    private static func planRecords(_ body: [String: JSONValue]) throws -> [PlanRecord] {
        guard let plans = body["plans"]?.object, plans.count <= maximumPlans else {
            throw Problem.badRequest("plans must be an object of at most \(maximumPlans) plans by name.")
        }
        var errors: [SettingError] = []
        let records = plans.sorted { $0.key < $1.key }.map { name, value in
            var record = PlanRecord(name: name)
            func wrong(_ key: String, _ code: String, _ message: String) {
                let pointer = "/plans/\(name)\(key.isEmpty ? "" : "/\(key)")"
                errors.append(SettingError(pointer: pointer, code: code, message: message))
            }
            if !(1...64).contains(name.utf8.count) { wrong("", "out_of_range", "a plan's name has 1 to 64 bytes") }
            guard let members = value.object else {
                wrong("", "wrong_type", "\(name) must be an object")
                return record
            }
            for (key, value) in members.sorted(by: { $0.key < $1.key }) {
                switch (key, value) {
                case ("fires", .bool(let fires)): record.fires = fires
                case ("integrations", .null), ("trial_days", .null): continue
                case ("integrations", .array(let names)) where names.count <= maximumPlans:
                    let texts = names.compactMap(\.string).filter { IntegrationName($0)?.name.isEmpty == true }
                    guard texts.count == names.count else {
                        wrong(key, "wrong_type", "\(name): integrations must be names of plugins")
                        continue
                    }
                    record.integrations = Set(texts)
                case ("trial_days", .integer(let days)) where (0...36_500).contains(days): record.trialDays = Int(days)
                case ("fires", _): wrong(key, "wrong_type", "\(name): fires must be true or false")
                case ("integrations", _):
                    wrong(key, "wrong_type", "\(name): integrations must be a list of plugins, or null for all")
                case ("trial_days", _):
                    wrong(key, "wrong_type", "\(name): trial_days must be a whole number of days, or null")
                default:
                    wrong(key, "unknown", "\(name): \(key) is unknown; a plan has fires, integrations and trial_days")
                }
            }
            return record
        }
        guard errors.isEmpty else {
            throw EngineError(
                code: .validationFailed, detail: errors.map(\.message).joined(separator: "; "), errors: errors)
        }
        return records
    }
}
