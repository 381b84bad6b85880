/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MILEPOST_LINUX_COPY_H
#define MILEPOST_LINUX_COPY_H

#include <stddef.h>
#include <stdint.h>

/**
 * Copies up to `most` bytes from one file to another at their offsets, inside the kernel, which shares
 * the blocks where the file system can. Bytes, 0 at the end, or a negative errno (-EXDEV, -EINVAL,
 * -ENOSYS, -EOPNOTSUPP: these two files cannot be copied so).
 */
int64_t milepost_copy_range(int from, int to, size_t most);

#endif
