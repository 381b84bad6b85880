/* SPDX-License-Identifier: Apache-2.0
 *
 * libdispatch, which every Swift plugin carries, counts its runnable threads once a second by opening
 * /proc/TID/stat and ends the process with a trap when it cannot. Landlock knows folders: it can allow
 * this process's own threads (/proc/self/task), but not that spelling of the same files without
 * allowing all of /proc. So the launcher offers its own `open`, which the plugin's references find
 * first, and spells exactly this path the way the sandbox allows. Everything else passes unchanged.
 */
#include "worker.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

/* The digits in "/proc/<digits>/stat", or 0 when the path is any other. */
static size_t thread_digits(const char *path) {
    static const char prefix[] = "/proc/";
    if (strncmp(path, prefix, sizeof prefix - 1) != 0)
        return 0;
    const char *digits = path + sizeof prefix - 1;
    size_t count = 0;
    while (isdigit((unsigned char)digits[count]))
        count++;
    return count <= 10 && strcmp(digits + count, "/stat") == 0 ? count : 0;
}

__attribute__((visibility("default"))) int open(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    char own[64];
    size_t digits = thread_digits(path);
    if (digits > 0) {
        snprintf(own, sizeof own, "/proc/self/task/%.*s/stat", (int)digits, path + strlen("/proc/"));
        path = own;
    }
    return openat(AT_FDCWD, path, flags, mode);
}
