/* SPDX-License-Identifier: Apache-2.0
 *
 * milepost/connector.h: what most connectors in C have in common, so that yours holds only what is your vendor's.
 *
 * A convenience, compiled into the plugin; no part of the ABI. It keeps the operations, sends the requests, reads the
 * journal, turns the vendor's statuses into verdicts, and completes each operation once. Fill in one `mpk_connector`,
 * write MPK_EXPORT(it) below, and include this header in one file only. Whoever needs more (`query`, `provision`,
 * timers, `kv`) writes against <milepost/plugin.h> itself.
 *
 * How a request goes on: `mpk_get` and `mpk_send` return at once and name a function, which is called with the answer
 * when the vendor says 2xx and the body is JSON. Everything else never reaches you:
 *
 *   not sent, 503                          retry
 *   answer lost, other 5xx                 uncertain after a change, retry after a look-up
 *   401, 403, 429, other 4xx               auth_revoked, config, rate_limited (with Retry-After), rejected
 *
 * A step that an earlier attempt finished is not sent again: its stored result comes as the answer instead.
 */
#ifndef MILEPOST_CONNECTOR_H
#define MILEPOST_CONNECTOR_H

#include <milepost/json.h>
#include <milepost/plugin.h>

/** One record of a `deliver` or `reconcile`, or the whole of a `connect` or `options`. Valid until it is answered. */
struct mpk_call;

/** What is wrong with the settings. */
struct mpk_problems;

/** Goes on with the vendor's answer. */
typedef void (*mpk_then)(struct mpk_call *call, struct mpk_json answer);

/** A connector. Functions that are null are verbs that it lacks. */
struct mpk_connector {
    const unsigned char *manifest; /**< the bytes of NAME.json; the generated Makefile makes them */
    size_t manifest_length;
    size_t settings_size;           /**< of your own struct for the settings */
    const char *endpoint;           /**< of the manifest, to which paths are added; null: "api" */
    const char *credential;         /**< of the manifest, put into each request; null: none */
    const char *idempotency_header; /**< gets "<delivery>-<step>" with each change; null: none */
    uint32_t read_lag_ms;           /**< as in the manifest: how long a look-up may miss what was made */

    /** Reads the settings into your struct, which is all zero, and reports with mpk_problem what is wrong. They are
     *  adopted when nothing is. */
    void (*settings)(struct mpk_problems *problems, struct mpk_json settings, void *ret_settings);
    /** Proves the credential: ask, then mpk_account. */
    void (*connect)(struct mpk_call *call);
    /** Asks for what can be chosen, then mpk_choice for each. */
    void (*options)(struct mpk_call *call, const char *picker);
    /** Makes one record: mpk_send with a step, then mpk_delivered. */
    void (*deliver)(struct mpk_call *call);
    /** Whether the step of unknown outcome was done: mpk_get, then mpk_applied or mpk_not_found. Changes nothing. */
    void (*reconcile)(struct mpk_call *call);
};

struct mpk_call {
    const void *settings;    /**< your struct */
    struct mpk_json request; /**< the operation's body, include/milepost/schemas/<verb>.request.json */
    struct mpk_json record;  /**< the record, in deliver and reconcile */
    struct mpk_json payload; /**< its payload, such as payload.deal.json */
    char delivery[80];       /**< its id, the same in every attempt: a good key to find it by */
    uint64_t op;             /**< for host services that take one */

    /* The rest is the kit's. */
    struct mpk__instance *instance;
    struct mpk__work *work;
    mpk_then then;
    uint64_t token;
    uint32_t index;
    int32_t verdict; /* MP_…; -1 while there is none */
    int is_change, has_asked, choices;
    long long retry_after_ms;
    const char *code, *answer; /* `answer` of a reconcile */
    char step[40], remote[100], message[200];
};

struct mpk__work {
    struct mpk__work *next;
    uint64_t op;
    int32_t verb;
    uint32_t count;
    char *body;
    struct mpk_buffer result; /* of connect and options */
    char search[100];
    struct mpk_call calls[];
};

struct mpk__instance {
    const struct mpk_connector *connector;
    const mp_host *host;
    uint64_t id, next_token;
    struct mpk__work *works;
    char base[300];
    void *settings;
};

/** A text as the ABI wants it; absent when it is null. */
static inline mp_view mpk_view(const char *text) {
    mp_view view = {(const uint8_t *)text, text ? strlen(text) : 0};
    return view;
}

/* ---- Settings --------------------------------------------------------------------------------------------------- */

struct mpk_problems {
    int count;
    struct mpk_buffer text;
};

/** Reports a setting by its JSON pointer, such as "/list". */
static inline void mpk_problem(struct mpk_problems *problems, const char *pointer, const char *code, const char *says) {
    mpk_format(&problems->text, "%s{\"pointer\":", problems->count++ ? "," : "");
    mpk_quote(&problems->text, pointer);
    mpk_format(&problems->text, ",\"code\":\"%s\",\"message\":", code);
    mpk_quote(&problems->text, says);
    mpk_format(&problems->text, "}");
}

/* ---- Verdicts ---------------------------------------------------------------------------------------------------- */

/** Ends a call that is not done as it should be: MP_REJECTED, MP_RETRY, MP_CONFIG… `code` is a literal. */
static inline void mpk_end(struct mpk_call *call, int32_t verdict, const char *code, const char *says) {
    if (call->verdict >= 0)
        return;
    call->token = 0;
    call->verdict = verdict;
    call->code = code;
    call->answer = "unknown";
    mpk__copy(call->message, sizeof call->message, says);
}

static inline void mpk__end_ok(struct mpk_call *call, const char *answer, const char *remote, const char *says) {
    mpk_end(call, MP_OK, NULL, says);
    call->answer = answer;
    if (remote != call->remote)
        mpk__copy(call->remote, sizeof call->remote, remote);
}

/** Says that the vendor's answer makes no sense: uncertain after a change, retry after a look-up. */
static inline void mpk_unreadable(struct mpk_call *call) {
    mpk_end(call, call->is_change ? MP_UNCERTAIN : MP_RETRY, "answer_unreadable", "The vendor's answer cannot be read.");
}

/** Ends a connect: whose account it is. */
static inline void mpk_account(struct mpk_call *call, const char *id, const char *label) {
    struct mpk_buffer *result = &call->work->result;
    mpk_format(result, "{\"account\":{\"id\":");
    mpk_quote(result, id);
    mpk_format(result, ",\"label\":");
    mpk_quote(result, label && *label ? label : id);
    mpk_format(result, "},\"scopes\":[],\"missing_scopes\":[],\"warnings\":[]}");
    mpk__end_ok(call, "", "", "");
}

static inline int mpk__contains(const char *text, const char *part) {
    for (;; text++) {
        size_t at = 0;
        while (part[at] && (text[at] | 0x20) == (part[at] | 0x20))
            at++;
        if (!part[at])
            return 1;
        if (!*text)
            return 0;
    }
}

/** Adds a choice as the vendor wrote it; left out when the person searches for something else. */
static inline void mpk_choice(struct mpk_call *call, struct mpk_json value, struct mpk_json label) {
    char text[160];
    if (!value.at || !mpk_text(label, text, sizeof text) || !mpk__contains(text, call->work->search))
        return;
    mpk_format(&call->work->result, "%s{\"value\":", call->choices++ ? "," : "");
    mpk_append(&call->work->result, value.at, (size_t)(value.end - value.at));
    mpk_format(&call->work->result, ",\"label\":");
    mpk_quote(&call->work->result, text);
    mpk_format(&call->work->result, "}");
}

/* ---- Requests ---------------------------------------------------------------------------------------------------- */

/** Adds a member to a JSON object that is being written. */
static inline void mpk_put_text(struct mpk_buffer *body, const char *name, const char *value) {
    mpk_format(body, "%s\"%s\":", body->length ? "," : "{", name);
    mpk_quote(body, value);
}

/** The same for a whole number. */
static inline void mpk_put_integer(struct mpk_buffer *body, const char *name, long long value) {
    mpk_format(body, "%s\"%s\":%lld", body->length ? "," : "{", name, value);
}

/* The result of a step that an earlier attempt finished. */
static inline struct mpk_json mpk__finished(struct mpk_call *call, const char *step) {
    struct mpk_json journal = mpk_member(call->record, "journal"), name, entry, found = {NULL, NULL};
    char text[40];
    for (const char *cursor = NULL; mpk_next(journal, &cursor, &name, &entry);)
        if (mpk_text(mpk_member(entry, "state"), text, sizeof text) && !strcmp(text, "done") &&
            mpk_text(mpk_member(entry, "step"), text, sizeof text) && !strcmp(text, step))
            found = mpk_member(entry, "result");
    return found;
}

static inline void mpk__name_step(struct mpk_call *call, const char *step) {
    if (step != call->step)
        snprintf(call->step, sizeof call->step, "%s", step);
}

static inline void mpk__submit(struct mpk_call *call, const char *method, const char *path, const struct mpk_buffer *body,
                               mpk_then then) {
    struct mpk__instance *instance = call->instance;
    const struct mpk_connector *connector = instance->connector;
    struct mpk_buffer url = {0};
    mp_pair headers[3] = {{mpk_view("accept"), mpk_view("application/json")}};
    uint64_t count = 1;
    if (body) {
        headers[count].name = mpk_view("content-type");
        headers[count++].value = mpk_view("application/json");
    }
    char key[sizeof call->delivery + sizeof call->step];
    if (call->is_change && connector->idempotency_header) {
        snprintf(key, sizeof key, "%s-%s", call->delivery, call->step);
        headers[count].name = mpk_view(connector->idempotency_header);
        headers[count++].value = mpk_view(key);
    }
    mpk_append(&url, instance->base, strlen(instance->base));
    mpk_append(&url, path, strlen(path));
    mp_http_request request = {0};
    request.struct_size = sizeof request;
    request.flags = call->is_change ? 0 : MP_HTTP_IDEMPOTENT;
    request.op = call->op;
    request.token = ++instance->next_token;
    request.method = mpk_view(method);
    request.url = mpk_view(url.bytes);
    request.headers = headers;
    request.header_count = count;
    request.body = mpk_view(body ? body->bytes : NULL);
    request.credential = mpk_view(connector->credential);
    request.step = mpk_view(call->is_change ? call->step : NULL);
    request.records = &call->index;
    request.record_count = call->is_change;
    call->token = request.token;
    call->then = then;
    if (url.failed || (body && body->failed) || instance->host->http_submit(instance->id, &request) != MP_CALL_OK)
        mpk_end(call, MP_RETRY, "vendor_unavailable", "The host does not take the request now.");
    else
        call->has_asked |= call->is_change;
    free(url.bytes);
}

/** Looks something up. `value`, unless it is null, is escaped and added to the path: "/records?key=" and a key. */
static inline void mpk_get(struct mpk_call *call, const char *path, const char *value, mpk_then then) {
    struct mpk_buffer whole = {0};
    mpk_append(&whole, path, strlen(path));
    for (; value && *value; value++) {
        if ((*value >= '0' && *value <= '9') || ((*value | 0x20) >= 'a' && (*value | 0x20) <= 'z') ||
            strchr("-._~", *value))
            mpk_append(&whole, value, 1);
        else
            mpk_format(&whole, "%%%02X", (unsigned char)*value);
    }
    call->is_change = 0;
    if (whole.failed)
        mpk_end(call, MP_RETRY, "out_of_memory", "There is no memory for the request.");
    else
        mpk__submit(call, "GET", whole.bytes, NULL, then);
    free(whole.bytes);
}

/** Changes something: the host writes the step's intent to disk, and only then sends. `body` is an object as mpk_put_…
 *  leave it; it is closed here and freed. Steps of one delivery have different names, which are kept. */
static inline void mpk_send(struct mpk_call *call, const char *step, const char *method, const char *path,
                            struct mpk_buffer *body, mpk_then then) {
    struct mpk_json finished = mpk__finished(call, step);
    mpk__name_step(call, step);
    mpk_format(body, body->length ? "}" : "{}");
    call->is_change = 1;
    if (!finished.at)
        mpk__submit(call, method, path, body, then);
    free(body->bytes);
    memset(body, 0, sizeof *body);
    if (finished.at)
        then(call, finished);
}

static inline void mpk__stored(struct mpk_call *call, struct mpk_json nothing) {
    (void)nothing;
    mpk__end_ok(call, "applied", call->remote, "");
}

static inline void mpk__store(struct mpk_call *call, const char *id, mpk_then then) {
    struct mpk__instance *instance = call->instance;
    struct mpk_buffer result = {0};
    if (id != call->remote)
        mpk__copy(call->remote, sizeof call->remote, id);
    if (mpk__finished(call, call->step).at) {
        then(call, mpk__finished(call, call->step));
        return;
    }
    mpk_put_text(&result, "id", call->remote);
    mpk_format(&result, "}");
    call->token = ++instance->next_token;
    call->then = then;
    mp_view stored = mpk_view(result.bytes);
    if (result.failed || instance->host->journal_put(instance->id, call->op, call->token, call->index,
                                                     mpk_view(call->step), stored) != MP_CALL_OK)
        mpk_end(call, MP_UNCERTAIN, "journal_failed", "The host does not store the step now.");
    free(result.bytes);
}

/** Ends a delivery: the vendor calls what was made `id`. It is stored as the last step's result {"id":…}, so that a
 *  retry does nothing again. */
static inline void mpk_delivered(struct mpk_call *call, const char *id) {
    mpk__store(call, id, mpk__stored);
}

/** Stores the last step's result {"id":…} and goes on, with a next step; its answer is the stored result. */
static inline void mpk_step_done(struct mpk_call *call, const char *id, mpk_then then) {
    mpk__store(call, id, then);
}

/* ---- Reconcile --------------------------------------------------------------------------------------------------- */

/** The step whose outcome is to be found out. */
static inline const char *mpk_open_step(struct mpk_call *call) {
    struct mpk_json journal = mpk_member(call->record, "journal"), name, entry;
    char state[20];
    for (const char *cursor = NULL; mpk_next(journal, &cursor, &name, &entry);)
        if (mpk_text(mpk_member(entry, "state"), state, sizeof state) && strcmp(state, "done"))
            mpk_text(mpk_member(entry, "step"), call->step, sizeof call->step);
    return call->step;
}

/** The id that an earlier attempt stored for a step, or "". */
static inline const char *mpk_id_of(struct mpk_call *call, const char *step) {
    mpk_text(mpk_member(mpk__finished(call, step), "id"), call->remote, sizeof call->remote);
    return call->remote;
}

/** Ends a reconcile: the step was done, and made `id`. */
static inline void mpk_applied(struct mpk_call *call, const char *step, const char *id) {
    mpk__name_step(call, step);
    mpk__end_ok(call, "applied", id, "Found by its key.");
}

/* Milliseconds since 1970 of an RFC 3339 text in UTC; 0 for anything else. */
static inline long long mpk__moment(const char *text) {
    int year, month, day, hour, minute, second;
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &year, &month, &day, &hour, &minute, &second) != 6)
        return 0;
    /* Days since 1970 by the civil calendar, years beginning in March. */
    long long from_march = month <= 2 ? year - 1 : year, month_of_year = month > 2 ? month - 3 : month + 9;
    long long days = from_march * 365 + from_march / 4 - from_march / 100 + from_march / 400 +
                     (153 * month_of_year + 2) / 5 + day - 1 - 719468;
    return ((days * 24 + hour) * 60 + minute) * 60000 + second * 1000LL;
}

/** Ends a reconcile: looked well, and it is not there. Within the read lag that means "not known yet". */
static inline void mpk_not_found(struct mpk_call *call, const char *step) {
    struct mpk_json journal = mpk_member(call->record, "journal"), name, entry;
    long long intent_ms = 0;
    char when[40];
    mp_time now = {0};
    now.struct_size = sizeof now;
    call->instance->host->now(call->instance->id, &now);
    for (const char *cursor = NULL; mpk_next(journal, &cursor, &name, &entry);)
        if (mpk_text(mpk_member(entry, "intent_at"), when, sizeof when) && mpk__moment(when) > intent_ms)
            intent_ms = mpk__moment(when);
    mpk__name_step(call, step);
    int is_early = (long long)(now.wall_ns / 1000000) - intent_ms < (long long)call->instance->connector->read_lag_ms;
    mpk__end_ok(call, is_early ? "unknown" : "not_applied", "", is_early ? "Not listed yet." : "Nothing has this key.");
}

#include <milepost/connector_host.h>

#endif
