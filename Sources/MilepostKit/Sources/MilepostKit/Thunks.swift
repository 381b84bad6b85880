// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import Synchronization

// The C functions of the table. Each copies what it was given, starts a task and returns at once; no Swift error can
// leave one, because none of them throws.

func describeThunk(_ ret_manifest: UnsafeMutablePointer<mp_view>?) {
    guard let plugin = PluginEntry.registered.withLock({ $0 }) else { return }
    unsafe ret_manifest?.pointee = Tables.shared.manifest(of: plugin)
}

func createThunk(
    _ host: UnsafePointer<mp_host>?, _ instance: UInt64, _ config: mp_view,
    _ ret_self: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> Int32 {
    guard let type = PluginEntry.registered.withLock({ $0 }), let ret_self = unsafe ret_self else { return MP_CONFIG }
    guard let host = unsafe Host(host, instance: instance) else { return MP_CONFIG }
    do {
        let configuration = try jsonValue(config.copied ?? [], as: InstanceConfiguration.self)
        let box = Instance(host: host, metrics: Tables.shared.metrics(of: type))
        box.adopt(try type.init(context: box.context, configuration: configuration))
        // Retained here once, released in destroyThunk once.
        unsafe ret_self.pointee = Unmanaged.passRetained(box).toOpaque()
        return MP_OK
    } catch let verdict as Verdict {
        host.log(0, level: MP_LOG_ERROR, message: "\(verdict.code): \(verdict.message)", fields: nil)
        return verdict.status.rawValue
    } catch {
        host.log(
            0, level: MP_LOG_ERROR, message: "The connection's configuration cannot be read: \(describe(error))",
            fields: nil)
        return MP_CONFIG
    }
}

func destroyThunk(_ pointer: UnsafeMutableRawPointer?) {
    guard let pointer = unsafe pointer else { return }
    unsafe Unmanaged<Instance>.fromOpaque(pointer).takeRetainedValue().abandon()
}

func cancelThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UInt64) {
    instance(at: pointer)?.cancel(op)
}

func eventThunk(_ pointer: UnsafeMutableRawPointer?, _ event: UnsafePointer<mp_event>?) {
    // Up to and without `blob`, every 1.0 event has these fields.
    let minimum = unsafe MemoryLayout<mp_event>.offset(of: \mp_event.blob) ?? MemoryLayout<mp_event>.size
    guard let instance = instance(at: pointer),
        let event = unsafe sizedCopy(of: event, minimum: minimum, zero: mp_event())
    else { return }
    unsafe instance.receive(event)
}

func pingThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    guard let instance = instance(at: pointer), let op = operation(at: op) else { return MP_REJECTED }
    unsafe instance.host.complete(op.id, status: MP_OK, body: Array("{}".utf8))
    return MP_OK
}

func shutdownThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    guard let instance = instance(at: pointer), let op = operation(at: op) else { return MP_REJECTED }
    return unsafe instance.shutdown(op)
}

func configureThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    verb(pointer, op) { (plugin: any Configuring, request: SettingsRequest, operation) in
        try await plugin.configure(request, operation)
    }
}

func connectThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    verb(pointer, op) { (plugin: any Connecting, request: SettingsRequest, operation) in
        try await plugin.connect(request, operation)
    }
}

func provisionThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    verb(pointer, op) { (plugin: any Provisioning, request: ProvisionRequest, operation) in
        try await plugin.provision(request, operation)
    }
}

func deprovisionThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    verb(pointer, op) { (plugin: any Provisioning, request: ProvisionRequest, operation) in
        try await plugin.deprovision(request, operation)
    }
}

func queryThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    verb(pointer, op) { (plugin: any Querying, request: QueryRequest, operation) in
        JSONValue.object(["result": try await plugin.query(request, operation)])
    }
}

func optionsThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    verb(pointer, op) { (plugin: any Choosing, request: OptionsRequest, operation) in
        try await plugin.options(request, operation)
    }
}

func catalogThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    verb(pointer, op) { (plugin: any Cataloguing, _: JSONValue, operation) in
        JSONValue.object(["objects": .array(try await plugin.catalog(operation))])
    }
}

func deliverThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    verb(pointer, op) { (plugin: any Delivering, request: DeliverRequest, operation) in
        try await deliverBatch(plugin, request, operation)
    }
}

func reconcileThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    verb(pointer, op) { (plugin: any Reconciling, request: DeliverRequest, operation) in
        await reconcileBatch(plugin, request, operation)
    }
}

func interceptThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    verb(pointer, op) { (plugin: any Intercepting, request: JSONValue, operation) in
        try await plugin.intercept(request, operation)
    }
}

func webhookThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    verb(pointer, op) { (plugin: any WebhookReceiving, request: JSONValue, operation) in
        try await plugin.webhook(request, operation)
    }
}

func pullThunk(_ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?) -> Int32 {
    verb(pointer, op) { (plugin: any Pulling, request: JSONValue, operation) in
        try await plugin.pull(request, operation)
    }
}

/// What all verbs share: copy the body, read it in a task of the instance, run, and end with one status and body.
@safe private func verb<P: Sendable, Request: Decodable & Sendable, Reply: Encodable & SendableMetatype>(
    _ pointer: UnsafeMutableRawPointer?, _ op: UnsafePointer<mp_op>?,
    _ work: @escaping @Sendable (P, Request, Operation) async throws -> Reply
) -> Int32 {
    guard let instance = instance(at: pointer), let op = operation(at: op) else { return MP_REJECTED }
    let body = unsafe op.body.copied ?? Array("{}".utf8)
    return unsafe instance.start(op) { operation in
        do {
            guard let plugin = instance.plugin as? P else {
                throw Verdict.rejected(code: "verb_missing", message: "The plugin lacks this verb.")
            }
            let request: Request
            do { request = try jsonValue(body) } catch {
                throw Verdict.rejected(code: "request_unreadable", message: "The body of the operation is unreadable.")
            }
            return (MP_OK, try jsonBytes(try await work(plugin, request, operation)))
        } catch {
            let verdict = verdict(for: error, operation.trace)
            // WireError holds strings and integers only: encoding it cannot fail.
            return (verdict.status.rawValue, (try? jsonBytes(verdict.wire)) ?? [])
        }
    }
}

@safe private func instance(at pointer: UnsafeMutableRawPointer?) -> Instance? {
    guard let pointer = unsafe pointer else { return nil }
    return unsafe Unmanaged<Instance>.fromOpaque(pointer).takeUnretainedValue()
}

@safe private func operation(at pointer: UnsafePointer<mp_op>?) -> mp_op? {
    unsafe sizedCopy(of: pointer, minimum: MemoryLayout<mp_op>.size, zero: mp_op())
}
