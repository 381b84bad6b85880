/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MILEPOST_LINUX_LISTENER_H
#define MILEPOST_LINUX_LISTENER_H

#include <stddef.h>

/**
 * Looks at a descriptor that somebody else opened: `ret_host` becomes its address (a numeric one, a
 * path, or an abstract name that begins with '@'), `ret_port` its port (-1 where there is none).
 * The descriptor closes on exec from now on, so that no worker inherits it. Any thread. 0 or a
 * negative errno: -EBADF nothing is open there, -ENOTSOCK, -EINVAL no listening stream socket,
 * -EAFNOSUPPORT neither IP nor Unix.
 */
int milepost_listener_inspect(int fd, int *ret_port, char *ret_host, size_t capacity);

#endif
