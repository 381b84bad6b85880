/* SPDX-License-Identifier: Apache-2.0
 *
 * Processes, threads and waiting, shaped so that Swift can call them: no variadic function, no
 * macro, no struct by value. Results are 0 or more, or a negative errno.
 */
#ifndef MILEPOST_PROCESS_H
#define MILEPOST_PROCESS_H

#include <stddef.h>
#include <stdint.h>

/**
 * Starts a worker: empty environment, cwd /, own session, default signals, stdin /dev/null, stdout
 * and stderr as given, `channel` as descriptor 3, everything else closed. posix_spawn, because
 * forking a process with threads leaves locks held in the child.
 */
int milepost_process_spawn(const char *path, const char *const *arguments, int output, int errors,
                           int channel, int *ret_pid, int *ret_pidfd);

/** SIGKILL through the pidfd: a pid that was reused cannot be hit. */
int milepost_process_kill(int pidfd);

/** Reaps without waiting. 1: ended, with `ret_signal` or `ret_status` set (the other is -1); 0:
 * still there. */
int milepost_process_reap(int pidfd, int *ret_status, int *ret_signal);

/** A pipe whose reading end does not block; both close on exec. */
int milepost_pipe(int *ret_read, int *ret_write);

/** An eventfd for waking the loop, and its two ends' calls. */
int milepost_wakeup_create(void);
void milepost_wakeup_signal(int fd);
void milepost_wakeup_clear(int fd);

int milepost_poller_create(void);
int milepost_poller_add(int poller, int fd, uint64_t tag, int for_writing);
int milepost_poller_change(int poller, int fd, uint64_t tag, int for_writing);
int milepost_poller_remove(int poller, int fd);
/** Waits; writes at most `capacity` tags. The count, 0 after `timeout_ms`. */
int milepost_poller_wait(int poller, uint64_t *ret_tags, int capacity, int timeout_ms);

/** A named, detached thread with all signals blocked, and a stack of 1 MiB. */
int milepost_thread_start(const char *name, void (*body)(void *context), void *context);

/** A counting semaphore for the queue of one thread. */
typedef struct milepost_semaphore milepost_semaphore;
milepost_semaphore *milepost_semaphore_create(void);
void milepost_semaphore_destroy(milepost_semaphore *semaphore);
void milepost_semaphore_signal(milepost_semaphore *semaphore);
void milepost_semaphore_wait(milepost_semaphore *semaphore);

uint64_t milepost_monotonic_ns(void);
uint64_t milepost_wall_ns(void);
/** CPU time of the calling thread. */
uint64_t milepost_thread_cpu_ns(void);
int milepost_random(void *ret_bytes, size_t length);
int milepost_descriptor_close(int fd);
int64_t milepost_descriptor_read(int fd, void *ret_bytes, size_t capacity);

/** What `milepost_file_inspect` saw. */
struct milepost_file {
    uint64_t size;
    uint32_t owner;
    uint32_t mode; /**< type and permission bits */
};
/** Opens for reading without following a link in the last component, without blocking on a fifo. */
int milepost_file_open(const char *path, struct milepost_file *ret_file);
/** The same facts for a folder. */
int milepost_folder_inspect(const char *path, struct milepost_file *ret_file);

/** dlopen(RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE). Null on failure, with the loader's sentence in
 * `ret_error`. */
void *milepost_library_open(const char *path, char *ret_error, size_t capacity);
void *milepost_library_symbol(void *library, const char *name);

/** PR_SET_DUMPABLE 0 and core limit 0 for the daemon itself: no dump of it can be had (decisions
 * 38). */
int milepost_process_forbid_dumps(void);

#endif
