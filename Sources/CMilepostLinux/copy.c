// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "copy.h"

#include <errno.h>
#include <unistd.h>

int64_t milepost_copy_range(int from, int to, size_t most) {
    ssize_t copied;
    do {
        copied = copy_file_range(from, NULL, to, NULL, most, 0);
    } while (copied < 0 && errno == EINTR);
    return copied < 0 ? -errno : copied;
}
