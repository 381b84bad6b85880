// SPDX-License-Identifier: Apache-2.0
#include "listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int option(int fd, int name, int *ret_value) {
    socklen_t size = sizeof *ret_value;
    return getsockopt(fd, SOL_SOCKET, name, ret_value, &size) == 0 ? 0 : -errno;
}

static int name_unix(const struct sockaddr_un *name, socklen_t size, char *ret_host, size_t capacity) {
    size_t head = offsetof(struct sockaddr_un, sun_path);
    size_t bytes = size > head ? size - head : 0;
    if (bytes > sizeof name->sun_path) bytes = sizeof name->sun_path;
    if (bytes + 1 > capacity) return -ENOBUFS;
    memcpy(ret_host, name->sun_path, bytes);
    ret_host[bytes] = '\0';
    if (bytes > 0 && ret_host[0] == '\0') ret_host[0] = '@';
    return 0;
}

int milepost_listener_inspect(int fd, int *ret_port, char *ret_host, size_t capacity) {
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0) return -errno;
    int kind = 0, listens = 0;
    int result = option(fd, SO_TYPE, &kind);
    if (result == 0) result = option(fd, SO_ACCEPTCONN, &listens);
    if (result < 0) return result;
    if (kind != SOCK_STREAM || listens == 0) return -EINVAL;
    if (fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0) return -errno;

    struct sockaddr_storage name = {0};
    socklen_t size = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &size) < 0) return -errno;
    const void *address;
    *ret_port = -1;
    switch (name.ss_family) {
        case AF_INET: {
            const struct sockaddr_in *four = (const struct sockaddr_in *)&name;
            address = &four->sin_addr;
            *ret_port = ntohs(four->sin_port);
            break;
        }
        case AF_INET6: {
            const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&name;
            address = &six->sin6_addr;
            *ret_port = ntohs(six->sin6_port);
            break;
        }
        case AF_UNIX: return name_unix((const struct sockaddr_un *)&name, size, ret_host, capacity);
        default: return -EAFNOSUPPORT;
    }
    return inet_ntop(name.ss_family, address, ret_host, (socklen_t)capacity) ? 0 : -errno;
}
