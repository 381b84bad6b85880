/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MILEPOST_LINUX_NOTIFY_H
#define MILEPOST_LINUX_NOTIFY_H

#include <stddef.h>

/**
 * Sends one datagram to the service manager's socket: a path, or an abstract name that begins with
 * '@'. Any thread; blocks for a second at most. 0 or a negative errno (-EINVAL: neither of the
 * two, -E2BIG: too long for a socket's name).
 */
int milepost_notify_send(const char *address, const char *text, size_t length);

#endif
