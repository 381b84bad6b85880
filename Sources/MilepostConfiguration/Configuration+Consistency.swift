// SPDX-License-Identifier: Apache-2.0

extension Configuration {
    /// Values that are each right and do not go together. Reported at the line of the first key of the pair.
    func inconsistencies(_ root: ConfigurationNode) -> [ConfigurationIssue] {
        var issues: [ConfigurationIssue] = []
        func check(_ holds: Bool, _ path: [String], _ message: String) {
            guard !holds else { return }
            let entry = root.entries(at: path.dropLast()).first { $0.key == path.last }
            let origin = entry?.value.origin ?? Origin(file: root.origin.file, line: nil)
            issues.append(origin.issue(.inconsistent, "\(path.joined(separator: ".")): \(message)"))
        }
        check(
            retention.dedupeDays >= retention.clicksDays, ["retention", "dedupe_days"],
            "\(retention.dedupeDays) is less than retention.clicks_days \(retention.clicksDays); "
                + "a repeated click would count twice")
        check(
            delivery.operationTimeout >= delivery.requestTimeout, ["delivery", "operation_timeout"],
            "\(Units.text(delivery.operationTimeout)) is shorter than delivery.request_timeout "
                + Units.text(delivery.requestTimeout))
        check(
            intake.maxLine <= intake.maxBody, ["intake", "max_line"],
            "\(Units.text(bytes: intake.maxLine)) is larger than intake.max_body \(Units.text(bytes: intake.maxBody))")
        let data = dataDirectory.hasSuffix("/") ? dataDirectory : dataDirectory + "/"
        check(
            !kms.path.hasPrefix(data), ["kms", "path"],
            "\(kms.path) lies inside data_dir, so that a backup would hold the key beside what it locks")
        return issues
    }
}
