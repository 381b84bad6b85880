/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin that says back what it is told. `deliver` sends one request a record and completes when
 * all have been answered; `query` repeats its body, large or small; `catalog` goes once through
 * timer, kv, journal-less services and blob_read. Built by the tests.
 */
#include <milepost/plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef MANIFEST
#error "the tests give the manifest as a string"
#endif
#ifndef MIN_HOST_MINOR
#define MIN_HOST_MINOR 0
#endif

struct echo {
    const mp_host *host;
    uint64_t instance;
    uint64_t delivering;
};

#ifdef CALLS_NOTHING
extern void nobody_defines_this(void);
#endif

static mp_view text(const char *string) {
    return (mp_view){(const uint8_t *)string, strlen(string)};
}

static void describe(mp_view *ret_manifest) {
    *ret_manifest = text(MANIFEST);
}

static int32_t create(const mp_host *host, uint64_t instance, mp_view config, void **ret_self) {
    if (config.len >= 6 && memcmp(config.ptr, "refuse", 6) == 0)
        return MP_CONFIG;
    struct echo *self = calloc(1, sizeof *self);
    self->host = host;
    self->instance = instance;
    *ret_self = self;
    host->log(instance, 0, MP_LOG_INFO, text("created"), (mp_view){NULL, 0});
    host->log(instance, 0, MP_LOG_DEBUG, text("created in detail"), (mp_view){NULL, 0});
    return MP_OK;
}

static void destroy(void *pointer) {
    free(pointer);
}

static int32_t repeat(void *pointer, const mp_op *op) {
    struct echo *self = pointer;
#ifdef CALLS_NOTHING
    nobody_defines_this();
#endif
    self->host->op_complete(self->instance, op->id, MP_OK, op->body);
    return MP_OK;
}

static int32_t connect_account(void *pointer, const mp_op *op) {
    struct echo *self = pointer;
    char facts[256] = {0}, result[400];
    uint64_t length = 0;
    int32_t status = self->host->cred_info(self->instance, text("api_token"), (uint8_t *)facts,
                                           sizeof facts - 1, &length);
    mp_time now = {.struct_size = sizeof now};
    uint8_t random[16] = {0};
    int ok = self->host->now(self->instance, &now) == MP_CALL_OK && now.wall_ns > 0 &&
             now.monotonic_ns < op->deadline_ns &&
             self->host->random(self->instance, random, 16) == MP_CALL_OK &&
             self->host->get_extension(self->instance, text("nobody.knows/1")) == NULL;
    snprintf(result, sizeof result,
             "{\"facts\":%s,\"status\":%d,\"length\":%d,\"attempt\":%u,\"ok\":%d}",
             status == MP_CALL_OK ? facts : "null", status, (int)length, op->attempt, ok);
    self->host->op_complete(self->instance, op->id, MP_OK, text(result));
    return MP_OK;
}

static int32_t deliver(void *pointer, const mp_op *op) {
    struct echo *self = pointer;
    self->delivering = op->id;
    mp_pair headers[] = {{text("content-type"), text("application/json")}};
    uint32_t records[] = {0, 2};
    mp_http_request request = {
        .struct_size = sizeof request,
        .op = op->id,
        .token = 77,
        .method = text("POST"),
        .url = text("https://api.example.com/deals"),
        .headers = headers,
        .header_count = 1,
        .body = op->body,
        .credential = text("api_token"),
        .placement = text("header"),
        .step = text("deal"),
        .records = records,
        .record_count = 2,
        .timeout_ms = 5000,
        .cost = 3,
        .bucket = text("search"),
    };
    int32_t status = self->host->http_submit(self->instance, &request);
    if (status != MP_CALL_OK)
        return MP_REJECTED;
    self->host->op_partial(self->instance, op->id, text("{\"index\":0}"));
    return MP_OK;
}

static int32_t catalog(void *pointer, const mp_op *op) {
    struct echo *self = pointer;
    self->delivering = op->id;
    return self->host->timer_set(self->instance, 5, 10) == MP_CALL_OK ? MP_OK : MP_REJECTED;
}

static void answered(struct echo *self, const mp_event *event) {
    uint64_t length = event->data.len, sum = 0;
    const uint8_t *bytes = event->data.ptr;
    uint8_t *copy = NULL;
    if (event->blob != 0) {
        length = event->blob_len;
        copy = malloc(length);
        uint64_t at = 0, got = 0;
        while (self->host->blob_read(self->instance, event->blob, at, copy + at, 10000, &got) ==
                   MP_CALL_OK &&
               got > 0)
            at += got;
        bytes = copy;
    }
    for (uint64_t i = 0; i < length; i++)
        sum = sum * 31 + bytes[i];
    char result[300];
    snprintf(result, sizeof result,
             "{\"http\":%d,\"wire\":%d,\"status\":%d,\"token\":%d,\"bytes\":%llu,\"sum\":%llu}",
             event->http_status, event->wire, event->status, (int)event->token,
             (unsigned long long)length, (unsigned long long)sum);
    free(copy);
    mp_view answer = text(result);
#ifdef ANSWERS_JSON
    answer = event->json; /* the host copies it while it ends the operation */
#endif
    self->host->op_complete(self->instance, event->op, MP_OK, answer);
}

static void on_event(void *pointer, const mp_event *event) {
    struct echo *self = pointer;
    char result[200];
    switch (event->kind) {
    case MP_EVENT_HTTP:
        answered(self, event);
        break;
    case MP_EVENT_TIMER:
        self->host->kv_put(self->instance, 6, text("key"), text("value"), 0, 0);
        break;
    case MP_EVENT_KV:
        if (event->token == 6)
            self->host->kv_get(self->instance, 7, text("key"));
        else
            self->host->journal_put(self->instance, self->delivering, 8, 0, text("step"),
                                    event->data);
        break;
    case MP_EVENT_JOURNAL:
        self->host->sign(self->instance, 9, text("api_token"), text("hmac-sha256"), text("x"));
        break;
    case MP_EVENT_SIGNATURE:
        snprintf(result, sizeof result, "{\"signature\":%d,\"status\":%d}", (int)event->data.len,
                 event->status);
        self->host->op_complete(self->instance, self->delivering, MP_OK, text(result));
        break;
    default:
        break;
    }
}

static const mp_plugin table = {
    .struct_size = sizeof table,
    .abi_minor = MP_ABI_MINOR,
    .min_host_minor = MIN_HOST_MINOR,
    .describe = describe,
    .create = create,
    .destroy = destroy,
    .connect = connect_account,
    .query = repeat,
    .catalog = catalog,
    .deliver = deliver,
    .reconcile = repeat,
    .ping = repeat,
    .shutdown = repeat,
    .on_event = on_event,
};

#ifndef ENTRY
#define ENTRY milepost_plugin_v1
#endif
MP_EXPORT const mp_plugin *ENTRY(const mp_host_info *info, int32_t *ret_status) {
    (void)info;
    (void)ret_status;
    return &table;
}
