/* SPDX-License-Identifier: Apache-2.0
 *
 * A destination that takes every click: it posts the records of a deliver as they are to <api>/<action> and answers
 * with what the receiver answered. The test's receiver so decides about each record. Built by
 * Tests/EndToEnd/test_stream.py, which gives MANIFEST.
 */
#define _GNU_SOURCE
#include "../bodies.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct destination {
    const mp_host *host;
    uint64_t instance;
    char base[256];
};

static void describe(mp_view *ret_manifest) {
    *ret_manifest = text(MANIFEST);
}

static int32_t create(const mp_host *host, uint64_t instance, mp_view config, void **ret_self) {
    struct destination *self = calloc(1, sizeof *self);
    if (self == NULL)
        return MP_RETRY;
    self->host = host;
    self->instance = instance;
    copy_value(config, "\"api\":\"", self->base, sizeof self->base);
    *ret_self = self;
    return MP_OK;
}

static void destroy(void *pointer) {
    free(pointer);
}

static int32_t well(void *pointer, const mp_op *op) {
    struct destination *self = pointer;
    self->host->op_complete(self->instance, op->id, MP_OK, text("{}"));
    return MP_OK;
}

static int32_t connect_account(void *pointer, const mp_op *op) {
    struct destination *self = pointer;
    self->host->op_complete(self->instance, op->id, MP_OK,
                            text("{\"account\":{\"id\":\"stream\",\"label\":\"Stream\"}}"));
    return MP_OK;
}

static int32_t deliver(void *pointer, const mp_op *op) {
    struct destination *self = pointer;
    char action[64], url[340];
    copy_value(op->body, "\"action\":\"", action, sizeof action);
    snprintf(url, sizeof url, "%s/%s", self->base, action);
    /* A careless plugin does not say that its request may be repeated. */
    int is_careless = memmem(op->body.ptr, op->body.len, "careless", 8) != NULL;
    uint32_t first = 0;
    mp_pair header = {text("content-type"), text("application/json")};
    mp_http_request request = {
        .struct_size = sizeof request,
        .flags = is_careless ? 0 : MP_HTTP_IDEMPOTENT,
        .op = op->id,
        .token = 1,
        .method = text("POST"),
        .url = text(url),
        .headers = &header,
        .header_count = 1,
        .body = op->body,
        .credential = text("api_token"),
        .placement = text("header"),
        .step = text("send"),
        .records = &first,
        .record_count = 1,
    };
    self->host->http_submit(self->instance, &request);
    return MP_OK;
}

static void cancel(void *pointer, uint64_t op) {
    (void)pointer;
    (void)op;
}

static void on_event(void *pointer, const mp_event *event) {
    struct destination *self = pointer;
    int32_t status = MP_RETRY;
    mp_view body =
        text("{\"code\":\"vendor_unavailable\",\"message\":\"The receiver gave no answer.\"}");
    if (event->kind != MP_EVENT_HTTP)
        return;
    if (event->status == MP_CALL_DENIED) {
        status = MP_REJECTED;
        body = text("{\"code\":\"denied\",\"message\":\"The host refused the request.\"}");
    } else if (event->http_status == 200) {
        status = MP_OK;
        body = event->data;
    } else if (event->http_status == 401) {
        status = MP_AUTH_REVOKED;
        body = text("{\"code\":\"token_revoked\",\"message\":\"The receiver refused the token.\"}");
    }
    self->host->op_complete(self->instance, event->op, status, body);
}

static const mp_plugin table = {
    .struct_size = sizeof table,
    .abi_minor = MP_ABI_MINOR,
    .describe = describe,
    .create = create,
    .destroy = destroy,
    .configure = well,
    .connect = connect_account,
    .deliver = deliver,
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
