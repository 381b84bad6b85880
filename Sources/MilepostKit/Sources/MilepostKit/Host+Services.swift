// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin

// Storage, timers and signatures: each returns an MP_CALL_…; the result comes as an event.
extension Host {
    func storageGet(_ token: UInt64, key: String) -> Int32 {
        guard let call = unsafe table.kv_get else { return MP_CALL_UNSUPPORTED }
        return unsafe withView(key) { unsafe call(instance, token, $0) }
    }

    func storagePut(_ token: UInt64, key: String, value: [UInt8], version: UInt64, lifetime: UInt64) -> Int32 {
        guard let call = unsafe table.kv_put else { return MP_CALL_UNSUPPORTED }
        return unsafe withView(key) { key in
            unsafe withView(value) { unsafe call(instance, token, key, $0, version, lifetime) }
        }
    }

    func storageDelete(_ token: UInt64, key: String, version: UInt64) -> Int32 {
        guard let call = unsafe table.kv_delete else { return MP_CALL_UNSUPPORTED }
        return unsafe withView(key) { unsafe call(instance, token, $0, version) }
    }

    func storageList(_ token: UInt64, prefix: String) -> Int32 {
        guard let call = unsafe table.kv_list else { return MP_CALL_UNSUPPORTED }
        return unsafe withView(prefix) { unsafe call(instance, token, $0) }
    }

    func timer(_ token: UInt64, delay milliseconds: UInt64) -> Int32 {
        guard let call = table.timer_set else { return MP_CALL_UNSUPPORTED }
        return call(instance, token, milliseconds)
    }

    func clearTimer(_ token: UInt64) {
        guard let call = table.timer_clear else { return }
        _ = call(instance, token)
    }

    func sign(_ token: UInt64, credential: String, scheme: String, bytes: [UInt8]) -> Int32 {
        guard let call = unsafe table.sign else { return MP_CALL_UNSUPPORTED }
        return unsafe withView(credential) { credential in
            unsafe withView(scheme) { scheme in
                unsafe withView(bytes) { unsafe call(instance, token, credential, scheme, $0) }
            }
        }
    }
}
