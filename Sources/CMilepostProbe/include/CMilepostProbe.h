/* SPDX-License-Identifier: Apache-2.0
 *
 * What `milepost plugin check` does to a plugin below the host: it drives the bare C table, watches
 * system calls, and runs each check in a process of its own. No variadic function, no struct by
 * value, so that Swift can call it.
 *
 * A probe opens the library itself, so each belongs into a fresh process. It returns MP_PROBE_… and
 * leaves one sentence in `ret_text`.
 */
#ifndef MILEPOST_PROBE_H
#define MILEPOST_PROBE_H

#include <stddef.h>
#include <stdint.h>

#define MP_PROBE_PASSED 0
#define MP_PROBE_FAILED 1
#define MP_PROBE_SKIPPED 2
#define MP_PROBE_INAPPLICABLE 3

/** Loads and asks `describe` under watch: time, threads, descriptors, refused calls. */
int mp_probe_constructors(const char *library, char *ret_text, size_t capacity);
/** Hosts older than needed are refused with a status, newer ones accepted. */
int mp_probe_minors(const char *library, char *ret_text, size_t capacity);
/** A host table of exactly the 1.0 size at the end of a page, and one with a tail of garbage. */
int mp_probe_tables(const char *library, const char *config, char *ret_text, size_t capacity);
/** Extension ids that nobody defines, and known ones with text behind them. */
int mp_probe_extensions(const char *library, const char *config, char *ret_text, size_t capacity);
/** The entry called again, and from two threads at once. */
int mp_probe_entry(const char *library, char *ret_text, size_t capacity);
/** `rounds` instances made, pinged, shut down and destroyed: heap, descriptors and threads after
 * them. */
int mp_probe_lifecycle(const char *library, const char *config, uint32_t rounds, char *ret_text,
                       size_t capacity);
/** Destroys right after create and listens for calls that come afterwards. */
int mp_probe_afterwards(const char *library, const char *config, char *ret_text, size_t capacity);

/**
 * Refuses, from now on and for every thread of the process, what the worker's sandbox refuses, and
 * writes it down: new sockets, processes, programs, files outside the system's libraries.
 * `own_folder` may be read. 0 or a negative errno.
 */
int mp_watch_start(const char *own_folder);
/** What was refused since the start, one line each, at most `capacity` bytes. The count. */
int mp_watch_report(char *ret_text, size_t capacity);

/** How a child ended. */
typedef struct mp_child {
    int32_t exit_status; /**< -1 when a signal ended it */
    int32_t signal;      /**< 0 when it exited by itself */
    int32_t timed_out;   /**< it was killed at the limit */
    int32_t reserved;
    uint64_t duration_ns;
    uint64_t result_len; /**< of what it wrote to descriptor 3 */
    uint64_t output_len; /**< of what it wrote to standard output and error */
} mp_child;

/**
 * Runs a program with descriptor 3 for its result and both outputs captured, in a process group
 * that is killed at the limit. Time for which the group waited for a processor does not count, up
 * to nine tenths of what has passed. The environment is `environment` alone. 0 or a negative errno.
 */
int mp_child_run(const char *path, const char *const *arguments, const char *const *environment,
                 uint64_t limit_ms, uint8_t *ret_result, size_t result_capacity,
                 uint8_t *ret_output, size_t output_capacity, mp_child *ret_child);

/**
 * Nanoseconds that the threads of a process and of its children were ready to run and did not, since
 * they began. 0 for `pid` means this process. The sum may shrink when a thread ends; 0 where the
 * kernel keeps no such account.
 */
uint64_t mp_waited_ns(int32_t pid);

/** The most memory that this process has held at once (VmHWM), in bytes; 0 when it is not told. */
uint64_t mp_peak_bytes(void);

/** SIGKILL to a worker of this check, by its pid. */
int mp_child_kill(int32_t pid);

#endif
