// SPDX-License-Identifier: Apache-2.0

public import FoundationEssentials
import Glibc
import MilepostModel

extension DesiredState {
    /// Files that one run takes; more is a mistake, such as a folder that holds something else.
    static let maximumFiles = 500

    /// Reads files, and of folders every `*.yaml` and `*.yml` in them, not below. Blocks on file reads.
    ///
    /// - Throws: every issue of every file at once.
    public static func load(paths: [String]) throws(ConfigurationError) -> DesiredState {
        var state = DesiredState()
        var issues: [ConfigurationIssue] = []
        for path in paths {
            do throws(ConfigurationError) { try state.add(path) } catch { issues += error.issues }
        }
        state.files = state.files.enumerated().filter { state.files.firstIndex(of: $0.element) == $0.offset }
            .map(\.element)
        if state.files.count > maximumFiles {
            issues.append(
                ConfigurationIssue(
                    code: .tooLarge, file: paths[0], line: nil,
                    message: "\(state.files.count) files are more than the \(maximumFiles) of one run"))
            state.files = []
        }
        for file in state.files {
            do throws(ConfigurationError) {
                state.objects += try parse(Configuration.contents(of: file), file: file)
            } catch { issues += error.issues }
        }
        issues += state.repetitions
        guard issues.isEmpty else { throw ConfigurationError(issues: issues) }
        return state
    }

    /// Reads one file's bytes.
    ///
    /// - Parameter file: its absolute path, for messages, for paths beside it and as the name by which it manages.
    public static func parse(_ bytes: Data, file: String) throws(ConfigurationError) -> [DesiredObject] {
        var reader = DesiredStateReader(file: file)
        reader.read(try Document.parse(bytes, file: file))
        guard reader.issues.isEmpty else { throw ConfigurationError(issues: reader.issues) }
        return reader.objects
    }

    private mutating func add(_ path: String) throws(ConfigurationError) {
        func fail(_ message: String) -> ConfigurationError {
            ConfigurationError(issues: [ConfigurationIssue(code: .unreadable, file: path, line: nil, message: message)])
        }
        guard let real = unsafe realpath(path, nil) else { throw fail("does not exist or cannot be reached") }
        let absolute = unsafe String(cString: real)
        unsafe free(real)
        guard FileStatus(path: absolute)?.isDirectory == true else { return files.append(absolute) }
        folders.append(absolute)
        // A folder without files is what remains when the last one was removed: then there is only something to prune.
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: absolute) else {
            throw fail("cannot be listed; reading and entering it must be allowed")
        }
        files += names.filter { ($0.hasSuffix(".yaml") || $0.hasSuffix(".yml")) && !$0.hasPrefix(".") }.sorted()
            .map { "\(absolute)/\($0)" }
    }

    /// A thing that two places want: whichever came last would win, and the other would undo it with its next run.
    private var repetitions: [ConfigurationIssue] {
        var first: [String: DesiredObject] = [:]
        return objects.compactMap { object in
            let key = "\(object.kind.rawValue)/\(object.workspace)/\(object.name)"
            guard let earlier = first[key] else {
                first[key] = object
                return nil
            }
            return ConfigurationIssue(
                code: .duplicateKey, file: object.source, line: object.line,
                message: "\(object.place) stands in \(earlier.source)\(earlier.line.map { ":\($0)" } ?? "") already")
        }
    }
}
