// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// Turns a pipeline and a stage that a judge named by label or id into the vendor's own values, from the same lists that
/// an administrator chooses from.
struct TargetCheck: Sendable {
    let plugins: any PluginPort
    /// The connection that will carry the action out.
    let connection: Connection

    enum Outcome: Sendable, Equatable {
        case checked(DealChange)
        /// There is no such pipeline or stage.
        case refused(String)
        /// The vendor did not answer.
        case failed(Verdict)
    }

    private enum Failure: Error {
        case refused(String)
        case failed(Verdict)
    }

    func check(_ change: DealChange, event: JSONValue) async -> Outcome {
        guard change.pipeline != nil || change.stage != nil else { return .checked(change) }
        do throws(Failure) {
            var checked = change
            if let wanted = change.pipeline { checked.pipeline = try await find(wanted, "pipelines", under: nil) }
            let pipeline = checked.pipeline ?? event["deal"]?["pipeline"] ?? connection.settings["pipeline_id"]
            if let wanted = change.stage {
                checked.stage = try await find(wanted, "stages", under: pipeline)
            } else {
                // The stage of the settings belongs to another pipeline: the first of this one takes its place.
                checked.stage = try await choices("stages", under: pipeline).first?.value
            }
            return .checked(checked)
        } catch {
            switch error {
            case .refused(let problem): return .refused(problem)
            case .failed(let verdict): return .failed(verdict)
            }
        }
    }

    private func find(
        _ wanted: JSONValue, _ picker: String, under value: JSONValue?
    ) async throws(Failure) -> JSONValue {
        let choices = try await choices(picker, under: value)
        let word = wanted.string ?? wanted.integer.map(String.init) ?? ""
        // An id wins over a label: labels may be anything, a number too.
        let hits =
            [
                choices.filter { $0.word == word }, choices.filter { $0.label == word },
                choices.filter { $0.label.lowercased() == word.lowercased() },
            ].first { !$0.isEmpty } ?? []
        if hits.count == 1 { return hits[0].value }
        let shown = InterceptAnswer.shown(wanted)
        if hits.count > 1 {
            throw .refused("\(hits.count) \(picker) of \(connection.integration) are called \(shown); give the id")
        }
        let known = choices.prefix(8).map { "\($0.label) (\($0.word))" }.joined(separator: ", ")
        throw .refused("\(connection.integration) has no \(shown) among its \(picker): \(known)")
    }

    private func choices(_ picker: String, under value: JSONValue?) async throws(Failure) -> [PickerChoice] {
        switch await plugins.targetChoices(picker, under: value, on: connection) {
        case nil: throw .refused("\(connection.integration) has no \(picker) to choose from")
        case .choices(let choices)?: return choices
        case .failed(let verdict)?: throw .failed(verdict)
        }
    }
}
