// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Says where a person finds what a plugin needs, in the words of the plugin's manifest (PCON-03).
public struct CredentialGuide: Sendable, Equatable {
    /// The credential's name in REST, such as `api_token`.
    public let name: String
    private let lines: [String]

    /// Every credential of a plugin, from the answer of `/v1/admin/plugins`.
    public static func all(of plugin: String, in answer: JSONValue) -> [CredentialGuide] {
        let found = (answer["plugins"]?.array ?? []).first { $0["name"]?.string == plugin }
        return (found?["credentials"]?.array ?? []).compactMap { field in
            guard let name = field["name"]?.string else { return nil }
            return CredentialGuide(
                name: name,
                lines: [field["title"]?.string ?? name, field["description"]?.string, field["help"]?.string]
                    .compactMap(\.self))
        }
    }

    public var text: String { Terminal.harmless(lines.joined(separator: "\n  "), keepingLines: true) + "\n" }
}
