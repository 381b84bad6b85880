/* SPDX-License-Identifier: Apache-2.0
 *
 * A destination that does its work, except for records whose link is named after a way to misbehave:
 * "x-abort", "x-spin", and so on. The daemon sees a real plugin with one record gone bad. Built by
 * Tests/EndToEnd/test_isolation.py, which gives MANIFEST.
 */
#define _GNU_SOURCE
#include "../bodies.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct destination {
    const mp_host *host;
    uint64_t instance;
    uint64_t submitted;    /* the operation that waits for the vendor's answer */
    unsigned waiting;      /* its records, when it takes the answer well */
    uint64_t provisioning; /* and the one that waits for what it makes */
    char base[256];
    char held[64]; /* the credential that the connection holds */
    char scopes[256];  /* and what the configuration tells of it */
    char expires[40];
};

static void describe(mp_view *ret_manifest) {
    *ret_manifest = text(MANIFEST);
}

static unsigned count_records(mp_view body) {
    unsigned count = 0;
    const char *at = (const char *)body.ptr, *end = at + body.len;
    while ((at = memmem(at, (size_t)(end - at), "\"delivery_id\"", 13)) != NULL) {
        count++;
        at++;
    }
    return count;
}

static int32_t create(const mp_host *host, uint64_t instance, mp_view config, void **ret_self) {
    struct destination *self = calloc(1, sizeof *self);
    if (self == NULL)
        return MP_RETRY;
    self->host = host;
    self->instance = instance;
    copy_value(config, "\"api\":\"", self->base, sizeof self->base);
    copy_value(config, "\"ref\":\"", self->held, sizeof self->held);
    copy_until(config, "\"scopes\":[", ']', "\"", self->scopes, sizeof self->scopes);
    copy_value(config, "\"expires_at\":\"", self->expires, sizeof self->expires);
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
    char account[64], lacks[64], answer[1024];
    copy_value(op->body, "\"account\":\"", account, sizeof account);
    copy_value(op->body, "\"lacks\":\"", lacks, sizeof lacks);
    snprintf(answer, sizeof answer,
             "{\"account\":{\"id\":\"%s\",\"label\":\"holds %s\",\"user_id\":\"%s\",\"user_label\":\"%s\"},"
             "\"missing_scopes\":[%s%s%s]}",
             account[0] ? account : "bad", self->held, self->expires, self->scopes, lacks[0] ? "\"" : "", lacks,
             lacks[0] ? "\"" : "");
    self->host->op_complete(self->instance, op->id, MP_OK, text(answer));
    return MP_OK;
}

/* Says, as a warning, what the host knows of the credential now. */
static int32_t configure(void *pointer, const mp_op *op) {
    struct destination *self = pointer;
    uint8_t facts[1024];
    uint64_t length = 0;
    char expires[40], scopes[256], answer[512];
    if (!has(op->body, "\"attach\":true"))
        return well(pointer, op);
    if (self->host->cred_info(self->instance, text(self->held), facts, sizeof facts, &length) !=
            MP_CALL_OK ||
        length > sizeof facts)
        return MP_RETRY;
    copy_value((mp_view){facts, length}, "\"expires_at\":\"", expires, sizeof expires);
    copy_until((mp_view){facts, length}, "\"scopes\":[", ']', "\"", scopes, sizeof scopes);
    snprintf(answer, sizeof answer,
             "{\"warnings\":[{\"code\":\"told\",\"message\":\"%s %s\"}]}", expires, scopes);
    self->host->op_complete(self->instance, op->id, MP_OK, text(answer));
    return MP_OK;
}

static void complete_all(struct destination *self, uint64_t operation, unsigned records,
                         const char *result) {
    char answer[8192];
    size_t used = (size_t)snprintf(answer, sizeof answer, "{\"records\":[");
    for (unsigned i = 0; i < records && used < sizeof answer - 256; i++)
        used += (size_t)snprintf(answer + used, sizeof answer - used, "%s{\"index\":%u,%s}",
                                 i ? "," : "", i, result);
    snprintf(answer + used, sizeof answer - used, "]}");
    self->host->op_complete(self->instance, operation, MP_OK, text(answer));
}

static void submit(struct destination *self, const mp_op *op) {
    char url[300];
    uint32_t first = 0;
    mp_pair header = {text("content-type"), text("application/json")};
    snprintf(url, sizeof url, "%s/api/v2/deals", self->base);
    mp_http_request request = {
        .struct_size = sizeof request,
        .op = op->id,
        .token = 1,
        .method = text("POST"),
        .url = text(url),
        .headers = &header,
        .header_count = 1,
        .body = text("{\"title\":\"from the bad plugin\"}"),
        .credential = text("api_token"),
        .placement = text("header"),
        .step = text("deal"),
        .records = &first,
        .record_count = 1,
        .response_cap = 8u << 20,
    };
    self->submitted = op->id;
    self->host->http_submit(self->instance, &request);
}

/* One thing of the vendor's, made anew each time the request arrives. */
static int32_t provision(void *pointer, const mp_op *op) {
    struct destination *self = pointer;
    char url[300];
    snprintf(url, sizeof url, "%s/templates", self->base);
    mp_http_request request = {
        .struct_size = sizeof request,
        .op = op->id,
        .token = 2,
        .method = text("POST"),
        .url = text(url),
        .body = text("{}"),
        .credential = text("api_token"),
        .placement = text("header"),
        .step = text("template"),
    };
    self->provisioning = op->id;
    if (self->host->http_submit(self->instance, &request) != MP_CALL_OK)
        self->host->op_complete(self->instance, op->id, MP_REJECTED,
                                text("{\"code\":\"denied\",\"message\":\"denied\"}"));
    return MP_OK;
}

static void provisioned(struct destination *self, const mp_event *event) {
    if (event->http_status >= 200 && event->http_status < 300)
        self->host->op_complete(
            self->instance, self->provisioning, MP_OK,
            text("{\"objects\":[{\"key\":\"template\",\"state\":\"created\",\"remote_id\":\"7\"}]}"));
    else
        self->host->op_complete(self->instance, self->provisioning, MP_UNCERTAIN,
                                text("{\"code\":\"lost\",\"message\":\"The answer was lost.\"}"));
}

static int32_t deliver(void *pointer, const mp_op *op) {
    struct destination *self = pointer;
    unsigned records = count_records(op->body);
    if (has(op->body, "x-abort"))
        abort();
    if (has(op->body, "x-spin"))
        for (volatile uint64_t i = 0;; i++) {
        }
    if (has(op->body, "x-never"))
        return MP_OK;
    if (has(op->body, "x-hog"))
        for (;;) {
            char *chunk = malloc(8 << 20);
            if (chunk == NULL)
                abort();
            memset(chunk, 1, 8 << 20);
        }
    if (has(op->body, "x-rubbish")) {
        self->host->op_complete(self->instance, op->id, MP_OK,
                                (mp_view){(const uint8_t *)"\xff{]not json", 11});
        return MP_OK;
    }
    if (has(op->body, "x-submit") || has(op->body, "x-wait")) {
        self->waiting = has(op->body, "x-wait") ? records : 0;
        if (has(op->body, "\"state\":\"done\"")) {
            complete_all(self, op->id, records, "\"class\":\"ok\",\"remote_id\":\"1\"");
            return MP_OK;
        }
        submit(self, op);
        return MP_OK;
    }
    if (has(op->body, "x-stdout")) {
        for (int i = 0; i < 5000; i++)
            printf("{\"frame\":\"this is no frame\"}\n");
        fflush(stdout);
        if (write(STDOUT_FILENO, "\0\1\2\3", 4) < 0) {
        }
    }
    complete_all(self, op->id, records, "\"class\":\"ok\",\"remote_id\":\"1\"");
    if (has(op->body, "x-twice"))
        complete_all(self, op->id, records,
                     "\"class\":\"rejected\",\"error\":{\"code\":\"no\",\"message\":\"no\"}");
    return MP_OK;
}

/* What it asked for was really made: the vendor has it. */
static int32_t reconcile(void *pointer, const mp_op *op) {
    complete_all(pointer, op->id, count_records(op->body),
                 "\"answer\":\"applied\",\"step\":\"deal\",\"remote_id\":\"1\",\"result\":{}");
    return MP_OK;
}

static void cancel(void *pointer, uint64_t op) {
    (void)pointer;
    (void)op;
}

static void on_event(void *pointer, const mp_event *event) {
    struct destination *self = pointer;
    if (event->kind == MP_EVENT_HTTP && event->token == 2)
        return provisioned(self, event);
    if (event->kind != MP_EVENT_HTTP || event->op != self->submitted)
        return;
    if (self->waiting == 0)
        abort(); /* the vendor has answered, and nobody will hear of it */
    complete_all(self, event->op, self->waiting, "\"class\":\"ok\",\"remote_id\":\"1\"");
}

static const mp_plugin table = {
    .struct_size = sizeof table,
    .abi_minor = MP_ABI_MINOR,
    .describe = describe,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .connect = connect_account,
    .provision = provision,
    .deliver = deliver,
    .reconcile = reconcile,
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
