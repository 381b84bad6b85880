/* SPDX-License-Identifier: Apache-2.0
 *
 * A destination for rolling rules: it has an action for them, lists pipelines and stages, and answers rule_targets from
 * the contact's name: "poor…" has a small deal, "late…" one in another stage, "two…" two of them, "nobody…" is unknown,
 * "flaky…" is found at the third look, and the deal of "gone…" has moved when it is acted on. Everybody else has one deal
 * that may move. Built by Tests/EndToEnd/test_rules.py, which gives MANIFEST.
 */
#define _GNU_SOURCE
#include "../bodies.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mover {
    const mp_host *host;
    uint64_t instance;
    unsigned flaky_looks;
};

static void describe(mp_view *ret_manifest) {
    *ret_manifest = text(MANIFEST);
}

static int begins(const char *string, const char *start) {
    return strncmp(string, start, strlen(start)) == 0;
}

static int32_t create(const mp_host *host, uint64_t instance, mp_view config, void **ret_self) {
    struct mover *self = calloc(1, sizeof *self);
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

static int32_t complete(struct mover *self, const mp_op *op, int32_t status, const char *answer) {
    self->host->op_complete(self->instance, op->id, status, text(answer));
    return MP_OK;
}

static int32_t well(void *pointer, const mp_op *op) {
    return complete(pointer, op, MP_OK, "{}");
}

static int32_t connect_account(void *pointer, const mp_op *op) {
    return complete(pointer, op, MP_OK, "{\"account\":{\"id\":\"mover\",\"label\":\"Mover\"}}");
}

static int32_t options(void *pointer, const mp_op *op) {
    if (has(op->body, "\"picker\":\"pipelines\""))
        return complete(pointer, op, MP_OK,
                        "{\"items\":[{\"value\":\"default\",\"label\":\"Sales Pipeline\"}],\"next\":null}");
    if (!has(op->body, "\"pipeline\":\"default\""))
        return complete(pointer, op, MP_REJECTED,
                        "{\"code\":\"target_missing\",\"message\":\"stages of which pipeline?\"}");
    return complete(pointer, op, MP_OK,
                    "{\"items\":[{\"value\":\"appointmentscheduled\",\"label\":\"Appointment Scheduled\"},"
                    "{\"value\":\"qualifiedtobuy\",\"label\":\"Qualified To Buy\"},"
                    "{\"value\":\"closedwon\",\"label\":\"Closed Won\"}],\"next\":null}");
}

static int deal(char *into, size_t capacity, const char *contact, const char *kind, const char *stage, const char *amount) {
    return snprintf(into, capacity,
                    "{\"id\":\"%s-%s\",\"pipeline\":\"default\",\"stage\":\"%s\",\"amount\":\"%s\","
                    "\"currency\":\"EUR\",\"created_at\":\"2026-01-15T09:30:00Z\",\"is_primary\":true,"
                    "\"is_closed\":false,\"name\":\"Deal of %s\"}",
                    kind, contact, stage, amount, contact);
}

static int32_t query(void *pointer, const mp_op *op) {
    struct mover *self = pointer;
    char contact[128], answer[4096];
    size_t used;
    if (!has(op->body, "\"query\":\"rule_targets\""))
        return complete(self, op, MP_UNSUPPORTED, "{\"code\":\"unsupported\",\"message\":\"no such query\"}");
    copy_value(after(op->body, "\"contact\":{"), "\"id\":\"", contact, sizeof contact);
    if (begins(contact, "nobody"))
        return complete(self, op, MP_REJECTED,
                        "{\"code\":\"contact_unknown\",\"message\":\"there is no such contact\"}");
    if (begins(contact, "flaky") && self->flaky_looks++ < 2)
        return complete(self, op, MP_RETRY,
                        "{\"code\":\"vendor_unavailable\",\"message\":\"busy\",\"retry_after_ms\":50}");
    used = (size_t)snprintf(answer, sizeof answer, "{\"result\":{\"targets\":[");
    used += (size_t)deal(answer + used, sizeof answer - used, contact, begins(contact, "gone") ? "gone" : "d",
                         begins(contact, "late") ? "closedwon" : "appointmentscheduled",
                         begins(contact, "poor") ? "400.00" : "9000.00");
    if (begins(contact, "two")) {
        answer[used++] = ',';
        used += (size_t)deal(answer + used, sizeof answer - used, contact, "e", "appointmentscheduled", "8000");
    }
    snprintf(answer + used, sizeof answer - used, "]}}");
    return complete(self, op, MP_OK, answer);
}

/* One record in each operation: the manifest asks for no batches. */
static int32_t deliver(void *pointer, const mp_op *op) {
    char target[160], answer[512];
    copy_value(after(op->body, "\"target\":{"), "\"id\":\"", target, sizeof target);
    if (begins(target, "gone"))
        return complete(pointer, op, MP_OK,
                        "{\"records\":[{\"index\":0,\"class\":\"rejected\",\"error\":{\"code\":\"target_moved\","
                        "\"message\":\"The deal is in another stage now.\"}}]}");
    snprintf(answer, sizeof answer, "{\"records\":[{\"index\":0,\"class\":\"ok\",\"remote_id\":\"%s\"}]}", target);
    return complete(pointer, op, MP_OK, answer);
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
    .configure = well,
    .connect = connect_account,
    .query = query,
    .options = options,
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
