/* SPDX-License-Identifier: Apache-2.0
 *
 * The bare host of the probes: one table, completions that can be waited for, and a count of every
 * call.
 */
#ifndef MILEPOST_PROBE_PRIVATE_H
#define MILEPOST_PROBE_PRIVATE_H

#include "../../include/milepost/plugin.h"
#include "include/CMilepostProbe.h"

/** Watches the calling thread alone, and new threads and processes too. */
int mp_watch_install(const char *folder, int with_threads);

/** Opens the library and asks its entry. Null leaves a sentence. */
const mp_plugin *probe_open(const char *library, char *ret_text, size_t capacity);
mp_plugin_entry probe_entry(const char *library, char *ret_text, size_t capacity);
const mp_plugin *probe_ask(mp_plugin_entry entry, uint32_t abi_minor, int32_t *ret_status);

/** The probes' own host table. */
const mp_host *probe_host(void);
/** Makes an instance; a refusal of the configuration leaves a sentence and returns its status. */
int probe_create(const mp_plugin *plugin, const mp_host *host, uint64_t instance,
                 const char *config, void **ret_self);
/** Runs a verb and waits for its completion, at most five seconds. 0, or -1 when none came. */
int probe_run(int32_t (*verb)(void *, const mp_op *), void *self, int32_t number, const char *body);
/** Calls of the host's functions with this instance so far. */
uint64_t probe_calls(uint64_t instance);
int probe_fail(char *ret_text, size_t capacity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int probe_pass(char *ret_text, size_t capacity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
uint64_t probe_now(void);
/** Entries of a folder of /proc. */
int probe_count(const char *folder);

#endif
