/* SPDX-License-Identifier: Apache-2.0
 *
 * milepost/connector_host.h: the half of <milepost/connector.h> that faces the host. Include that one.
 */
#ifndef MILEPOST_CONNECTOR_HOST_H
#define MILEPOST_CONNECTOR_HOST_H

#include <milepost/connector.h>

#define MPK__LONGEST_BODY (1u << 20)

/* ---- Completing -------------------------------------------------------------------------------------------------- */

static inline const char *mpk__class(int32_t verdict) {
    static const char *const names[] = {"ok",           "rejected",     "retry",  "rate_limited",
                                        "auth_expired", "auth_revoked", "config", "uncertain"};
    return verdict >= 0 && verdict <= MP_UNCERTAIN ? names[verdict] : "uncertain";
}

static inline void mpk__write_error(struct mpk_buffer *result, const struct mpk_call *call) {
    mpk_format(result, "{\"code\":\"%s\",\"message\":", call->code ? call->code : "unknown");
    mpk_quote(result, call->message);
    if (call->retry_after_ms)
        mpk_format(result, ",\"retry_after_ms\":%lld,\"scope\":\"token\"", call->retry_after_ms);
    mpk_format(result, "}");
}

static inline void mpk__write_record(struct mpk_buffer *result, const struct mpk__work *work, uint32_t index) {
    const struct mpk_call *call = &work->calls[index];
    mpk_format(result, "%s{\"index\":%u,", index ? "," : "", index);
    if (work->verb == MP_VERB_RECONCILE) {
        mpk_format(result, "\"answer\":\"%s\",\"step\":\"%s\",\"message\":", call->answer, call->step);
        mpk_quote(result, call->message);
        if (!strcmp(call->answer, "unknown"))
            mpk_format(result, ",\"ask_again_ms\":%u", call->instance->connector->read_lag_ms + 10);
        if (!strcmp(call->answer, "applied")) {
            mpk_format(result, ",\"result\":{\"id\":");
            mpk_quote(result, call->remote);
            mpk_format(result, "}");
        }
    } else {
        mpk_format(result, "\"class\":\"%s\"", mpk__class(call->verdict));
    }
    if (call->remote[0]) {
        mpk_format(result, ",\"remote_id\":");
        mpk_quote(result, call->remote);
    }
    if (work->verb == MP_VERB_DELIVER && call->verdict != MP_OK) {
        mpk_format(result, ",\"error\":");
        mpk__write_error(result, call);
    }
    mpk_format(result, "}");
}

/* Takes the work away first, so that nothing can complete it twice. */
static inline void mpk__complete(struct mpk__instance *instance, struct mpk__work *work, int32_t status,
                                 const struct mpk_buffer *result) {
    uint64_t op = work->op;
    mp_view body = mpk_view(result->failed || !result->bytes ? "{}" : result->bytes);
    for (struct mpk__work **at = &instance->works; *at; at = &(*at)->next)
        if (*at == work) {
            *at = work->next;
            break;
        }
    instance->host->op_complete(instance->id, op, status, body);
    free(work->body);
    free(work->result.bytes);
    free(work);
}

/* Completes the work when every call has its verdict. A function of the connector that neither asks nor decides shall not
 * leave an operation hanging. */
static inline void mpk__settle(struct mpk__instance *instance, struct mpk__work *work) {
    struct mpk_buffer result = {0};
    struct mpk_call *first = &work->calls[0];
    for (uint32_t i = 0; i < work->count; i++) {
        struct mpk_call *call = &work->calls[i];
        if (call->token)
            return;
        if (call->verdict < 0 && work->verb != MP_VERB_OPTIONS)
            mpk_end(call, call->has_asked ? MP_UNCERTAIN : MP_REJECTED, "connector_idle",
                    "The connector neither asked the vendor nor decided.");
    }
    if (work->verb == MP_VERB_CONNECT || work->verb == MP_VERB_OPTIONS) {
        if (first->verdict <= MP_OK) {
            if (work->verb == MP_VERB_OPTIONS)
                mpk_format(&work->result, "],\"next\":null}");
            mpk__complete(instance, work, MP_OK, &work->result);
        } else {
            mpk__write_error(&result, first);
            mpk__complete(instance, work, first->verdict, &result);
        }
    } else {
        mpk_format(&result, "{\"records\":[");
        for (uint32_t i = 0; i < work->count; i++)
            mpk__write_record(&result, work, i);
        mpk_format(&result, "]}");
        mpk__complete(instance, work, MP_OK, &result);
    }
    free(result.bytes);
}

/* ---- Answers ----------------------------------------------------------------------------------------------------- */

/* The body of an answer; large ones lie in a blob. The caller frees. */
static inline char *mpk__body(struct mpk__instance *instance, const mp_event *event, size_t *ret_length) {
    uint64_t length = event->blob ? event->blob_len : event->data.len, have = 0, got = 0;
    if (length > MPK__LONGEST_BODY)
        length = MPK__LONGEST_BODY;
    char *bytes = (char *)malloc(length + 1);
    if (bytes && !event->blob && length)
        memcpy(bytes, event->data.ptr, have = length);
    while (bytes && event->blob && have < length &&
           instance->host->blob_read(instance->id, event->blob, have, (uint8_t *)bytes + have, length - have, &got) ==
               MP_CALL_OK &&
           got)
        have += got;
    *ret_length = have;
    return bytes;
}

static inline long long mpk__retry_after(const mp_event *event) {
    struct mpk_json headers = mpk_member(mpk_parse(event->json.ptr, event->json.len), "headers"), name, pair, key, value;
    char text[40];
    for (const char *cursor = NULL; mpk_next(headers, &cursor, &name, &pair);) {
        const char *inner = NULL;
        if (!mpk_next(pair, &inner, &name, &key) || !mpk_next(pair, &inner, &name, &value))
            continue;
        mpk_text(key, text, sizeof text);
        for (char *at = text; *at; at++)
            *at = (char)(*at >= 'A' && *at <= 'Z' ? *at | 0x20 : *at);
        if (!strcmp(text, "retry-after") && mpk_text(value, text, sizeof text))
            return atoll(text) > 86400 ? 86400000 : atoll(text) > 0 ? atoll(text) * 1000 : 0;
    }
    return 0;
}

/* Ends the call unless the answer is a success. */
static inline void mpk__judge(struct mpk_call *call, const mp_event *event) {
    struct mpk__instance *instance = call->instance;
    int status = event->http_status;
    int32_t lost = call->is_change ? MP_UNCERTAIN : MP_RETRY;
    if (event->status != MP_CALL_OK || event->wire == MP_WIRE_NEVER_SENT)
        mpk_end(call, MP_RETRY, "vendor_unavailable", "The request was not sent.");
    else if (event->wire != MP_WIRE_ANSWERED)
        mpk_end(call, lost, "vendor_unavailable", "The request was sent and its answer lost.");
    else if (status == 401) {
        instance->host->cred_reject(instance->id, call->op, mpk_view(instance->connector->credential),
                                    mpk_view("401 from the vendor"));
        mpk_end(call, MP_AUTH_REVOKED, "credential_refused", "The vendor refused the credential. Give a new one.");
    } else if (status == 403)
        mpk_end(call, MP_CONFIG, "permission_missing", "The vendor does not permit this to the credential's owner.");
    else if (status == 429) {
        call->retry_after_ms = mpk__retry_after(event) ? mpk__retry_after(event) : 2000;
        mpk_end(call, MP_RATE_LIMITED, "rate_limited", "The vendor asks to wait.");
    } else if (status == 503) {
        call->retry_after_ms = mpk__retry_after(event);
        mpk_end(call, MP_RETRY, "vendor_unavailable", "The vendor is not available.");
    } else if (status >= 400 && status < 500) {
        mpk_end(call, MP_REJECTED, "vendor_rejected", "");
        snprintf(call->message, sizeof call->message, "The vendor refused the request with %d.", status);
    } else if (status < 200 || status >= 300)
        mpk_end(call, lost, "vendor_unavailable", "The vendor failed.");
}

static inline void mpk__go_on(struct mpk_call *call, const mp_event *event) {
    struct mpk_json nothing = {NULL, NULL};
    size_t length = 0;
    call->token = 0;
    if (event->kind == MP_EVENT_JOURNAL) {
        if (event->status == MP_CALL_OK)
            call->then(call, nothing);
        else
            mpk_end(call, MP_UNCERTAIN, "journal_failed", "The host could not store the step.");
        return;
    }
    mpk__judge(call, event);
    if (call->verdict >= 0)
        return;
    char *bytes = mpk__body(call->instance, event, &length);
    struct mpk_json answer = mpk_parse(bytes, length);
    if (answer.at)
        call->then(call, answer);
    else
        mpk_unreadable(call);
    free(bytes);
}

static inline void mpk__on_event(void *self, const mp_event *event) {
    struct mpk__instance *instance = (struct mpk__instance *)self;
    for (struct mpk__work *work = instance->works; work; work = work->next)
        for (uint32_t i = 0; i < work->count; i++)
            if (work->calls[i].token && work->calls[i].token == event->token) {
                mpk__go_on(&work->calls[i], event);
                mpk__settle(instance, work);
                return;
            }
}

/* ---- Verbs ------------------------------------------------------------------------------------------------------- */

static inline struct mpk__work *mpk__begin(struct mpk__instance *instance, const mp_op *op) {
    struct mpk_json list, name, item;
    uint32_t count = 0;
    char *body = (char *)malloc(op->body.len + 1);
    if (!body)
        return NULL;
    if (op->body.len)
        memcpy(body, op->body.ptr, op->body.len);
    struct mpk_json request = mpk_parse(body, op->body.len);
    list = mpk_member(request, "records");
    for (const char *cursor = NULL; mpk_next(list, &cursor, &name, &item);)
        count++;
    if (op->verb == MP_VERB_CONNECT || op->verb == MP_VERB_OPTIONS)
        count = 1;
    struct mpk__work *work = (struct mpk__work *)calloc(1, sizeof *work + count * sizeof work->calls[0]);
    if (!work) {
        free(body);
        return NULL;
    }
    work->op = op->id;
    work->verb = op->verb;
    work->count = count;
    work->body = body;
    const char *cursor = NULL;
    for (uint32_t i = 0; i < count; i++) {
        struct mpk_call *call = &work->calls[i];
        call->instance = instance;
        call->work = work;
        call->settings = instance->settings;
        call->op = op->id;
        call->index = i;
        call->verdict = -1;
        call->answer = "unknown";
        call->request = request;
        if (mpk_next(list, &cursor, &name, &call->record)) {
            call->payload = mpk_member(call->record, "payload");
            mpk_text(mpk_member(call->record, "delivery_id"), call->delivery, sizeof call->delivery);
        }
    }
    work->next = instance->works;
    instance->works = work;
    return work;
}

static inline int32_t mpk__each(void *self, const mp_op *op, void (*run)(struct mpk_call *)) {
    struct mpk__instance *instance = (struct mpk__instance *)self;
    struct mpk__work *work = mpk__begin(instance, op);
    if (!work)
        return MP_RETRY;
    for (uint32_t i = 0; i < work->count && run; i++)
        run(&work->calls[i]);
    mpk__settle(instance, work);
    return MP_OK;
}

static inline int32_t mpk__connect(void *self, const mp_op *op) {
    return mpk__each(self, op, ((struct mpk__instance *)self)->connector->connect);
}

static inline int32_t mpk__deliver(void *self, const mp_op *op) {
    return mpk__each(self, op, ((struct mpk__instance *)self)->connector->deliver);
}

static inline int32_t mpk__reconcile(void *self, const mp_op *op) {
    return mpk__each(self, op, ((struct mpk__instance *)self)->connector->reconcile);
}

static inline int32_t mpk__options(void *self, const mp_op *op) {
    struct mpk__instance *instance = (struct mpk__instance *)self;
    struct mpk__work *work = mpk__begin(instance, op);
    char picker[60];
    if (!work)
        return MP_RETRY;
    struct mpk_call *call = &work->calls[0];
    mpk_text(mpk_member(call->request, "picker"), picker, sizeof picker);
    mpk_text(mpk_member(call->request, "search"), work->search, sizeof work->search);
    mpk_format(&work->result, "{\"items\":[");
    if (instance->connector->options)
        instance->connector->options(call, picker);
    if (call->verdict < 0 && !call->token && !call->choices)
        mpk_end(call, MP_REJECTED, "picker_unknown", "There is no such picker.");
    mpk__settle(instance, work);
    return MP_OK;
}

/* Adopts settings that are right. */
static inline int mpk__adopt(struct mpk__instance *instance, struct mpk_json settings, struct mpk_problems *problems) {
    const struct mpk_connector *connector = instance->connector;
    void *fresh = calloc(1, connector->settings_size + 1);
    if (!fresh)
        return 0;
    if (connector->settings)
        connector->settings(problems, settings, fresh);
    if (!problems->count)
        memcpy(instance->settings, fresh, connector->settings_size);
    free(fresh);
    return 1;
}

static inline int32_t mpk__configure(void *self, const mp_op *op) {
    struct mpk__instance *instance = (struct mpk__instance *)self;
    struct mpk_problems problems = {0};
    struct mpk_buffer result = {0};
    if (!mpk__adopt(instance, mpk_member(mpk_parse(op->body.ptr, op->body.len), "settings"), &problems))
        return MP_RETRY;
    mpk_format(&result, "{\"errors\":[");
    if (problems.text.bytes)
        mpk_append(&result, problems.text.bytes, problems.text.length);
    mpk_format(&result, "],\"warnings\":[]}");
    instance->host->op_complete(instance->id, op->id, MP_OK, mpk_view(result.failed ? "{}" : result.bytes));
    free(problems.text.bytes);
    free(result.bytes);
    return MP_OK;
}

/* Ends an operation early: what was asked of the vendor may have been done. */
static inline void mpk__give_up(struct mpk__instance *instance, struct mpk__work *work) {
    struct mpk_call error = {0};
    struct mpk_buffer result = {0};
    int has_asked = 0;
    for (uint32_t i = 0; i < work->count; i++) {
        has_asked |= work->calls[i].has_asked;
        if (work->calls[i].token)
            instance->host->http_cancel(instance->id, work->calls[i].token);
    }
    error.code = "cancelled";
    snprintf(error.message, sizeof error.message, "Given up on request.");
    mpk__write_error(&result, &error);
    mpk__complete(instance, work, has_asked ? MP_UNCERTAIN : MP_CANCELLED, &result);
    free(result.bytes);
}

static inline void mpk__cancel(void *self, uint64_t op) {
    struct mpk__instance *instance = (struct mpk__instance *)self;
    for (struct mpk__work *work = instance->works; work; work = work->next)
        if (work->op == op) {
            mpk__give_up(instance, work);
            return;
        }
}

static inline int32_t mpk__ping(void *self, const mp_op *op) {
    struct mpk__instance *instance = (struct mpk__instance *)self;
    instance->host->op_complete(instance->id, op->id, MP_OK, mpk_view("{}"));
    return MP_OK;
}

static inline int32_t mpk__shutdown(void *self, const mp_op *op) {
    struct mpk__instance *instance = (struct mpk__instance *)self;
    while (instance->works)
        mpk__give_up(instance, instance->works);
    return mpk__ping(self, op);
}

static inline void mpk__destroy(void *self) {
    struct mpk__instance *instance = (struct mpk__instance *)self;
    while (instance->works) {
        struct mpk__work *next = instance->works->next;
        free(instance->works->body);
        free(instance->works->result.bytes);
        free(instance->works);
        instance->works = next;
    }
    free(instance->settings);
    free(instance);
}

static inline int32_t mpk__create(const struct mpk_connector *connector, const mp_host *host, uint64_t id,
                                  mp_view config, void **ret_self) {
    struct mpk_json json = mpk_parse(config.ptr, config.len);
    struct mpk_problems ignored = {0};
    struct mpk__instance *instance = (struct mpk__instance *)calloc(1, sizeof *instance);
    void *settings = calloc(1, connector->settings_size + 1);
    if (!instance || !settings) {
        free(instance);
        free(settings);
        return MP_RETRY;
    }
    instance->connector = connector;
    instance->host = host;
    instance->id = id;
    instance->settings = settings;
    mpk_text(mpk_member(mpk_member(json, "endpoints"), connector->endpoint ? connector->endpoint : "api"),
             instance->base, sizeof instance->base);
    /* Settings that are not right yet are reported by `configure`. */
    mpk__adopt(instance, mpk_member(json, "settings"), &ignored);
    free(ignored.text.bytes);
    *ret_self = instance;
    return MP_OK;
}

/** Exports a connector. Once in a plugin, at the end of its file. */
#define MPK_EXPORT(connector)                                                                                         \
    static void mpk__describe(mp_view *ret_manifest) {                                                                 \
        ret_manifest->ptr = (connector).manifest;                                                                      \
        ret_manifest->len = (connector).manifest_length;                                                               \
    }                                                                                                                  \
    static int32_t mpk__create_one(const mp_host *host, uint64_t id, mp_view config, void **ret_self) {                \
        return mpk__create(&(connector), host, id, config, ret_self);                                                  \
    }                                                                                                                  \
    static const mp_plugin mpk__table = {                                                                              \
        .struct_size = sizeof mpk__table,                                                                              \
        .abi_minor = MP_ABI_MINOR,                                                                                     \
        .describe = mpk__describe,                                                                                     \
        .create = mpk__create_one,                                                                                     \
        .destroy = mpk__destroy,                                                                                       \
        .configure = mpk__configure,                                                                                   \
        .connect = mpk__connect,                                                                                       \
        .options = mpk__options,                                                                                       \
        .deliver = mpk__deliver,                                                                                       \
        .reconcile = mpk__reconcile,                                                                                   \
        .ping = mpk__ping,                                                                                             \
        .shutdown = mpk__shutdown,                                                                                     \
        .cancel = mpk__cancel,                                                                                         \
        .on_event = mpk__on_event,                                                                                     \
    };                                                                                                                 \
    MP_EXPORT const mp_plugin *milepost_plugin_v1(const mp_host_info *info, int32_t *ret_status) {                     \
        (void)info;                                                                                                    \
        (void)ret_status;                                                                                              \
        return &mpk__table;                                                                                            \
    }

#endif
