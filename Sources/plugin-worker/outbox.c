/* SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A daemon that drains nothing for this long a queue is gone or stopped; the plugin is told BUSY.
 */
#define WAITING_FRAMES_MAX 4096u
#define WAITING_BYTES_MAX (64u * 1024u * 1024u)
/* Most frames are small; plugins call from threads with small stacks. */
#define STACK_PAYLOAD 2048u

struct waiting {
    struct waiting *next;
    struct milepost_frame frame;
    uint32_t length;
    uint8_t bytes[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct waiting *first, **last = &first;
static uint32_t waiting_frames;
static uint64_t waiting_bytes;
static uint64_t sequence;
static int wakeup_fd = -1;

void outbox_start(int wakeup) {
    wakeup_fd = wakeup;
}

/* The end of something that the daemon asked for: it comes once, and nobody would say it again. The
 * queue's bounds are not for these, and how many there are is for the daemon to say. */
static int is_owed(uint16_t type) {
    return type == MILEPOST_FRAME_COMPLETE || type == MILEPOST_FRAME_NOT_ACCEPTED ||
           type == MILEPOST_FRAME_CREATED || type == MILEPOST_FRAME_DESTROYED;
}

/* The lock is held. */
static int send_or_keep(struct milepost_frame *frame, const uint8_t *bytes, uint32_t length) {
    int result = first ? -EAGAIN : milepost_channel_send(WORKER_CHANNEL, frame, bytes, length);
    if (result == 0)
        return MP_CALL_OK;
    if (result == -EPIPE || result == -ECONNRESET)
        _exit(0); /* the daemon is gone */
    int is_full =
        waiting_frames >= WAITING_FRAMES_MAX || waiting_bytes + length > WAITING_BYTES_MAX;
    if (is_full && !is_owed(frame->type))
        return MP_CALL_BUSY;
    struct waiting *entry = malloc(sizeof *entry + length);
    if (!entry)
        return MP_CALL_BUSY;
    entry->next = NULL;
    entry->frame = *frame;
    entry->length = length;
    if (length > 0)
        memcpy(entry->bytes, bytes, length);
    *last = entry;
    last = &entry->next;
    waiting_frames++;
    waiting_bytes += length;
    uint64_t one = 1;
    if (write(wakeup_fd, &one, sizeof one) < 0) {
    } /* a full counter wakes too */
    return MP_CALL_OK;
}

static uint64_t encoded_size(uint32_t scalar_count, const mp_view *views, uint32_t view_count) {
    uint64_t size = 8 + 8 * ((uint64_t)scalar_count + view_count);
    for (uint32_t i = 0; i < view_count; i++) {
        if (!views[i].ptr)
            continue;
        if (views[i].len > MILEPOST_FRAME_PAYLOAD_MAX)
            return UINT64_MAX;
        size += views[i].len;
    }
    return size;
}

static void encode(uint8_t *next, const uint64_t *scalars, uint32_t scalar_count,
                   const mp_view *views, uint32_t view_count) {
    memcpy(next, &scalar_count, 4);
    memcpy(next + 4, &view_count, 4);
    next += 8;
    if (scalar_count > 0)
        memcpy(next, scalars, 8 * (size_t)scalar_count);
    next += 8 * (size_t)scalar_count;
    for (uint32_t i = 0; i < view_count; i++, next += 8) {
        uint64_t length = views[i].ptr ? views[i].len : UINT64_MAX;
        memcpy(next, &length, 8);
    }
    for (uint32_t i = 0; i < view_count; i++) {
        if (!views[i].ptr || views[i].len == 0)
            continue;
        memcpy(next, views[i].ptr, views[i].len);
        next += views[i].len;
    }
}

int32_t outbox_send(uint16_t type, uint64_t op, uint64_t instance, const uint64_t *scalars,
                    uint32_t scalar_count, const mp_view *views, uint32_t view_count) {
    if (scalar_count > MILEPOST_FRAME_SCALARS_MAX || view_count > MILEPOST_FRAME_VIEWS_MAX)
        return MP_CALL_TOO_LARGE;
    uint64_t size = encoded_size(scalar_count, views, view_count);
    if (size > MILEPOST_FRAME_PAYLOAD_MAX)
        return MP_CALL_TOO_LARGE;
    uint8_t small[STACK_PAYLOAD];
    uint8_t *bytes = size <= sizeof small ? small : malloc(size);
    if (!bytes)
        return MP_CALL_BUSY;
    encode(bytes, scalars, scalar_count, views, view_count);

    struct milepost_frame frame = {.type = type, .op = op, .instance = instance};
    pthread_mutex_lock(&lock);
    frame.seq = sequence;
    int32_t result = send_or_keep(&frame, bytes, (uint32_t)size);
    if (result == MP_CALL_OK)
        sequence++;
    pthread_mutex_unlock(&lock);
    if (bytes != small)
        free(bytes);
    return result;
}

int outbox_flush(void) {
    pthread_mutex_lock(&lock);
    while (first) {
        struct waiting *entry = first;
        int result =
            milepost_channel_send(WORKER_CHANNEL, &entry->frame, entry->bytes, entry->length);
        if (result == -EPIPE || result == -ECONNRESET)
            _exit(0);
        if (result != 0)
            break;
        first = entry->next;
        if (!first)
            last = &first;
        waiting_frames--;
        waiting_bytes -= entry->length;
        free(entry);
    }
    int more = first != NULL;
    pthread_mutex_unlock(&lock);
    return more;
}

int payload_parse(uint8_t *bytes, uint32_t length, struct payload *ret_payload) {
    uint32_t counts[2] = {0, 0};
    if (length >= 8)
        memcpy(counts, bytes, 8);
    uint64_t head = 8 + 8 * ((uint64_t)counts[0] + counts[1]);
    if (length < 8 || counts[0] > 8 || counts[1] > MILEPOST_FRAME_VIEWS_MAX || head > length) {
        free(bytes);
        return -1;
    }
    memset(ret_payload->scalars, 0, sizeof ret_payload->scalars);
    ret_payload->bytes = bytes;
    ret_payload->scalar_count = counts[0];
    ret_payload->view_count = counts[1];
    memcpy(ret_payload->scalars, bytes + 8, 8 * (size_t)counts[0]);
    const uint8_t *lengths = bytes + 8 + 8 * (size_t)counts[0];
    uint64_t offset = head;
    for (uint32_t i = 0; i < counts[1]; i++) {
        uint64_t view_length;
        memcpy(&view_length, lengths + 8 * (size_t)i, 8);
        if (view_length == UINT64_MAX) {
            ret_payload->views[i] = (mp_view){NULL, 0};
            continue;
        }
        if (view_length > length - offset) {
            free(bytes);
            return -1;
        }
        ret_payload->views[i] = (mp_view){bytes + offset, view_length};
        offset += view_length;
    }
    if (offset != length) {
        free(bytes);
        return -1;
    }
    return 0;
}
