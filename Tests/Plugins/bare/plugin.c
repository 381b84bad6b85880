/* SPDX-License-Identifier: Apache-2.0 */
/* Acme for Milepost.
 *
 * Makes a record at the vendor for each threshold that a link crosses. What the vendor's API is like stands in the
 * manifest, in `submit` and `verdict`; change those first. Calls into one instance never overlap, so there is no lock.
 */
#define _GNU_SOURCE
#include <milepost/plugin.h>

#include <time.h>

#include "json.h"
#include "manifest.h"

#define READ_LAG_MS 1000 /* as in the manifest: how long a look-up may miss what was just made */
#define LONGEST_BODY (1u << 20)

/** One record of an operation, or the operation itself where a verb has no records. */
struct record {
    uint64_t token; /* of the host call that is awaited, 0 for none */
    int asked;      /* a request went to the host */
    int done;
    char delivery[80], key[80], title[300], remote[80];
    long long intent_ms;
    char verdict[24], code[40], message[160];
    long long retry_after_ms;
};

/** An operation that was accepted and not completed. */
struct work {
    struct work *next;
    uint64_t op;
    int32_t verb;
    uint32_t count;
    char search[80];
    struct record records[];
};

struct plugin {
    const mp_host *host;
    uint64_t instance, next_token;
    struct work *works;
    char base[300];
    long long list; /* the setting */
};

static mp_view view(const char *text) {
    return (mp_view){(const uint8_t *)text, strlen(text)};
}

static const mp_view absent = {NULL, 0};

/* ---- Operations ----------------------------------------------------------------------------------------------- */

static struct work *begin(struct plugin *self, const mp_op *op, uint32_t count) {
    struct work *work = calloc(1, sizeof *work + count * sizeof *work->records);
    if (!work)
        return NULL;
    work->op = op->id;
    work->verb = op->verb;
    work->count = count;
    work->next = self->works;
    self->works = work;
    return work;
}

/* Takes the work away first, so that nothing can complete it twice. */
static void end(struct plugin *self, struct work *work, int32_t status, const struct text *result) {
    uint64_t op = work->op;
    for (struct work **at = &self->works; *at; at = &(*at)->next)
        if (*at == work) {
            *at = work->next;
            break;
        }
    free(work);
    mp_view body = result->failed ? view("{}") : (mp_view){(const uint8_t *)result->bytes, result->length};
    self->host->op_complete(self->instance, op, status, body);
}

static void fail(struct plugin *self, struct work *work, int32_t status, const char *code, const char *message) {
    struct text error = {0};
    text_add(&error, "{\"code\":\"%s\",\"message\":", code);
    text_quoted(&error, message);
    text_add(&error, "}");
    end(self, work, status, &error);
    free(error.bytes);
}

static void judge(struct record *record, const char *verdict, const char *code, const char *message) {
    record->token = 0;
    record->done = 1;
    snprintf(record->verdict, sizeof record->verdict, "%s", verdict);
    snprintf(record->code, sizeof record->code, "%s", code);
    snprintf(record->message, sizeof record->message, "%s", message);
}

/* Completes a deliver or reconcile whose records all have their result. */
static void end_if_done(struct plugin *self, struct work *work) {
    struct text result = {0};
    for (uint32_t i = 0; i < work->count; i++)
        if (!work->records[i].done)
            return;
    text_add(&result, "{\"records\":[");
    for (uint32_t i = 0; i < work->count; i++) {
        struct record *record = &work->records[i];
        text_add(&result, "%s{\"index\":%u,", i ? "," : "", i);
        if (work->verb == MP_VERB_RECONCILE) {
            text_add(&result, "\"answer\":\"%s\",\"step\":\"record\",\"message\":", record->verdict);
            text_quoted(&result, record->message);
            if (!strcmp(record->verdict, "unknown"))
                text_add(&result, ",\"ask_again_ms\":%d", READ_LAG_MS);
        } else {
            text_add(&result, "\"class\":\"%s\"", record->verdict);
        }
        if (record->remote[0]) {
            text_add(&result, ",\"remote_id\":");
            text_quoted(&result, record->remote);
            if (work->verb == MP_VERB_RECONCILE) {
                text_add(&result, ",\"result\":{\"id\":");
                text_quoted(&result, record->remote);
                text_add(&result, "}");
            }
        }
        if (record->code[0]) {
            text_add(&result, ",\"error\":{\"code\":\"%s\",\"message\":", record->code);
            text_quoted(&result, record->message);
            if (record->retry_after_ms)
                text_add(&result, ",\"retry_after_ms\":%lld,\"scope\":\"token\"", record->retry_after_ms);
            text_add(&result, "}");
        }
        text_add(&result, "}");
    }
    text_add(&result, "]}");
    end(self, work, MP_OK, &result);
    free(result.bytes);
}

/* ---- Requests ------------------------------------------------------------------------------------------------- */

/* A null `body` is a look-up; a body is the change that the step "record" names. */
static int32_t submit(struct plugin *self, struct work *work, uint32_t index, const char *path, const char *body) {
    char url[512];
    mp_pair headers[] = {{view("accept"), view("application/json")}, {view("content-type"), view("application/json")}};
    snprintf(url, sizeof url, "%s%s", self->base, path);
    mp_http_request request = {
        .struct_size = sizeof request,
        .flags = body ? 0 : MP_HTTP_IDEMPOTENT,
        .op = work->op,
        .token = ++self->next_token,
        .method = view(body ? "POST" : "GET"),
        .url = view(url),
        .headers = headers,
        .header_count = body ? 2 : 1,
        .body = body ? view(body) : absent,
        .credential = view("api_key"),
        .step = body ? view("record") : absent,
        .records = &index,
        .record_count = body ? 1 : 0,
    };
    work->records[index].token = request.token;
    work->records[index].asked = body != NULL;
    return self->host->http_submit(self->instance, &request);
}

/* The body of an answer; large ones lie in a blob. The caller frees. */
static char *body_of(struct plugin *self, const mp_event *event, size_t *ret_length) {
    uint64_t length = event->blob ? event->blob_len : event->data.len, have = 0, got = 0;
    if (length > LONGEST_BODY)
        length = LONGEST_BODY;
    char *bytes = malloc(length + 1);
    if (!bytes)
        length = 0;
    else if (!event->blob && length)
        memcpy(bytes, event->data.ptr, have = length);
    while (event->blob && have < length &&
           self->host->blob_read(self->instance, event->blob, have, (uint8_t *)bytes + have, length - have, &got) ==
               MP_CALL_OK &&
           got)
        have += got;
    *ret_length = have;
    return bytes;
}

static long long retry_after_ms(const mp_event *event) {
    struct json headers = json_member(json_parse(event->json.ptr, event->json.len), "headers"), name, pair;
    for (const char *cursor = NULL; json_next(headers, &cursor, &name, &pair);) {
        const char *inner = NULL;
        struct json key, value;
        char text[40];
        if (!json_next(pair, &inner, &name, &key) || !json_next(pair, &inner, &name, &value))
            continue;
        json_text(key, text, sizeof text);
        if (!strcasecmp(text, "retry-after") && json_text(value, text, sizeof text))
            return atoll(text) > 86400 ? 86400000 : atoll(text) * 1000;
    }
    return 0;
}

/* What an answer to a change means; null when it is a success. */
static const char *verdict(struct plugin *self, struct work *work, struct record *record, const mp_event *event) {
    int status = event->http_status;
    if (event->status != MP_CALL_OK || event->wire == MP_WIRE_NEVER_SENT)
        judge(record, "retry", "vendor_unavailable", "The request was not sent.");
    else if (event->wire != MP_WIRE_ANSWERED)
        judge(record, "uncertain", "vendor_unavailable", "The request was sent and its answer lost.");
    else if (status >= 200 && status < 300)
        return NULL;
    else if (status == 401) {
        self->host->cred_reject(self->instance, work->op, view("api_key"), view("401 from the vendor"));
        judge(record, "auth_revoked", "credential_refused", "The vendor refused the API key. Paste a new one.");
    } else if (status == 403)
        judge(record, "config", "permission_missing", "The vendor does not permit this to the key's owner.");
    else if (status == 429) {
        judge(record, "rate_limited", "rate_limited", "The vendor asks to wait.");
        record->retry_after_ms = retry_after_ms(event) ? retry_after_ms(event) : 2000;
    } else if (status == 503)
        judge(record, "retry", "vendor_unavailable", "The vendor is not available.");
    else if (status >= 400 && status < 500)
        judge(record, "rejected", "vendor_rejected", "The vendor refused the record.");
    else
        judge(record, "uncertain", "vendor_unavailable", "The vendor failed; whether it took the record is unknown.");
    return record->verdict;
}

/* ---- Deliver -------------------------------------------------------------------------------------------------- */

static long long milliseconds(const char *rfc3339) {
    struct tm date = {0};
    const char *rest = strptime(rfc3339, "%Y-%m-%dT%H:%M:%S", &date);
    return rest ? (long long)timegm(&date) * 1000 : 0;
}

/* Reads a record, and what earlier attempts have left of it. */
static void read_record(struct record *record, struct json given) {
    struct json payload = json_member(given, "payload"), scope = json_member(payload, "scope"), name, entry;
    char kind[40], step[40], state[20], name_text[200], when[40];
    json_text(json_member(given, "delivery_id"), record->delivery, sizeof record->delivery);
    json_text(json_member(payload, "kind"), kind, sizeof kind);
    if (strcmp(kind, "threshold_crossing") || !json_text(json_member(scope, "id"), record->key, sizeof record->key)) {
        judge(record, "rejected", "payload_unreadable", "The payload is no threshold crossing.");
        return;
    }
    if (!json_text(json_member(scope, "name"), name_text, sizeof name_text))
        snprintf(name_text, sizeof name_text, "%s", record->key);
    snprintf(record->title, sizeof record->title, "%s reached %lld clicks", name_text,
             json_integer(json_member(payload, "threshold"), 0));
    struct json journal = json_member(given, "journal");
    for (const char *cursor = NULL; json_next(journal, &cursor, &name, &entry);) {
        json_text(json_member(entry, "step"), step, sizeof step);
        json_text(json_member(entry, "state"), state, sizeof state);
        if (json_text(json_member(entry, "intent_at"), when, sizeof when))
            record->intent_ms = milliseconds(when);
        if (!strcmp(step, "record") && !strcmp(state, "done"))
            json_text(json_member(json_member(entry, "result"), "id"), record->remote, sizeof record->remote);
    }
}

static uint32_t count_items(struct json array) {
    uint32_t count = 0;
    struct json name, item;
    for (const char *cursor = NULL; json_next(array, &cursor, &name, &item);)
        count++;
    return count;
}

static void create_record(struct plugin *self, struct work *work, uint32_t index) {
    struct record *record = &work->records[index];
    struct text body = {0};
    text_add(&body, "{\"key\":");
    text_quoted(&body, record->delivery);
    text_add(&body, ",\"list\":%lld,\"title\":", self->list);
    text_quoted(&body, record->title);
    text_add(&body, "}");
    if (body.failed || submit(self, work, index, "/v1/records", body.bytes) != MP_CALL_OK)
        judge(record, "retry", "vendor_unavailable", "The host does not take the request now.");
    free(body.bytes);
}

static int32_t with_records(struct plugin *self, const mp_op *op) {
    struct json body = json_parse(op->body.ptr, op->body.len), list = json_member(body, "records"), name, item;
    struct work *work = begin(self, op, count_items(list));
    uint32_t index = 0;
    if (!work)
        return MP_RETRY;
    for (const char *cursor = NULL; json_next(list, &cursor, &name, &item); index++) {
        struct record *record = &work->records[index];
        read_record(record, item);
        if (op->verb == MP_VERB_DELIVER) {
            if (record->remote[0])
                judge(record, "ok", "", "");
            else if (!record->done)
                create_record(self, work, index);
        } else {
            char path[200];
            record->done = 0;
            record->code[0] = 0;
            snprintf(path, sizeof path, "/v1/records?key=%s", record->delivery);
            if (submit(self, work, index, path, NULL) != MP_CALL_OK)
                judge(record, "unknown", "", "The host does not take the look-up now.");
        }
    }
    end_if_done(self, work);
    return MP_OK;
}

static int32_t deliver(void *self, const mp_op *op) {
    return with_records(self, op);
}

static int32_t reconcile(void *self, const mp_op *op) {
    return with_records(self, op);
}

static void created(struct plugin *self, struct work *work, uint32_t index, const mp_event *event) {
    struct record *record = &work->records[index];
    if (verdict(self, work, record, event))
        return;
    size_t length = 0;
    char *bytes = body_of(self, event, &length);
    struct json id = json_member(json_parse(bytes, length), "id");
    if (!json_text(id, record->remote, sizeof record->remote)) {
        judge(record, "uncertain", "answer_unreadable", "The vendor's answer cannot be read.");
    } else {
        struct text result = {0};
        text_add(&result, "{\"id\":");
        text_quoted(&result, record->remote);
        text_add(&result, "}");
        record->token = ++self->next_token;
        mp_view stored = {(const uint8_t *)result.bytes, result.length};
        /* From here on a retry knows that the record is there. */
        if (self->host->journal_put(self->instance, work->op, record->token, index, view("record"), stored) !=
            MP_CALL_OK)
            judge(record, "uncertain", "journal_failed", "The host does not store the step now.");
        free(result.bytes);
    }
    free(bytes);
}

static void looked_up(struct plugin *self, struct record *record, const mp_event *event) {
    size_t length = 0;
    char *bytes = body_of(self, event, &length);
    struct json items = json_member(json_parse(bytes, length), "items"), name, item;
    const char *cursor = NULL;
    mp_time now = {.struct_size = sizeof now};
    self->host->now(self->instance, &now);
    if (event->http_status != 200 || !json_is(items, '['))
        judge(record, "unknown", "", "The vendor does not answer the look-up.");
    else if (json_next(items, &cursor, &name, &item) &&
             json_text(json_member(item, "id"), record->remote, sizeof record->remote))
        judge(record, "applied", "", "Found by its key.");
    else if ((long long)(now.wall_ns / 1000000) - record->intent_ms < READ_LAG_MS)
        judge(record, "unknown", "", "Not listed yet.");
    else
        judge(record, "not_applied", "", "No record has this key.");
    free(bytes);
}

/* ---- Settings, account, choices ------------------------------------------------------------------------------- */

static int32_t configure(void *pointer, const mp_op *op) {
    struct plugin *self = pointer;
    struct work *work = begin(self, op, 1);
    if (!work)
        return MP_RETRY;
    struct json settings = json_member(json_parse(op->body.ptr, op->body.len), "settings");
    struct json list = json_member(settings, "list"), note = json_member(settings, "note");
    struct text result = {0};
    text_add(&result, "{\"errors\":[");
    if (json_integer(list, 0) < 1)
        text_add(&result, "{\"pointer\":\"/list\",\"code\":\"%s\",\"message\":\"Choose a list.\"}",
                 list.at ? "setting_invalid" : "setting_missing");
    if (note.at && !json_is(note, '"') && !json_is(note, 'n'))
        text_add(&result, "%s{\"pointer\":\"/note\",\"code\":\"setting_invalid\",\"message\":\"The note is a text.\"}",
                 json_integer(list, 0) < 1 ? "," : "");
    text_add(&result, "],\"warnings\":[]}");
    if (json_integer(list, 0) >= 1)
        self->list = json_integer(list, 0);
    end(self, work, MP_OK, &result);
    free(result.bytes);
    return MP_OK;
}

static int32_t look(struct plugin *self, const mp_op *op, const char *path, const char *search) {
    struct work *work = begin(self, op, 1);
    if (!work)
        return MP_RETRY;
    snprintf(work->search, sizeof work->search, "%s", search);
    if (submit(self, work, 0, path, NULL) != MP_CALL_OK)
        fail(self, work, MP_RETRY, "vendor_unavailable", "The host does not take the request now.");
    return MP_OK;
}

static int32_t connect_account(void *pointer, const mp_op *op) {
    return look(pointer, op, "/v1/me", "");
}

static int32_t options(void *pointer, const mp_op *op) {
    struct json body = json_parse(op->body.ptr, op->body.len);
    char picker[40], search[80];
    json_text(json_member(body, "picker"), picker, sizeof picker);
    json_text(json_member(body, "search"), search, sizeof search);
    return strcmp(picker, "lists") ? MP_REJECTED : look(pointer, op, "/v1/lists", search);
}

static void write_account(struct text *result, struct json answer) {
    char id[80], name[120];
    if (!json_text(json_member(answer, "id"), id, sizeof id))
        return;
    if (!json_text(json_member(answer, "name"), name, sizeof name))
        snprintf(name, sizeof name, "%s", id);
    text_add(result, "{\"account\":{\"id\":");
    text_quoted(result, id);
    text_add(result, ",\"label\":");
    text_quoted(result, name);
    text_add(result, "},\"scopes\":[],\"missing_scopes\":[],\"warnings\":[]}");
}

static void write_choices(struct text *result, struct json answer, const char *search) {
    struct json items = json_member(answer, "items"), name, item;
    char label[120];
    int count = 0;
    if (!json_is(items, '['))
        return;
    text_add(result, "{\"items\":[");
    for (const char *cursor = NULL; json_next(items, &cursor, &name, &item);) {
        long long id = json_integer(json_member(item, "id"), 0);
        if (!id || !json_text(json_member(item, "name"), label, sizeof label) || !strcasestr(label, search))
            continue;
        text_add(result, "%s{\"value\":%lld,\"label\":", count++ ? "," : "", id);
        text_quoted(result, label);
        text_add(result, "}");
    }
    text_add(result, "],\"next\":null}");
}

static void answered(struct plugin *self, struct work *work, const mp_event *event) {
    struct record *record = &work->records[0];
    struct text result = {0};
    size_t length = 0;
    char *bytes = body_of(self, event, &length);
    struct json answer = json_parse(bytes, length);
    if (verdict(self, work, record, event)) {
        int status = event->http_status;
        fail(self, work,
             status == 401   ? MP_AUTH_REVOKED
             : status == 403 ? MP_CONFIG
             : status == 429 ? MP_RATE_LIMITED
                             : MP_RETRY,
             record->code, record->message);
    } else {
        if (work->verb == MP_VERB_CONNECT)
            write_account(&result, answer);
        else
            write_choices(&result, answer, work->search);
        if (result.length)
            end(self, work, MP_OK, &result);
        else
            fail(self, work, MP_RETRY, "answer_unreadable", "The vendor's answer cannot be read.");
    }
    free(result.bytes);
    free(bytes);
}

/* ---- Life ----------------------------------------------------------------------------------------------------- */

static void describe(mp_view *ret_manifest) {
    *ret_manifest = (mp_view){manifest, sizeof manifest};
}

static int32_t create(const mp_host *host, uint64_t instance, mp_view config, void **ret_self) {
    struct json json = json_parse(config.ptr, config.len);
    struct plugin *self = calloc(1, sizeof *self);
    if (!self)
        return MP_RETRY;
    self->host = host;
    self->instance = instance;
    json_text(json_member(json_member(json, "endpoints"), "api"), self->base, sizeof self->base);
    self->list = json_integer(json_member(json_member(json, "settings"), "list"), 0);
    *ret_self = self;
    return MP_OK;
}

static void destroy(void *pointer) {
    struct plugin *self = pointer;
    while (self->works) {
        struct work *next = self->works->next;
        free(self->works);
        self->works = next;
    }
    free(self);
}

/* Ends an operation early: what was asked of the vendor may have been done. */
static void give_up(struct plugin *self, struct work *work) {
    int asked = 0;
    for (uint32_t i = 0; i < work->count; i++) {
        asked |= work->records[i].asked;
        if (work->records[i].token)
            self->host->http_cancel(self->instance, work->records[i].token);
    }
    fail(self, work, asked ? MP_UNCERTAIN : MP_CANCELLED, "cancelled", "Given up on request.");
}

static void cancel(void *pointer, uint64_t op) {
    struct plugin *self = pointer;
    for (struct work *work = self->works; work; work = work->next)
        if (work->op == op) {
            give_up(self, work);
            return;
        }
}

static int32_t ping(void *pointer, const mp_op *op) {
    struct plugin *self = pointer;
    self->host->op_complete(self->instance, op->id, MP_OK, view("{}"));
    return MP_OK;
}

static int32_t shutdown_instance(void *pointer, const mp_op *op) {
    struct plugin *self = pointer;
    while (self->works)
        give_up(self, self->works);
    self->host->op_complete(self->instance, op->id, MP_OK, view("{}"));
    return MP_OK;
}

static void on_event(void *pointer, const mp_event *event) {
    struct plugin *self = pointer;
    for (struct work *work = self->works; work; work = work->next)
        for (uint32_t i = 0; i < work->count; i++) {
            struct record *record = &work->records[i];
            if (!record->token || record->token != event->token)
                continue;
            record->token = 0;
            if (event->kind == MP_EVENT_JOURNAL) {
                if (event->status == MP_CALL_OK)
                    judge(record, "ok", "", "");
                else
                    judge(record, "uncertain", "journal_failed", "The host could not store the step.");
            } else if (work->verb == MP_VERB_DELIVER) {
                created(self, work, i, event);
            } else if (work->verb == MP_VERB_RECONCILE) {
                looked_up(self, record, event);
            } else {
                answered(self, work, event);
                return;
            }
            end_if_done(self, work);
            return;
        }
}

static const mp_plugin table = {
    .struct_size = sizeof table,
    .abi_minor = MP_ABI_MINOR,
    .describe = describe,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .connect = connect_account,
    .options = options,
    .deliver = deliver,
    .reconcile = reconcile,
    .ping = ping,
    .shutdown = shutdown_instance,
    .cancel = cancel,
    .on_event = on_event,
};

MP_EXPORT const mp_plugin *milepost_plugin_v1(const mp_host_info *info, int32_t *ret_status) {
    (void)info;
    (void)ret_status;
    return &table;
}
