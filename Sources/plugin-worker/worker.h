/* SPDX-License-Identifier: Apache-2.0
 *
 * The worker launcher: confines itself, loads one plugin, and offers it the host table by sending
 * frames. Plain C, so that a worker carries no second Swift runtime and few system calls.
 */
#ifndef MILEPOST_WORKER_H
#define MILEPOST_WORKER_H

#include "../CMilepostLinux/include/channel.h"
#include <milepost/plugin.h>
#include <stddef.h>

/** The descriptor that the daemon leaves open besides 0, 1 and 2. */
#define WORKER_CHANNEL 3

/* ---- sandbox.c
 * --------------------------------------------------------------------------------------------------
 */

struct sandbox_levels {
    uint32_t landlock_abi; /**< 0: this kernel or its configuration has none */
    uint32_t filter_one;   /**< 1 when the system-call filter stands */
    uint32_t filter_two;   /**< 1 when no memory can become executable any more */
};

/** Everything that comes before foreign code: no new privileges, no dumps, limits, Landlock, the
 * first filter. */
void sandbox_enter(const char *plugin_path, uint64_t memory_mb, uint64_t threads,
                   struct sandbox_levels *ret_levels);
/** After the plugin is loaded, on all its threads: PROT_EXEC is over. */
void sandbox_seal(struct sandbox_levels *levels);

/* ---- filter.c
 * ---------------------------------------------------------------------------------------------------
 */

/** 0 or a negative errno. */
int filter_install_one(void);
int filter_install_two(void);

/* ---- outbox.c
 * ---------------------------------------------------------------------------------------------------
 */

void outbox_start(int wakeup);
/** Encodes and sends, from any thread, never blocking: what the daemon does not take at once waits
 * for the I/O thread. Returns MP_CALL_OK, MP_CALL_BUSY or MP_CALL_TOO_LARGE. */
int32_t outbox_send(uint16_t type, uint64_t op, uint64_t instance, const uint64_t *scalars,
                    uint32_t scalar_count, const mp_view *views, uint32_t view_count);
/** Sends what waits. Returns 1 while something is left. */
int outbox_flush(void);

/* ---- payloads, decoded (outbox.c)
 * ------------------------------------------------------------------------------ */

struct payload {
    uint8_t *bytes; /**< owned; the views point into it */
    uint32_t scalar_count;
    uint32_t view_count;
    uint64_t scalars[8];
    mp_view views[MILEPOST_FRAME_VIEWS_MAX];
};

/** Takes `bytes` over. 0, or -1 when they break the format (then they are freed). */
int payload_parse(uint8_t *bytes, uint32_t length, struct payload *ret_payload);

/* ---- instances.c
 * ------------------------------------------------------------------------------------------------
 */

struct instance;

void instances_start(const mp_plugin *plugin, const mp_host *host);
/** Each takes the payload's bytes over. Unknown ids are ignored: the daemon may not know yet that
 * they are gone. */
void instance_create(uint64_t id, struct payload *payload);
void instance_operation(uint64_t id, uint64_t op, struct payload *payload);
void instance_cancel(uint64_t id, uint64_t op);
void instance_event(uint64_t id, uint64_t op, struct payload *payload);
void instance_destroy(uint64_t id);
void instance_credential(uint64_t id, struct payload *payload);
/** The longest call that runs now, in nanoseconds, and whose. */
uint64_t instances_longest_call(uint64_t *ret_instance);

/** For host calls, from any thread. 1 when the instance (and the operation, unless 0) is live. */
int instance_is_live(uint64_t id, uint64_t op);
/** Ends the operation here, so that a second completion is seen at once. 1 when it was live. */
int instance_finish(uint64_t id, uint64_t op);
int32_t instance_credential_facts(uint64_t id, mp_view name, uint8_t *ret_json, uint64_t capacity,
                                  uint64_t *ret_len);
int32_t instance_blob_read(uint64_t id, uint64_t blob, uint64_t offset, uint8_t *ret_bytes,
                           uint64_t capacity, uint64_t *ret_len);

/* ---- host_table.c
 * -----------------------------------------------------------------------------------------------
 */

extern const mp_host worker_host_table;
void host_table_set_log_level(uint64_t level);
uint64_t monotonic_ns(void);

#endif
