// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules

extension DesiredStateReader {
    /// A workspace's list of rolling rules, in the shape of a file of rules. Read whole here, because a rule's id, by which
    /// it is told apart from others, may have to be made from its name.
    mutating func rules(_ node: ConfigurationNode, workspace: String, place: String) {
        let items: [ConfigurationNode]
        switch node.content {
        case .null: items = []
        case .list(let list): items = list
        case .scalar, .map:
            return issues.append(
                node.origin.issue(.wrongType, "\(place): expected a list of rules, found \(node.summary)"))
        }
        guard items.count <= RollingRule.maximumCount else {
            return issues.append(
                node.origin.issue(
                    .tooLarge,
                    "\(place): \(items.count) rules are more than the \(RollingRule.maximumCount) of a workspace"))
        }
        for (index, item) in items.enumerated() { rule(item, workspace: workspace, place: "\(place)[\(index)]") }
    }

    private mutating func rule(_ node: ConfigurationNode, workspace: String, place: String) {
        var lines: [String: Int] = [:]
        let document = RuleFile.value(node, at: "", &lines)
        var object = DesiredObject(
            kind: .rule, workspace: workspace, name: "", source: file, line: node.origin.line, place: place,
            document: document.object ?? [:])
        for (pointer, line) in lines where !pointer.isEmpty {
            object.fields[pointer] = DesiredObject.Field(line: line, place: place + pointer.replacing("/", with: "."))
        }
        // A list of rules in the place of one would be read as several.
        guard case .map = node.content, document["rules"] == nil else {
            return issues.append(
                node.origin.issue(.wrongType, "\(place): expected a rule, a map, found \(node.summary)"))
        }
        let read = RollingRuleReader.read(document)
        issues += read.errors.map { error in
            let field = object.field(at: error.pointer)
            return Origin(file: file, line: field.line).issue(.wrongType, "\(field.place): \(error.message)")
        }
        guard let rule = read.rules.first else { return }
        object.name = rule.id
        objects.append(object)
    }
}
