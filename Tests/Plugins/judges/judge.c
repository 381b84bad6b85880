/* SPDX-License-Identifier: Apache-2.0
 *
 * A hook without a vendor: it judges crossings by the link's name, "x-drop", "x-hold", "x-title", or misbehaves over
 * them, "x-abort", "x-never", "x-rubbish". Built by Tests/EndToEnd/test_interceptor.py, which gives MANIFEST.
 */
#define _GNU_SOURCE
#include "../bodies.h"

#include <stdlib.h>
#include <string.h>

struct judge {
    const mp_host *host;
    uint64_t instance;
};

static void describe(mp_view *ret_manifest) {
    *ret_manifest = text(MANIFEST);
}

static int32_t create(const mp_host *host, uint64_t instance, mp_view config, void **ret_self) {
    struct judge *self = calloc(1, sizeof *self);
    (void)config;
    if (self == NULL)
        return MP_RETRY;
    self->host = host;
    self->instance = instance;
    *ret_self = self;
    return MP_OK;
}

static void destroy(void *pointer) {
    free(pointer);
}

static int32_t end(void *pointer, const mp_op *op, const char *answer) {
    struct judge *self = pointer;
    self->host->op_complete(self->instance, op->id, MP_OK, text(answer));
    return MP_OK;
}

static int32_t well(void *pointer, const mp_op *op) {
    return end(pointer, op, "{}");
}

static int32_t connect_account(void *pointer, const mp_op *op) {
    return end(pointer, op, "{\"account\":{\"id\":\"judge\"}}");
}

static int32_t intercept(void *pointer, const mp_op *op) {
    if (has(op->body, "x-abort"))
        abort();
    if (has(op->body, "x-never"))
        return MP_OK;
    if (has(op->body, "x-rubbish"))
        return end(pointer, op, "\"no verdict\"");
    if (has(op->body, "x-drop"))
        return end(pointer, op, "{\"verdict\":\"drop\",\"reason\":\"not this one\"}");
    if (has(op->body, "x-hold") && (has(op->body, "\"ask\":1,") || has(op->body, "\"ask\":1}")))
        return end(pointer, op, "{\"verdict\":\"hold\",\"until\":\"2020-01-01T00:00:00Z\"}");
    if (has(op->body, "x-title"))
        return end(pointer, op, "{\"verdict\":\"modify\",\"deal\":{\"title\":\"Judged well\"}}");
    return end(pointer, op, "{\"verdict\":\"continue\"}");
}

static void cancel(void *pointer, uint64_t op) {
    (void)pointer;
    (void)op;
}

static void on_event(void *pointer, const mp_event *event) {
    (void)pointer;
    (void)event;
}

static const mp_plugin table = {
    .struct_size = sizeof table,
    .abi_minor = MP_ABI_MINOR,
    .describe = describe,
    .create = create,
    .destroy = destroy,
    .connect = connect_account,
    .intercept = intercept,
    .ping = well,
    .shutdown = well,
    .cancel = cancel,
    .on_event = on_event,
};

MP_EXPORT const mp_plugin *milepost_plugin_v1(const mp_host_info *info, int32_t *ret_status) {
    (void)info;
    (void)ret_status;
    return &table;
}
