// SPDX-License-Identifier: Apache-2.0
#include "notify.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

int milepost_notify_send(const char *address, const char *text, size_t length) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t bytes = strlen(address);
    if (bytes < 2 || (address[0] != '/' && address[0] != '@')) return -EINVAL;
    if (bytes >= sizeof name.sun_path) return -E2BIG;
    memcpy(name.sun_path, address, bytes);
    if (name.sun_path[0] == '@') name.sun_path[0] = '\0';
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);

    int end = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (end < 0) return -errno;
    // A manager that reads no more must not hold a thread of the daemon for ever.
    struct timeval patience = {.tv_sec = 1};
    (void)setsockopt(end, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    ssize_t sent;
    do {
        sent = sendto(end, text, length, MSG_NOSIGNAL, (const struct sockaddr *)&name, size);
    } while (sent < 0 && errno == EINTR);
    int result = sent < 0 ? -errno : 0;
    close(end);
    return result;
}
