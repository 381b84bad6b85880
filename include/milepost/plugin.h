/* SPDX-License-Identifier: Apache-2.0
 *
 * milepost/plugin.h: the Milepost plugin ABI, version 1. This header is the specification.
 *
 * A plugin is a shared object that exports exactly one symbol, `milepost_plugin_v1`, beside a manifest file of the
 * same stem (`acme.so`, `acme.json`). It translates: "deliver this" into HTTP requests, answers into verdicts. All
 * waiting, remembering, limiting, signing and retrying is the host's.
 *
 * Rules that hold everywhere:
 *   1. Ownership never crosses. Pointers are valid until the called function returns; the receiver copies.
 *   2. Calls into one instance never overlap, whatever thread they come on. Instances may run in parallel.
 *   3. A verb returns within 10 ms; long work goes to the plugin's own threads or waits for events.
 *   4. Every accepted operation is completed exactly once, inside the verb or later, from any thread.
 *   5. Host functions may be called from any thread, never block, and never call the plugin before they return.
 *      Their results come through `on_event`.
 *   6. No exception, panic or longjmp crosses. The SDKs catch them and complete with an error.
 *   7. A plugin is never unloaded.
 *
 * Every declaration below says: purpose; direction (H>P: the host calls the plugin, P>H: the other way); thread; may
 * it block; lifetime of its arguments; errors; since which minor.
 *
 * Changes: 1.0 first release.
 */
#ifndef MILEPOST_PLUGIN_H
#define MILEPOST_PLUGIN_H

#include "types.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * What the host tells about itself before anything else.
 * Lifetime: valid until the entry returns. Since 1.0.
 */
typedef struct mp_host_info {
    uint32_t struct_size;
    uint32_t abi_minor;       /**< what this host offers; a plugin that needs more answers null */
    int32_t isolation;        /**< MP_ISOLATION_… */
    uint32_t schema_revision; /**< of the JSON bodies */
    mp_view host_version;     /**< for logs, never for decisions */
} mp_host_info;

/**
 * The host's services. One table per process, valid for the life of the process.
 *
 * `instance` is the id that `create` received; a stale one is answered with MP_CALL_STALE, never with a crash.
 */
typedef struct mp_host {
    uint32_t struct_size;
    uint32_t abi_minor;

    /**
     * Ends an operation.
     * P>H. Any thread, also inside the verb. Never blocks. `result` is copied.
     * `status` MP_OK: `result` is schemas/<verb>.result.json; otherwise it is schemas/error.json.
     * A second completion is logged as misbehaviour and ignored; records without a result count as MP_UNCERTAIN.
     * Returns MP_CALL_OK, MP_CALL_STALE, MP_CALL_TOO_LARGE. Since 1.0.
     */
    int32_t (*op_complete)(uint64_t instance, uint64_t op, int32_t status, mp_view result);

    /**
     * Reports one record's result early, so that a crash leaves fewer unknowns.
     * P>H. Any thread. Never blocks. `result` is one element of "records" in schemas/deliver.result.json. Since 1.0.
     */
    int32_t (*op_partial)(uint64_t instance, uint64_t op, mp_view result);

    /**
     * Submits a request. The host checks the host name against the approved ones, waits for its limiters, writes the
     * intent of a non-idempotent request to disk, adds the credential, sends once, writes the outcome, and delivers
     * MP_EVENT_HTTP with the wire state. It never repeats a non-idempotent request by itself.
     * P>H. Any thread. Never blocks. Everything is copied.
     * Returns MP_CALL_OK (an event will come, exactly one), MP_CALL_DENIED, MP_CALL_INVALID, MP_CALL_STALE,
     * MP_CALL_TOO_LARGE, MP_CALL_BUSY (none will come). Since 1.0.
     */
    int32_t (*http_submit)(uint64_t instance, const mp_http_request *request);

    /** Gives up a request. Its event still comes, with the wire state. P>H. Any thread. Never blocks. Since 1.0. */
    int32_t (*http_cancel)(uint64_t instance, uint64_t token);

    /**
     * Stores the result of a finished step, so that a retry resumes after it.
     * P>H. Any thread. Never blocks: MP_EVENT_JOURNAL with `token` says that it is on disk.
     * `record` is the record's index in the operation, `step` a name that the plugin chose, `result` any JSON object.
     * Storing the same step again replaces its result. Since 1.0.
     */
    int32_t (*journal_put)(
        uint64_t instance, uint64_t op, uint64_t token, uint32_t record, mp_view step, mp_view result);

    /** Whether a line of this level would be kept: ask before building an expensive one. P>H. Any thread. Since 1.0. */
    int32_t (*log_enabled)(uint64_t instance, int32_t level);

    /**
     * Writes a log line. `fields` is a flat JSON object or absent; the host adds plugin, connection and operation,
     * limits the rate and masks secrets. P>H. Any thread. Never blocks; past the limit lines are counted and left
     * out. Since 1.0.
     */
    void (*log)(uint64_t instance, uint64_t op, int32_t level, mp_view message, mp_view fields);

    /** Adds to a counter of the manifest. `labels` are indexes into its label values. P>H. Any thread. Since 1.0. */
    int32_t (*metric_add)(
        uint64_t instance, uint32_t metric, int64_t value, const uint32_t *labels, uint64_t label_count);

    /** Observes a value of a histogram, in the unit of the manifest. P>H. Any thread. Since 1.0. */
    int32_t (*metric_observe)(
        uint64_t instance, uint32_t metric, int64_t value, const uint32_t *labels, uint64_t label_count);

    /**
     * Small storage of the connection: 64 KiB a value, 1 MiB in all by default. Results come as MP_EVENT_KV.
     * P>H. Any thread. Never blocks. `version` 0 writes whatever is there; otherwise it must be the stored version
     * (compare and swap; MP_CALL_INVALID in the event when it is not). `ttl_ms` 0 keeps it. Since 1.0.
     */
    int32_t (*kv_get)(uint64_t instance, uint64_t token, mp_view key);
    int32_t (*kv_put)(
        uint64_t instance, uint64_t token, mp_view key, mp_view value, uint64_t version, uint64_t ttl_ms);
    int32_t (*kv_delete)(uint64_t instance, uint64_t token, mp_view key, uint64_t version);
    int32_t (*kv_list)(uint64_t instance, uint64_t token, mp_view prefix);

    /** Both clocks. P>H. Any thread. Synchronous. Writes at most `ret_time->struct_size` bytes. Since 1.0. */
    int32_t (*now)(uint64_t instance, mp_time *ret_time);

    /** One-shot timer, floor 10 ms; MP_EVENT_TIMER with `token`. Gone at shutdown. P>H. Any thread. Since 1.0. */
    int32_t (*timer_set)(uint64_t instance, uint64_t token, uint64_t delay_ms);
    int32_t (*timer_clear)(uint64_t instance, uint64_t token);

    /** Fills a buffer with random bytes; seeded under the validator. P>H. Any thread. Synchronous. Since 1.0. */
    int32_t (*random)(uint64_t instance, uint8_t *ret_bytes, uint64_t len);

    /**
     * Public facts of a credential (scheme, account hint, expiry, scopes) as JSON, never the secret.
     * P>H. Any thread. Synchronous copy: at most `capacity` bytes; `ret_len` is the whole length. Since 1.0.
     */
    int32_t (*cred_info)(
        uint64_t instance, mp_view credential, uint8_t *ret_json, uint64_t capacity, uint64_t *ret_len);

    /** Says that the vendor refused a credential, so that the host refreshes or pauses. P>H. Any thread. Since 1.0. */
    int32_t (*cred_reject)(uint64_t instance, uint64_t op, mp_view credential, mp_view reason);

    /**
     * Signs bytes with a credential, for schemes that no placement covers. MP_EVENT_SIGNATURE brings the result.
     * `scheme`: "hmac-sha256", "ed25519". P>H. Any thread. Never blocks. Since 1.0.
     */
    int32_t (*sign)(uint64_t instance, uint64_t token, mp_view credential, mp_view scheme, mp_view bytes);

    /**
     * Copies a part of a large body. P>H. Any thread. Synchronous. `ret_len` is what was copied, 0 at the end.
     * Since 1.0.
     */
    int32_t (*blob_read)(
        uint64_t instance, uint64_t blob, uint64_t offset, uint8_t *ret_bytes, uint64_t capacity, uint64_t *ret_len);

    /**
     * A sized const table for an extension id such as "milepost.trace/1", or null. Valid until destroy.
     * P>H. From `create` on. Since 1.0.
     */
    const void *(*get_extension)(uint64_t instance, mp_view id);
} mp_host;

/**
 * The plugin's table. Const, valid for the life of the process. A verb that the plugin lacks is null; the host then
 * answers MP_UNSUPPORTED in its place. `describe`, `create`, `destroy`, `on_event`, `ping` and `shutdown` must be
 * there, and so must `reconcile` wherever an action's manifest says that its requests are not idempotent.
 *
 * Every verb: H>P. On the instance's symbolic thread. Must not block. `op` and `op->body` are valid until it returns.
 * Returns MP_OK when the operation was accepted and will be completed exactly once; any other status refuses it, and
 * no completion follows. Since 1.0.
 */
typedef struct mp_plugin {
    uint32_t struct_size;
    uint32_t abi_minor;      /**< of the header it was compiled with */
    uint32_t min_host_minor; /**< the oldest host it works with */
    uint32_t reserved;

    /** The manifest: the bytes of the shipped file, up to white space. H>P. Pure, under 50 ms, no host services. The
     *  bytes are static. Since 1.0. */
    void (*describe)(mp_view *ret_manifest);

    /**
     * Makes an instance for one connection. `config` is schemas/instance.json: settings, endpoints, public facts of
     * the credentials. H>P. Must not block. `ret_self` is the plugin's own pointer; the host only hands it back.
     * Returns MP_OK or a status; `ret_self` is left alone on failure. Since 1.0.
     */
    int32_t (*create)(const mp_host *host, uint64_t instance, mp_view config, void **ret_self);

    /** Ends an instance after its shutdown was completed. The plugin has joined its threads by then. Since 1.0. */
    void (*destroy)(void *self);

    /** Checks and adopts new settings: {"settings":…}. Result: field errors by JSON pointer, warnings. */
    int32_t (*configure)(void *self, const mp_op *op);
    /** Proves that the credential works and says for whom. Changes nothing at the vendor. */
    int32_t (*connect)(void *self, const mp_op *op);
    /** Brings desired objects (properties, templates, webhooks) into being. Idempotent, journalled. */
    int32_t (*provision)(void *self, const mp_op *op);
    /** Takes them away again. Idempotent. */
    int32_t (*deprovision)(void *self, const mp_op *op);
    /** A read-only look-up: find a contact, a deal's stage. */
    int32_t (*query)(void *self, const mp_op *op);
    /** Live choices for a picker of the manifest. */
    int32_t (*options)(void *self, const mp_op *op);
    /** The vendor's objects with their fields. Reserved: the shape is settled, no daemon calls it yet. */
    int32_t (*catalog)(void *self, const mp_op *op);
    /** Makes records happen at the vendor, one result for each. */
    int32_t (*deliver)(void *self, const mp_op *op);
    /** Finds out whether requests with an unknown outcome were applied. Sends no change. "Not found" within the
     *  vendor's indexing lag is "unknown", never "not_applied". */
    int32_t (*reconcile)(void *self, const mp_op *op);
    /** Lets through, changes, holds, drops or routes an event before it is delivered. */
    int32_t (*intercept)(void *self, const mp_op *op);
    /** Turns a vendor's call to us into events. Reserved: the shape is settled, no daemon calls it yet. */
    int32_t (*webhook)(void *self, const mp_op *op);
    /** Reads a page of a stream from a cursor that the host keeps. Reserved: the shape is settled, no daemon calls it
     *  yet, because there is nothing to read into until vendors' data has tables of its own. */
    int32_t (*pull)(void *self, const mp_op *op);
    /** Completes with MP_OK: goes through the instance's queue, so a wedged instance is seen. */
    int32_t (*ping)(void *self, const mp_op *op);
    /** Accepts nothing more, finishes or gives up what runs, joins own threads, completes before the deadline. */
    int32_t (*shutdown)(void *self, const mp_op *op);

    /** Asks to give up an operation, which is still completed. Idempotent; an unknown id is fine. H>P. Fast. */
    void (*cancel)(void *self, uint64_t op);
    /** Delivers the result of an asynchronous host call. H>P. Fast. `event` is valid until it returns. */
    void (*on_event)(void *self, const mp_event *event);
    /** A sized const table for an extension id, or null. May be null itself. */
    const void *(*get_extension)(void *self, mp_view id);
} mp_plugin;

/** Visibility of the one exported symbol. */
#if defined(__GNUC__)
#define MP_EXPORT __attribute__((visibility("default")))
#else
#define MP_EXPORT
#endif

/**
 * The entry. Called once or more; does no I/O and starts no thread.
 * H>P. Any thread. Must not block. `info` is valid until it returns; the table for the life of the process.
 * Returns null when the plugin will not run on this host and then sets `*ret_status` to MP_UNSUPPORTED (host too old)
 * or MP_CONFIG. Since 1.0.
 */
MP_EXPORT const mp_plugin *milepost_plugin_v1(const mp_host_info *info, int32_t *ret_status);

/** The entry's type and name, for hosts. */
typedef const mp_plugin *(*mp_plugin_entry)(const mp_host_info *info, int32_t *ret_status);
#define MP_ENTRY_NAME "milepost_plugin_v1"

/** Smallest table sizes that a 1.x host or plugin accepts: the layout of 1.0, frozen. */
#define MP_PLUGIN_SIZE_1_0 176u
#define MP_HOST_SIZE_1_0 184u

#ifdef __cplusplus
}
#endif
#endif
