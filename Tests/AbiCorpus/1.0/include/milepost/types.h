/* SPDX-License-Identifier: Apache-2.0
 *
 * milepost/types.h: the values that cross the plugin boundary. Include <milepost/plugin.h>.
 *
 * Layout rules (they hold for every struct of this ABI):
 *   - fixed-width integers only, no bool, long, size_t, enum, bit-field, union or float;
 *   - natural alignment, padding is named `reserved` and zero;
 *   - a table or an output struct starts with its own size; a reader copies
 *     min(struct_size, sizeof own struct) bytes and treats the rest as zero;
 *   - fields are appended, never moved, renamed in meaning or removed within a major;
 *   - both sides tolerate constants they do not know.
 */
#ifndef MILEPOST_TYPES_H
#define MILEPOST_TYPES_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The major of this ABI. It is part of the entry's name, so another major is another symbol. */
#define MP_ABI_MAJOR 1u
/** The minor of this header. Grows when something is appended. */
#define MP_ABI_MINOR 0u
/** Revision of the JSON bodies under include/milepost/schemas. Additive: unknown keys are ignored. */
#define MP_SCHEMA_REVISION 1u

/**
 * Borrowed bytes: UTF-8 text or JSON unless said otherwise, not terminated.
 *
 * `ptr` null means absent; `len` zero with a non-null `ptr` means empty. Valid until the call that received it
 * returns, in both directions; the receiver copies what it keeps. Nothing is ever freed across the boundary.
 */
typedef struct mp_view {
    const uint8_t *ptr;
    uint64_t len; /**< bytes */
} mp_view;

/** A name and a value, both borrowed. Header names are compared without case. */
typedef struct mp_pair {
    mp_view name;
    mp_view value;
} mp_pair;

/** Two clocks, in nanoseconds. Only differences of `monotonic_ns` mean anything. */
typedef struct mp_time {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t wall_ns;      /**< since 1970-01-01T00:00:00Z */
    uint64_t monotonic_ns; /**< the clock of every deadline; the same in the daemon and in a worker */
} mp_time;

/* ---- Status of an operation, a record or a verb's refusal ------------------------------------------------------- */

#define MP_OK 0           /**< done */
#define MP_REJECTED 1     /**< permanent: the record goes to the dead letters */
#define MP_RETRY 2        /**< not applied, may succeed later */
#define MP_RATE_LIMITED 3 /**< not applied, the vendor asks to wait (`retry_after_ms`, `scope`) */
#define MP_AUTH_EXPIRED 4 /**< the credential needs a refresh; the host refreshes and runs the operation again */
#define MP_AUTH_REVOKED 5 /**< the credential is dead: deliveries wait until an administrator replaces it */
#define MP_CONFIG 6       /**< the connection's settings do not fit; error code `permission_missing` or
                               `target_missing` tells the two kinds with a state of their own */
#define MP_UNCERTAIN 7    /**< may have been applied: nothing is sent again before `reconcile` has answered */
#define MP_CANCELLED 8    /**< given up on request */
/* Made by the host only; a plugin that reports one of these is treated as MP_PLUGIN_BUG. */
#define MP_DEADLINE 32    /**< the operation's deadline passed */
#define MP_PLUGIN_BUG 33  /**< the plugin broke a rule of this ABI */
#define MP_CRASHED 34     /**< the worker died with the operation in flight */
#define MP_UNSUPPORTED 35 /**< the plugin leaves this verb null */

/* ---- Status of a host call -------------------------------------------------------------------------------------- */

#define MP_CALL_OK 0
#define MP_CALL_BUSY 1        /**< a queue is full; try again after the next event */
#define MP_CALL_STALE 2       /**< the operation, instance, timer or blob is over or was never there */
#define MP_CALL_INVALID 3     /**< an argument breaks a rule; the log names it */
#define MP_CALL_UNSUPPORTED 4 /**< this host does not offer the service */
#define MP_CALL_TOO_LARGE 5   /**< past a limit of the host */
#define MP_CALL_DENIED 6      /**< not in the manifest */
#define MP_CALL_NOT_FOUND 7

/* ---- Verbs ------------------------------------------------------------------------------------------------------ */

#define MP_VERB_CONFIGURE 1
#define MP_VERB_CONNECT 2
#define MP_VERB_PROVISION 3
#define MP_VERB_DEPROVISION 4
#define MP_VERB_QUERY 5
#define MP_VERB_OPTIONS 6
#define MP_VERB_CATALOG 7
#define MP_VERB_DELIVER 8
#define MP_VERB_RECONCILE 9
#define MP_VERB_INTERCEPT 10
#define MP_VERB_WEBHOOK 11
#define MP_VERB_PULL 12
#define MP_VERB_PING 13
#define MP_VERB_SHUTDOWN 14

/** One operation: what every verb receives. Valid until the verb returns. */
typedef struct mp_op {
    uint32_t struct_size;
    int32_t verb;         /**< MP_VERB_… */
    uint64_t id;          /**< with a generation: a finished id never comes back */
    uint64_t deadline_ns; /**< monotonic; past it the host cancels, and two seconds later it kills the worker */
    uint32_t attempt;     /**< 1 for the first */
    uint32_t flags;       /**< zero in v1.0 */
    mp_view body;         /**< JSON, schemas/<verb>.request.json */
} mp_op;

/* ---- HTTP ------------------------------------------------------------------------------------------------------- */

/** The request may be sent any number of times with the effect of one. */
#define MP_HTTP_IDEMPOTENT 1u
/** Follow redirects, at most five, never out of the approved hosts, never for a non-idempotent request. */
#define MP_HTTP_FOLLOW_REDIRECTS 2u

/** How far a request got. The host knows, and tells; `reconcile` is built on it. */
#define MP_WIRE_NEVER_SENT 0 /**< not one byte of it left: it cannot have been applied */
#define MP_WIRE_MAYBE_SENT 1 /**< bytes may have left and no complete answer came */
#define MP_WIRE_ANSWERED 2   /**< a complete answer came */

/**
 * A request for the host to send.
 *
 * The plugin never holds a secret: `credential` names one of the connection's credentials and `placement` one of the
 * placements that the manifest declares for its scheme; egress puts it in at the moment of sending.
 */
typedef struct mp_http_request {
    uint32_t struct_size;
    uint32_t flags; /**< MP_HTTP_… */
    uint64_t op;    /**< the operation this request serves */
    uint64_t token; /**< chosen by the plugin, comes back in the event */
    mp_view method; /**< GET, POST, PUT, PATCH, DELETE, HEAD */
    mp_view url;    /**< absolute; its host must be approved for the plugin */
    const mp_pair *headers;
    uint64_t header_count; /**< at most 64 */
    mp_view body;
    mp_view credential; /**< reference, or absent for none */
    mp_view placement;  /**< name of a placement; absent: the scheme's first */
    mp_view step;       /**< name of the step for the journal ("deal", "note"); must be there unless idempotent */
    const uint32_t *records; /**< indexes of the records this request may change */
    uint64_t record_count;
    uint64_t response_cap; /**< bytes of body kept; 0: the host's default, 1 MiB */
    uint32_t timeout_ms;   /**< 0: the host's default */
    uint32_t cost;         /**< in the unit of the vendor's budget; 0: unknown, counted as 1 */
    mp_view bucket;        /**< rate-limit bucket of the manifest besides the default one ("search"), or absent */
} mp_http_request;

/* ---- Events ----------------------------------------------------------------------------------------------------- */

#define MP_EVENT_HTTP 1       /**< json: schemas/http.event.json; data: the body; status: MP_CALL_… */
#define MP_EVENT_KV 2         /**< json: {"version":n} or {"keys":[…]}; data: the value */
#define MP_EVENT_TIMER 3      /**< token only */
#define MP_EVENT_CREDENTIAL 4 /**< json: the credential's new public facts */
#define MP_EVENT_CONFIG 5     /**< json: the instance's new configuration */
#define MP_EVENT_JOURNAL 6    /**< the step is on disk */
#define MP_EVENT_SIGNATURE 7  /**< data: the signature's bytes */

/** A result of an asynchronous host call. Valid until `on_event` returns. */
typedef struct mp_event {
    uint32_t struct_size;
    int32_t kind;        /**< MP_EVENT_… */
    uint64_t token;      /**< as given in the host call */
    uint64_t op;         /**< the operation it belongs to, or 0 */
    int32_t status;      /**< MP_CALL_…: whether the host call itself worked */
    int32_t wire;        /**< MP_WIRE_…, for HTTP */
    int32_t http_status; /**< 100 to 599, or 0 without an answer */
    uint32_t reserved;
    mp_view json;
    mp_view data;  /**< bytes; absent when `blob` is set */
    uint64_t blob; /**< id for `blob_read` when the bytes are many, else 0; gone with the operation */
    uint64_t blob_len;
} mp_event;

/* ---- Levels and modes ------------------------------------------------------------------------------------------- */

#define MP_LOG_TRACE 0
#define MP_LOG_DEBUG 1
#define MP_LOG_INFO 2
#define MP_LOG_WARNING 3
#define MP_LOG_ERROR 4

#define MP_ISOLATION_INLINE 0
#define MP_ISOLATION_WORKER 1
#define MP_ISOLATION_VALIDATOR 2

#ifdef __cplusplus
}
#endif
#endif
