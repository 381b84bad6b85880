// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux
internal import Synchronization

extension WorkerProcess {
    /// A frame of an instance. The worker has told its plugin that an event will come, so a refusal becomes one.
    func route(_ frame: milepost_frame, _ payload: FrameReader, to instance: PluginInstance, _ attachment: Attachment) {
        let token = payload.scalar(0)
        switch Int(frame.type) {
        case Int(MILEPOST_FRAME_CREATED): instance.created(frame.instance, status: payload.int32(0))
        case Int(MILEPOST_FRAME_DESTROYED):
            _ = state.withLock { $0.instances.removeValue(forKey: frame.instance) }
        case Int(MILEPOST_FRAME_COMPLETE):
            _ = instance.complete(frame.op, status: payload.int32(0), body: payload.bytes(0))
        case Int(MILEPOST_FRAME_PARTIAL): _ = instance.partial(frame.op, body: payload.bytes(0))
        case Int(MILEPOST_FRAME_NOT_ACCEPTED): instance.notAccepted(frame.op, status: payload.int32(0))
        case Int(MILEPOST_FRAME_HTTP):
            answer(.http, token, frame.op, instance.submit(draft(frame, payload), from: attachment), attachment)
        case Int(MILEPOST_FRAME_HTTP_CANCEL): _ = instance.cancelHTTP(token: token)
        case Int(MILEPOST_FRAME_JOURNAL):
            let status = instance.putJournal(
                frame.op, token: token, record: payload.uint32(1), step: payload.bytes(0), result: payload.bytes(1),
                from: attachment)
            answer(.journal, token, frame.op, status, attachment)
        case Int(MILEPOST_FRAME_LOG):
            instance.log(
                payload.int32(0), operation: frame.op, message: payload.bytes(0), fields: payload.view(1))
        case Int(MILEPOST_FRAME_METRIC_ADD), Int(MILEPOST_FRAME_METRIC_OBSERVE):
            _ = instance.metric(
                isObservation: Int(frame.type) == Int(MILEPOST_FRAME_METRIC_OBSERVE), index: payload.uint32(0),
                value: Int64(bitPattern: payload.scalar(1)),
                labels: payload.scalars.dropFirst(2).map { UInt32(truncatingIfNeeded: $0) })
        case Int(MILEPOST_FRAME_KV_GET):
            keyValue(.get(key: payload.bytes(0)), token, instance, attachment)
        case Int(MILEPOST_FRAME_KV_PUT):
            let milliseconds = payload.scalar(2)
            let life: Duration? = milliseconds == 0 ? nil : .milliseconds(Int64(clamping: milliseconds))
            keyValue(
                .put(key: payload.bytes(0), value: payload.bytes(1), version: payload.scalar(1), timeToLive: life),
                token, instance, attachment)
        case Int(MILEPOST_FRAME_KV_DELETE):
            keyValue(.delete(key: payload.bytes(0), version: payload.scalar(1)), token, instance, attachment)
        case Int(MILEPOST_FRAME_KV_LIST):
            keyValue(.list(prefix: payload.bytes(0)), token, instance, attachment)
        case Int(MILEPOST_FRAME_TIMER_SET):
            _ = instance.setTimer(token: token, delayMilliseconds: payload.scalar(1), from: attachment)
        case Int(MILEPOST_FRAME_TIMER_CLEAR): _ = instance.clearTimer(token: token)
        case Int(MILEPOST_FRAME_CREDENTIAL_REJECTED):
            _ = instance.rejectCredential(payload.bytes(0), reason: payload.bytes(1), operation: frame.op)
        case Int(MILEPOST_FRAME_SIGN):
            let status = instance.sign(
                payload.bytes(0), scheme: payload.bytes(1), bytes: payload.bytes(2), token: token, from: attachment)
            answer(.signature, token, 0, status, attachment)
        default: break  // both ends are of one build; an unknown type says nothing to us
        }
    }

    private func answer(
        _ kind: PluginEvent.Kind, _ token: UInt64, _ operation: UInt64, _ status: Int32, _ attachment: Attachment
    ) {
        guard status != PluginCallStatus.ok else { return }
        deliver(PluginEvent(kind, token: token, operation: operation, status: status), instance: attachment.id)
    }

    private func keyValue(
        _ request: KeyValueRequest, _ token: UInt64, _ instance: PluginInstance, _ attachment: Attachment
    ) {
        answer(.keyValue, token, 0, instance.keyValue(request, token: token, from: attachment), attachment)
    }

    private func draft(_ frame: milepost_frame, _ payload: FrameReader) -> PluginInstance.HTTPDraft {
        var draft = PluginInstance.HTTPDraft()
        draft.operation = frame.op
        draft.token = payload.scalar(0)
        draft.flags = payload.uint32(1)
        draft.responseCap = payload.scalar(2)
        draft.timeoutMilliseconds = payload.uint32(3)
        draft.cost = payload.uint32(4)
        draft.records = payload.scalars.dropFirst(5).map { UInt32(truncatingIfNeeded: $0) }
        draft.method = payload.bytes(0)
        draft.url = payload.bytes(1)
        draft.body = payload.bytes(2)
        draft.credential = payload.view(3)
        draft.placement = payload.view(4)
        draft.step = payload.view(5)
        draft.bucket = payload.view(6)
        for index in stride(from: 7, to: payload.views.count - 1, by: 2) {
            draft.headers.append((payload.bytes(index), payload.bytes(index + 1)))
        }
        return draft
    }
}
