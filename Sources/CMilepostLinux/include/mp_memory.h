/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that holds secrets, and a process that cannot be dumped (decisions 38).
 *
 * Named mp_memory.h because <memory.h> is the C library's own header and this folder is on the
 * search path.
 */
#ifndef MILEPOST_LINUX_MEMORY_H
#define MILEPOST_LINUX_MEMORY_H

#include <stddef.h>

/*
 * Maps zeroed pages of our own that are locked into memory, left out of core dumps and empty in a
 * forked child. Any thread; takes the kernel's mapping lock only. Returns NULL and sets errno:
 * EPERM, EAGAIN or ENOMEM mostly mean that RLIMIT_MEMLOCK is used up.
 */
void *mp_memory_map_locked(size_t length);

/* Gives pages of mp_memory_map_locked back; the caller has wiped them. `start` may be NULL. */
void mp_memory_unmap_locked(void *start, size_t length);

size_t mp_memory_page_size(void);

/*
 * Makes the process non-dumpable (no core, no ptrace or /proc/PID/mem for other unprivileged
 * processes of the same user) and sets the core limit to 0, soft and hard. An execve undoes the
 * first: call it at every start. Returns 0 or an errno value.
 */
int mp_memory_forbid_dumps(void);

/* 1 when the kernel says that both hold now, else 0. */
int mp_memory_dumps_forbidden(void);

#endif
