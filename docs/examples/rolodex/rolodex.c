/* SPDX-License-Identifier: Apache-2.0
 *
 * A connector to the sandbox's generic vendor, written by docs/plugin-guide.md: a card for each threshold that a link
 * crosses, then a note on the card. Two steps, so that one may be done and the other not.
 */
#include <milepost/connector.h>

#include "manifest.h"

struct settings {
    long long list;
    int wants_note;
};

static void read_settings(struct mpk_problems *problems, struct mpk_json given, void *ret_settings) {
    struct settings *settings = ret_settings;
    struct mpk_json list = mpk_member(given, "list"), note = mpk_member(given, "note");
    settings->list = mpk_integer(list, 0);
    settings->wants_note = !mpk_is(note, 'f');
    if (settings->list < 1)
        mpk_problem(problems, "/list", list.at ? "setting_invalid" : "setting_missing", "Choose a list.");
    if (note.at && !mpk_is(note, 't') && !mpk_is(note, 'f'))
        mpk_problem(problems, "/note", "setting_invalid", "The note is on or off.");
}

static void account_came(struct mpk_call *call, struct mpk_json answer) {
    char id[80], name[120];
    mpk_text(mpk_member(answer, "name"), name, sizeof name);
    if (mpk_text(mpk_member(answer, "id"), id, sizeof id))
        mpk_account(call, id, name);
    else
        mpk_unreadable(call);
}

static void connect_account(struct mpk_call *call) {
    mpk_get(call, "/v1/me", NULL, account_came);
}

static void lists_came(struct mpk_call *call, struct mpk_json answer) {
    struct mpk_json items = mpk_member(answer, "items"), name, item;
    if (!mpk_is(items, '['))
        mpk_unreadable(call);
    for (const char *cursor = NULL; mpk_next(items, &cursor, &name, &item);)
        mpk_choice(call, mpk_member(item, "id"), mpk_member(item, "name"));
}

static void options(struct mpk_call *call, const char *picker) {
    if (!strcmp(picker, "lists"))
        mpk_get(call, "/v1/lists", NULL, lists_came);
}

/* ---- Deliveries ---- */

static void note_made(struct mpk_call *call, struct mpk_json answer) {
    char id[80];
    if (mpk_text(mpk_member(answer, "id"), id, sizeof id))
        mpk_delivered(call, id);
    else
        mpk_unreadable(call);
}

/* The card is there, from this attempt or an earlier one. */
static void card_stored(struct mpk_call *call, struct mpk_json stored) {
    const struct settings *settings = call->settings;
    struct mpk_json total = mpk_member(mpk_member(call->payload, "total"), "all");
    struct mpk_buffer body = {0};
    char text[80];
    (void)stored;
    if (!settings->wants_note) {
        mpk_delivered(call, mpk_id_of(call, "card"));
        return;
    }
    snprintf(text, sizeof text, "%lld clicks so far", mpk_integer(total, 0));
    mpk_put_text(&body, "key", call->delivery);
    mpk_put_text(&body, "title", text);
    mpk_send(call, "note", "POST", "/v1/notes", &body, note_made);
}

static void card_made(struct mpk_call *call, struct mpk_json answer) {
    char id[80];
    if (mpk_text(mpk_member(answer, "id"), id, sizeof id))
        mpk_step_done(call, id, card_stored);
    else
        mpk_unreadable(call);
}

static void deliver(struct mpk_call *call) {
    const struct settings *settings = call->settings;
    struct mpk_json scope = mpk_member(call->payload, "scope");
    struct mpk_buffer body = {0};
    char name[200], title[300];
    if (!mpk_text(mpk_member(scope, "name"), name, sizeof name) && !mpk_text(mpk_member(scope, "id"), name, sizeof name)) {
        mpk_end(call, MP_REJECTED, "payload_unreadable", "The payload is no threshold crossing.");
        return;
    }
    snprintf(title, sizeof title, "%s reached %lld", name, mpk_integer(mpk_member(call->payload, "threshold"), 0));
    mpk_put_text(&body, "key", call->delivery);
    mpk_put_integer(&body, "list", settings->list);
    mpk_put_text(&body, "title", title);
    mpk_send(call, "card", "POST", "/v1/cards", &body, card_made);
}

static void found(struct mpk_call *call, struct mpk_json answer) {
    struct mpk_json items = mpk_member(answer, "items"), name, item;
    const char *cursor = NULL;
    char id[80];
    if (!mpk_is(items, '['))
        mpk_unreadable(call);
    else if (!mpk_next(items, &cursor, &name, &item))
        mpk_not_found(call, call->step);
    else if (mpk_text(mpk_member(item, "id"), id, sizeof id))
        mpk_applied(call, call->step, id);
    else
        mpk_unreadable(call);
}

static void reconcile(struct mpk_call *call) {
    int is_note = !strcmp(mpk_open_step(call), "note");
    mpk_get(call, is_note ? "/v1/notes?key=" : "/v1/cards?key=", call->delivery, found);
}

static const struct mpk_connector connector = {
    .manifest = manifest,
    .manifest_length = sizeof manifest,
    .settings_size = sizeof(struct settings),
    .credential = "api_key",
    .idempotency_header = "idempotency-key",
    .read_lag_ms = 1000,
    .settings = read_settings,
    .connect = connect_account,
    .options = options,
    .deliver = deliver,
    .reconcile = reconcile,
};

MPK_EXPORT(connector)
