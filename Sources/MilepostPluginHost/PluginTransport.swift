// SPDX-License-Identifier: Apache-2.0

/// A result of an asynchronous host call on its way to the plugin (`mp_event`).
struct PluginEvent: Sendable {
    enum Kind: Int32 { case http = 1, keyValue, timer, credential, config, journal, signature }
    let kind: Kind
    let token: UInt64
    let operation: UInt64
    let status: Int32
    var wire: Int32 = 0
    var httpStatus: Int32 = 0
    var json: [UInt8]?
    var data: [UInt8]?

    init(_ kind: Kind, token: UInt64, operation: UInt64 = 0, status: Int32 = PluginCallStatus.ok) {
        self.kind = kind
        self.token = token
        self.operation = operation
        self.status = status
    }
}

/// What `mp_op` carries.
struct OperationStart: Sendable {
    let id: UInt64
    let verb: PluginVerb
    let deadline: UInt64
    let attempt: UInt32
    let body: [UInt8]
}

/// The way to the plugin's code of one instance: a worker process, or a thread of our own. Every call returns at once.
protocol PluginTransport: AnyObject, Sendable {
    func attach(_ instance: PluginInstance, id: UInt64, config: [UInt8], credentials: [(name: String, facts: [UInt8])])
    /// False when nothing reaches the plugin any more.
    func start(_ operation: OperationStart, instance: UInt64) -> Bool
    func cancel(operation: UInt64, instance: UInt64)
    func deliver(_ event: PluginEvent, instance: UInt64)
    func update(credential: String, facts: [UInt8], instance: UInt64)
    func destroy(instance: UInt64)
    /// The plugin's code does not come back: end the process, or give the thread up.
    func condemn(_ reason: String, instance: UInt64)
}

/// One incarnation of an instance. Ids are never used twice, so a late word from a dead one finds nothing.
struct Attachment: Sendable {
    let transport: any PluginTransport
    let id: UInt64
}

/// Why nothing can be attached now.
struct Unavailable: Error, Sendable {
    let code: String
    let message: String
}

/// Finds the transport for a plugin's instances: starts and restarts workers, or makes threads.
protocol PluginBackend: AnyObject, Sendable {
    func transport(until deadline: UInt64) async -> Result<any PluginTransport, Unavailable>
    /// Called on the loop's thread at least every heartbeat, and every few milliseconds while operations run.
    func tick(now: UInt64)
    func health() -> BackendHealth
    func stop()
}

struct BackendHealth: Sendable {
    var state: PluginHealth.State
    var reason: String?
    var processID: Int32?
    var landlockABI: UInt32 = 0
    var seccompStages: UInt32 = 0
    var restarts: Int = 0
    var lastCrash: String?
}
