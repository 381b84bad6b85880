// SPDX-License-Identifier: Apache-2.0

/// The metrics of a manifest, by name. The wire speaks of indexes; a plugin's author does not have to.
struct MetricNames: Sendable {
    struct Metric: Sendable, Decodable {
        struct Label: Sendable, Decodable {
            var name: String
            var values: [String]
        }
        var name: String
        var labels: [Label]?
    }

    private var metrics: [String: (index: UInt32, labels: [Metric.Label])] = [:]

    private struct Manifest: Decodable { var metrics: [Metric]? }

    /// A manifest that cannot be read has no metrics: the host refuses it before any is counted.
    init(manifest: [UInt8]) {
        let declared = (try? jsonValue(manifest, as: Manifest.self))?.metrics ?? []
        for (index, metric) in declared.enumerated() where metrics[metric.name] == nil {
            metrics[metric.name] = (UInt32(index), metric.labels ?? [])
        }
    }

    /// - Returns: nil when the manifest has no such metric, label or value.
    func resolve(_ name: String, _ labels: [String: String]) -> (index: UInt32, labels: [UInt32])? {
        guard let metric = metrics[name], metric.labels.count == labels.count else { return nil }
        var indexes: [UInt32] = []
        for label in metric.labels {
            guard let value = labels[label.name], let index = label.values.firstIndex(of: value) else { return nil }
            indexes.append(UInt32(index))
        }
        return (metric.index, indexes)
    }
}

extension PluginContext {
    /// Adds to a counter of the manifest. `labels` must give a declared value for each declared label.
    ///
    /// A name or value that the manifest lacks counts nothing and leaves a warning in the log: a typing error in a
    /// metric is no reason to lose a delivery.
    public func count(_ metric: String, by value: Int64 = 1, labels: [String: String] = [:]) {
        guard let found = resolve(metric, labels) else { return }
        calls.host.metric(found.index, add: value, labels: found.labels)
    }

    /// Observes a value of a histogram of the manifest, in the manifest's unit. Labels as for `count`.
    public func observe(_ metric: String, _ value: Int64, labels: [String: String] = [:]) {
        guard let found = resolve(metric, labels) else { return }
        calls.host.metric(found.index, observe: value, labels: found.labels)
    }

    private func resolve(_ metric: String, _ labels: [String: String]) -> (index: UInt32, labels: [UInt32])? {
        if let found = metrics.resolve(metric, labels) { return found }
        log(.warning, "the manifest has no such metric or label value", ["metric": .string(metric)])
        return nil
    }
}
