/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "mp_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

void *mp_memory_map_locked(size_t length) {
    void *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    if (mlock(start, length) != 0 || madvise(start, length, MADV_DONTDUMP) != 0 ||
        madvise(start, length, MADV_WIPEONFORK) != 0) {
        int reason = errno;
        munmap(start, length);
        errno = reason;
        return NULL;
    }
    return start;
}

void mp_memory_unmap_locked(void *start, size_t length) {
    if (start != NULL)
        munmap(start, length);
}

size_t mp_memory_page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

int mp_memory_forbid_dumps(void) {
    struct rlimit none = {0, 0};
    if (prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L) != 0)
        return errno;
    if (setrlimit(RLIMIT_CORE, &none) != 0)
        return errno;
    return 0;
}

int mp_memory_dumps_forbidden(void) {
    struct rlimit core;
    if (getrlimit(RLIMIT_CORE, &core) != 0)
        return 0;
    return prctl(PR_GET_DUMPABLE, 0L, 0L, 0L, 0L) == 0 && core.rlim_cur == 0 && core.rlim_max == 0;
}
