/* SPDX-License-Identifier: Apache-2.0
 *
 * What the kernel tells of a process: how long it stood in the queue for a processor, which a limit
 * must leave out of its reckoning on a busy machine, and how much memory it has held.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "include/CMilepostProbe.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Reads a small file of /proc; empty when there is none. */
static void slurp(const char *path, char *ret_text, size_t capacity) {
    ret_text[0] = 0;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return;
    ssize_t got = read(descriptor, ret_text, capacity - 1);
    ret_text[got > 0 ? got : 0] = 0;
    close(descriptor);
}

static uint64_t waited(int32_t pid, int depth) {
    char path[96], text[512];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    uint64_t sum = 0;
    if (!threads)
        return 0;
    for (struct dirent *entry; (entry = readdir(threads));) {
        int thread = atoi(entry->d_name);
        unsigned long long ran = 0, queued = 0;
        if (thread <= 0)
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", pid, thread);
        slurp(path, text, sizeof text);
        if (sscanf(text, "%llu %llu", &ran, &queued) == 2)
            sum += queued;
        if (depth == 0)
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, thread);
        slurp(path, text, sizeof text);
        for (char *at = text, *end; *at; at = end) {
            long child = strtol(at, &end, 10);
            if (end == at)
                break;
            sum += waited((int32_t)child, depth - 1);
        }
    }
    closedir(threads);
    return sum;
}

uint64_t mp_waited_ns(int32_t pid) {
    return waited(pid > 0 ? pid : getpid(), 2);
}

uint64_t mp_peak_bytes(void) {
    char text[8192];
    slurp("/proc/self/status", text, sizeof text);
    const char *line = strstr(text, "VmHWM:");
    return line ? strtoull(line + 6, NULL, 10) * 1024u : 0;
}
