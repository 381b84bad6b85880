/* SPDX-License-Identifier: Apache-2.0
 *
 * milepost-plugin-worker PLUGIN MEMORY_MB THREADS LOG_LEVEL HEARTBEAT_MS (required|best-effort)
 *
 * Started by the daemon only, with the channel as descriptor 3. Its main thread does the I/O and
 * ends the process when the daemon is gone: every wait ends with the channel.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "worker.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static mp_plugin plugin_table; /**< a copy: what an older plugin lacks is null */

static mp_view text(const char *string) {
    return (mp_view){(const uint8_t *)string, strlen(string)};
}

static _Noreturn void refuse(uint64_t reason, const char *detail) {
    mp_view view = text(detail);
    (void)outbox_send(MILEPOST_FRAME_REFUSED, 0, 0, &reason, 1, &view, 1);
    while (outbox_flush())
        poll(&(struct pollfd){.fd = WORKER_CHANNEL, .events = POLLOUT}, 1, 1000);
    _exit(1);
}

static void load(const char *path) {
    /* Cancelling a thread loads this one late, when nothing may become executable any more. */
    (void)dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        const char *error = dlerror();
        refuse(MILEPOST_REFUSED_LOAD, error ? error : "the loader gave no reason");
    }
    mp_plugin_entry entry = (mp_plugin_entry)(uintptr_t)dlsym(library, MP_ENTRY_NAME);
    if (!entry)
        refuse(MILEPOST_REFUSED_NO_ENTRY, "the file does not export " MP_ENTRY_NAME);
    mp_host_info info = {
        .struct_size = sizeof info,
        .abi_minor = MP_ABI_MINOR,
        .isolation = MP_ISOLATION_WORKER,
        .schema_revision = MP_SCHEMA_REVISION,
        .host_version = text("milepost"),
    };
    int32_t status = MP_OK;
    const mp_plugin *table = entry(&info, &status);
    char detail[160];
    if (!table) {
        snprintf(detail, sizeof detail, "the entry refused this host with status %d", status);
        refuse(status == MP_CONFIG ? MILEPOST_REFUSED_LOAD : MILEPOST_REFUSED_HOST_TOO_OLD, detail);
    }
    uint32_t size = table->struct_size;
    if (size < MP_PLUGIN_SIZE_1_0) {
        snprintf(detail, sizeof detail, "its table has %u bytes, fewer than the %u of ABI 1.0",
                 size, MP_PLUGIN_SIZE_1_0);
        refuse(MILEPOST_REFUSED_TABLE, detail);
    }
    memcpy(&plugin_table, table, size < sizeof plugin_table ? size : sizeof plugin_table);
    if (plugin_table.min_host_minor > MP_ABI_MINOR) {
        snprintf(detail, sizeof detail, "it needs ABI 1.%u, this host offers 1.%u",
                 plugin_table.min_host_minor, MP_ABI_MINOR);
        refuse(MILEPOST_REFUSED_HOST_TOO_OLD, detail);
    }
    if (!plugin_table.describe || !plugin_table.create || !plugin_table.destroy ||
        !plugin_table.on_event || !plugin_table.ping || !plugin_table.shutdown)
        refuse(MILEPOST_REFUSED_TABLE,
               "describe, create, destroy, on_event, ping or shutdown is missing in its table");
}

static uint64_t verb_mask(void) {
    const mp_plugin *table = &plugin_table;
    const uint64_t present[] = {0,
                                table->configure != 0,
                                table->connect != 0,
                                table->provision != 0,
                                table->deprovision != 0,
                                table->query != 0,
                                table->options != 0,
                                table->catalog != 0,
                                table->deliver != 0,
                                table->reconcile != 0,
                                table->intercept != 0,
                                table->webhook != 0,
                                table->pull != 0,
                                table->ping != 0,
                                table->shutdown != 0};
    uint64_t mask = 0;
    for (size_t i = 1; i < sizeof present / sizeof *present; i++)
        mask |= present[i] << i;
    return mask;
}

static uint64_t cpu_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void announce(const struct sandbox_levels *levels) {
    mp_view manifest = {NULL, 0};
    uint64_t cpu = cpu_ns(CLOCK_THREAD_CPUTIME_ID), wall = monotonic_ns();
    plugin_table.describe(&manifest);
    cpu = cpu_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    wall = monotonic_ns() - wall;
    uint64_t scalars[] = {plugin_table.abi_minor,
                          plugin_table.min_host_minor,
                          verb_mask(),
                          levels->filter_two,
                          cpu,
                          wall};
    (void)outbox_send(MILEPOST_FRAME_LOADED, 0, 0, scalars, 6, &manifest, 1);
}

static void dispatch(const struct milepost_frame *frame, struct payload *payload) {
    switch (frame->type) {
    case MILEPOST_FRAME_CREATE:
        instance_create(frame->instance, payload);
        return;
    case MILEPOST_FRAME_OPERATION:
        instance_operation(frame->instance, frame->op, payload);
        return;
    case MILEPOST_FRAME_EVENT:
        instance_event(frame->instance, frame->op, payload);
        return;
    case MILEPOST_FRAME_CREDENTIAL:
        instance_credential(frame->instance, payload);
        return;
    case MILEPOST_FRAME_CANCEL:
        instance_cancel(frame->instance, frame->op);
        break;
    case MILEPOST_FRAME_DESTROY:
        instance_destroy(frame->instance);
        break;
    case MILEPOST_FRAME_LOG_LEVEL:
        host_table_set_log_level(payload->scalars[0]);
        break;
    default:
        break; /* a newer daemon's frame: it says nothing to us */
    }
    free(payload->bytes);
}

/* Reads all that is there. */
static void receive(uint8_t *buffer) {
    static struct payload payload; /* large, and the I/O thread is the only one here */
    for (;;) {
        struct milepost_frame frame;
        int fd;
        int64_t got = milepost_channel_receive(WORKER_CHANNEL, &frame, buffer,
                                               MILEPOST_FRAME_INLINE_MAX, &fd);
        if (got == -EAGAIN)
            return;
        if (got < 0)
            _exit(got == -EPIPE ? 0 : 2);
        uint8_t *bytes = malloc(frame.length > 0 ? frame.length : 1);
        if (!bytes)
            abort();
        if (fd >= 0) {
            if (milepost_channel_copy_memfd(fd, bytes, frame.length) != 0)
                _exit(2);
            close(fd);
        } else {
            memcpy(bytes, buffer, frame.length);
        }
        if (payload_parse(bytes, frame.length, &payload) != 0)
            _exit(2);
        dispatch(&frame, &payload);
    }
}

static _Noreturn void serve(int wakeup, int heartbeat_ms) {
    uint8_t *buffer = malloc(MILEPOST_FRAME_INLINE_MAX);
    if (!buffer)
        abort();
    uint64_t last_beat = 0;
    int waiting = 0;
    for (;;) {
        struct pollfd ready[2] = {
            {.fd = WORKER_CHANNEL, .events = (short)(POLLIN | (waiting ? POLLOUT : 0))},
            {.fd = wakeup, .events = POLLIN},
        };
        if (poll(ready, 2, heartbeat_ms) < 0 && errno != EINTR)
            abort();
        uint64_t count;
        if ((ready[1].revents & POLLIN) && read(wakeup, &count, sizeof count) < 0) {
        }
        if (ready[0].revents & (POLLIN | POLLHUP | POLLERR))
            receive(buffer);
        waiting = outbox_flush();
        uint64_t now = monotonic_ns();
        if (now - last_beat < (uint64_t)heartbeat_ms * 1000000u)
            continue;
        last_beat = now;
        uint64_t instance = 0;
        uint64_t longest = instances_longest_call(&instance);
        uint64_t scalars[] = {cpu_ns(CLOCK_PROCESS_CPUTIME_ID), longest, instance};
        (void)outbox_send(MILEPOST_FRAME_HEARTBEAT, 0, instance, scalars, 3, NULL, 0);
    }
}

int main(int count, char **arguments) {
    int type = 0;
    socklen_t size = sizeof type;
    if (count != 7 || getsockopt(WORKER_CHANNEL, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
        type != SOCK_SEQPACKET) {
        fprintf(
            stderr,
            "milepost-plugin-worker: milepostd starts this program; it does nothing on its own\n");
        return 64;
    }
    const char *path = arguments[1];
    uint64_t memory_mb = strtoull(arguments[2], NULL, 10),
             threads = strtoull(arguments[3], NULL, 10);
    host_table_set_log_level(strtoull(arguments[4], NULL, 10));
    int heartbeat_ms = atoi(arguments[5]);
    if (heartbeat_ms < 10)
        heartbeat_ms = 10;
    int required = strcmp(arguments[6], "best-effort") != 0;

    struct sandbox_levels levels;
    sandbox_enter(path, memory_mb, threads, &levels); /* closes every descriptor but the channel */
    int wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wakeup < 0)
        return 70;
    outbox_start(wakeup);
    uint64_t hello[] = {levels.landlock_abi, levels.filter_one, MP_ABI_MINOR};
    (void)outbox_send(MILEPOST_FRAME_HELLO, 0, 0, hello, 3, NULL, 0);
    if (required && (levels.landlock_abi == 0 || !levels.filter_one))
        refuse(MILEPOST_REFUSED_SANDBOX,
               levels.filter_one ? "this kernel offers no Landlock, so files cannot be walled off"
                                 : "the system-call filter could not be installed");
    load(path);
    sandbox_seal(&levels);
    if (required && !levels.filter_two)
        refuse(MILEPOST_REFUSED_SANDBOX, "the second system-call filter was refused");
    instances_start(&plugin_table, &worker_host_table);
    announce(&levels);
    serve(wakeup, heartbeat_ms);
}
