// SPDX-License-Identifier: Apache-2.0

/// A plugin: one object for each connection.
///
/// Conform to this and to the protocols of the verbs that the plugin has (`Connecting`, `Delivering` …); a verb whose
/// protocol it lacks is null in the table, and the host answers for it. Verbs run in tasks of their own, so two
/// operations of one instance may interleave at an `await`: state of the plugin belongs in an actor or behind a lock.
///
/// ```swift
/// @c @implementation
/// public func milepost_plugin_v1(
///     _ info: UnsafePointer<mp_host_info>!, _ ret_status: UnsafeMutablePointer<Int32>!
/// ) -> UnsafePointer<mp_plugin>! { unsafe PluginEntry.table(of: MyPlugin.self, info, ret_status) }
/// ```
public protocol Plugin: AnyObject, Sendable {
    /// The bytes of the shipped manifest. Read once.
    static var manifest: [UInt8] { get }
    /// Makes an instance. Called in `create`: no host service except the log may be used here.
    /// - Throws: any error; the host then logs it and holds the connection.
    init(context: PluginContext, configuration: InstanceConfiguration) throws
}

public protocol Configuring: Plugin {
    /// Checks new settings and adopts them when there are no errors.
    func configure(_ request: SettingsRequest, _ operation: Operation) async throws -> ConfigureResult
}

public protocol Connecting: Plugin {
    /// Proves that the credential works and says for whom. Changes nothing at the vendor.
    func connect(_ request: SettingsRequest, _ operation: Operation) async throws -> ConnectResult
}

public protocol Provisioning: Plugin {
    /// Brings desired objects into being; idempotent.
    func provision(_ request: ProvisionRequest, _ operation: Operation) async throws -> ProvisionResult
    /// Takes them away again; idempotent.
    func deprovision(_ request: ProvisionRequest, _ operation: Operation) async throws -> ProvisionResult
}

public protocol Querying: Plugin {
    /// A read-only look-up. Returns the value of `result`.
    func query(_ request: QueryRequest, _ operation: Operation) async throws -> JSONValue
}

public protocol Choosing: Plugin {
    /// Live choices for a picker of the manifest.
    func options(_ request: OptionsRequest, _ operation: Operation) async throws -> OptionsResult
}

public protocol Cataloguing: Plugin {
    /// The vendor's objects with their fields. Returns the value of `objects`. Reserved: no daemon calls it yet.
    func catalog(_ operation: Operation) async throws -> [JSONValue]
}

public protocol Delivering: Plugin {
    /// Makes one record happen. Records of a batch come one after another. Throw a `Verdict`; an error of another
    /// kind, and an answer that came after a non-idempotent request of unknown fate, count as uncertain.
    func deliver(_ record: DeliveryRecord, action: String, _ operation: Operation) async throws -> Delivered
}

/// A plugin whose vendor takes many records in one request.
public protocol BatchDelivering: Delivering {
    /// Makes the records of a batch happen and tells what became of each, by the record's index. A record that is
    /// missing in the answer counts as uncertain. An error thrown is the verdict of every record.
    ///
    /// `operation.of(record)` is the operation of one record, for its steps and its journal; `operation.each` goes
    /// through records one after another, as a plugin without batches would.
    func deliver(batch records: [DeliveryRecord], action: String, _ operation: Operation) async throws -> Outcomes
}

extension BatchDelivering {
    public func deliver(_ record: DeliveryRecord, action: String, _ operation: Operation) async throws -> Delivered {
        guard let outcome = try await deliver(batch: [record], action: action, operation)[record.index] else {
            throw Verdict.uncertain(code: "result_missing", message: "The plugin gave no result for the record.")
        }
        return try outcome.get()
    }
}

public protocol Reconciling: Plugin {
    /// Finds out whether a step of unknown outcome was applied. Sends no change. An error counts as "unknown".
    func reconcile(_ record: DeliveryRecord, action: String, _ operation: Operation) async throws -> Finding
}

public protocol Intercepting: Plugin {
    /// Judges an event. Body and result are the whole JSON objects of the schema.
    func intercept(_ request: JSONValue, _ operation: Operation) async throws -> JSONValue
}

public protocol WebhookReceiving: Plugin {
    /// Turns a vendor's call to us into events. Body and result are the whole JSON objects of the schema. Reserved: no
    /// daemon calls it yet.
    func webhook(_ request: JSONValue, _ operation: Operation) async throws -> JSONValue
}

public protocol Pulling: Plugin {
    /// Reads a page of a stream. Body and result are the whole JSON objects of the schema. Reserved: no daemon calls it
    /// yet.
    func pull(_ request: JSONValue, _ operation: Operation) async throws -> JSONValue
}
