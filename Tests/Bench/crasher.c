/* SPDX-License-Identifier: Apache-2.0
 *
 * A connector for the benchmark of isolation: with CRASHES it aborts at every record, without it
 * says that all is well. MANIFEST is given by hook_bench.py.
 */
#define _GNU_SOURCE
#include "../Plugins/bodies.h"

#include <stdlib.h>
#include <string.h>

struct crasher {
    const mp_host *host;
    uint64_t instance;
};

static void describe(mp_view *ret_manifest) {
    *ret_manifest = text(MANIFEST);
}

static int32_t create(const mp_host *host, uint64_t instance, mp_view config, void **ret_self) {
    (void)config;
    struct crasher *self = calloc(1, sizeof *self);
    if (!self)
        return MP_RETRY;
    self->host = host;
    self->instance = instance;
    *ret_self = self;
    return MP_OK;
}

static void destroy(void *pointer) {
    free(pointer);
}

static int32_t complete(void *pointer, const mp_op *op, const char *result) {
    struct crasher *self = pointer;
    self->host->op_complete(self->instance, op->id, MP_OK, text(result));
    return MP_OK;
}

static int32_t well(void *pointer, const mp_op *op) {
    return complete(pointer, op, "{}");
}

static int32_t connect_account(void *pointer, const mp_op *op) {
    return complete(pointer, op, "{\"account\":{\"id\":\"crasher\",\"label\":\"Crasher\"}}");
}

/* One record a call, by the manifest. */
static int32_t deliver(void *pointer, const mp_op *op) {
#ifdef CRASHES
    abort();
#endif
    return complete(pointer, op, "{\"records\":[{\"index\":0,\"class\":\"ok\"}]}");
}

static void on_event(void *pointer, const mp_event *event) {
    (void)pointer;
    (void)event;
}

static const mp_plugin table = {
    .struct_size = sizeof table,
    .abi_minor = 0,
    .describe = describe,
    .create = create,
    .destroy = destroy,
    .configure = well,
    .connect = connect_account,
    .deliver = deliver,
    .ping = well,
    .shutdown = well,
    .on_event = on_event,
};

MP_EXPORT const mp_plugin *milepost_plugin_v1(const mp_host_info *info, int32_t *ret_status) {
    (void)info;
    *ret_status = MP_OK;
    return &table;
}
