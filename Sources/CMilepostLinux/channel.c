/* SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "include/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REQUIRED_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

int milepost_channel_pair(int *ret_daemon_end, int *ret_worker_end) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return -errno;
    int size = 1024 * 1024;
    for (int i = 0; i < 2; i++)
        (void)setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &size,
                         sizeof size); /* more is better, less still works */
    int flags = fcntl(ends[0], F_GETFL);
    if (flags < 0 || fcntl(ends[0], F_SETFL, flags | O_NONBLOCK) != 0) {
        int error = errno;
        close(ends[0]);
        close(ends[1]);
        return -error;
    }
    *ret_daemon_end = ends[0];
    *ret_worker_end = ends[1];
    return 0;
}

static int sealed_memfd(const void *payload, uint32_t length) {
    int fd = memfd_create("milepost-frame", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    const uint8_t *next = payload;
    uint32_t left = length;
    while (left > 0) {
        ssize_t written = write(fd, next, left);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            int error = written < 0 ? errno : EIO;
            close(fd);
            return -error;
        }
        next += written;
        left -= (uint32_t)written;
    }
    if (fcntl(fd, F_ADD_SEALS, REQUIRED_SEALS) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int milepost_channel_send(int channel, struct milepost_frame *frame, const void *payload,
                          uint32_t length) {
    if (length > MILEPOST_FRAME_PAYLOAD_MAX)
        return -EMSGSIZE;
    frame->magic = MILEPOST_FRAME_MAGIC;
    frame->version = MILEPOST_FRAME_VERSION;
    frame->length = length;
    frame->flags = 0;
    frame->fd_count = 0;
    frame->reserved = 0;

    struct iovec parts[2] = {{frame, sizeof *frame}, {(void *)(uintptr_t)payload, length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = length > 0 ? 2 : 1};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    int fd = -1;
    if (length > MILEPOST_FRAME_INLINE_MAX) {
        fd = sealed_memfd(payload, length);
        if (fd < 0)
            return fd;
        frame->flags = MILEPOST_FRAME_MEMFD;
        frame->fd_count = 1;
        message.msg_iovlen = 1;
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    ssize_t sent;
    do
        sent = sendmsg(channel, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    int error = sent < 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return -error;
}

int64_t milepost_channel_receive(int channel, struct milepost_frame *ret_frame, void *ret_payload,
                                 uint64_t capacity, int *ret_fd) {
    struct iovec parts[2] = {{ret_frame, sizeof *ret_frame}, {ret_payload, capacity}};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    *ret_fd = -1;
    ssize_t got;
    do
        got = recvmsg(channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == ECONNRESET ? -EPIPE : -errno;

    int fd_count = 0, kept = -1;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
            if (fd_count++ == 0)
                kept = fd;
            else
                close(fd);
        }
    }
    int wanted = (ret_frame->flags & MILEPOST_FRAME_MEMFD) ? 1 : 0;
    if (got == 0) {
        if (kept >= 0)
            close(kept);
        return -EPIPE;
    }
    if (got < (ssize_t)sizeof *ret_frame || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ||
        ret_frame->magic != MILEPOST_FRAME_MAGIC || ret_frame->version != MILEPOST_FRAME_VERSION ||
        fd_count != wanted || ret_frame->fd_count != (uint32_t)wanted ||
        ret_frame->length > MILEPOST_FRAME_PAYLOAD_MAX ||
        (got - (ssize_t)sizeof *ret_frame) != (wanted ? 0 : (ssize_t)ret_frame->length)) {
        if (kept >= 0)
            close(kept);
        return -EBADMSG;
    }
    *ret_fd = kept;
    return got - (ssize_t)sizeof *ret_frame;
}

int milepost_channel_copy_memfd(int fd, void *ret_bytes, uint32_t length) {
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return -errno;
    if ((seals & REQUIRED_SEALS) != REQUIRED_SEALS)
        return -EPERM;
    struct stat status;
    if (fstat(fd, &status) != 0)
        return -errno;
    if (status.st_size != (off_t)length)
        return -EBADMSG;
    /* Read rather than map: one copy is made anyway, and a read cannot fault. */
    uint8_t *next = ret_bytes;
    off_t offset = 0;
    while (offset < (off_t)length) {
        ssize_t got = pread(fd, next + offset, (size_t)length - (size_t)offset, offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        offset += got;
    }
    return 0;
}
