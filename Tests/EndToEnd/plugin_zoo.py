# SPDX-License-Identifier: Apache-2.0
"""The zoo: the C project that `milepost plugin new` makes, with one thing broken. Each entry names the check that must be the
first to fail. test_plugin_check.py checks them, test_zoo_harms_nobody.py loads them all in one daemon."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from harness import DIST, ROOT


@dataclass(frozen=True)
class Animal:
    name: str
    check: int
    """The first check that fails; 0: none does."""
    edits: tuple[tuple[str, str], ...] = ()
    """Text of plugin.c that is there exactly once, and what stands there instead."""
    manifest: Callable[[dict[str, Any]], None] | None = None
    """Changes the manifest that is compiled in and shipped."""
    sidecar: Callable[[dict[str, Any]], None] | None = None
    """Changes the shipped manifest only."""
    flags: tuple[str, ...] = ()
    without: tuple[str, ...] = field(default=())
    exports: str = "milepost_plugin_v1;"
    mode: int = 0o644


TABLE = "static const mp_plugin table = {"
LAST = "    .on_event = on_event,\n};"
CREATED = "    struct plugin *self = calloc(1, sizeof *self);\n    if (!self)\n        return MP_RETRY;\n    self->host = host;"
DELIVER = "static int32_t deliver(void *self, const mp_op *op) {\n"
MORE = """
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>
"""


def before_table(code: str, entries: str = "") -> tuple[tuple[str, str], ...]:
    edits = ((TABLE, code + "\n" + TABLE), ('#include "json.h"', MORE + '#include "json.h"'))
    return edits + (((LAST, LAST.replace("\n};", "\n" + entries + "};")),) if entries else ())


def delivering(code: str) -> tuple[tuple[str, str], ...]:
    """Runs at the start of each deliver."""
    return ((DELIVER, DELIVER + code + "\n"), ('#include "json.h"', MORE + '#include "json.h"'))


def drop(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        del manifest[path[-1]]

    return change


def put(value: Any, *path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(manifest: Any) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return change


GOOD_EXTENSION = """
static const void *extension(void *self, mp_view id) {
    static const uint32_t table_of_check[2] = {8, 1};
    (void)self;
    return id.len == 17 && !memcmp(id.ptr, "milepost.check/99", 17) ? table_of_check : NULL;
}
"""
INTERCEPT = """
static int32_t intercept(void *pointer, const mp_op *op) {
    struct plugin *self = pointer;
    static int count;
    count++;
    self->host->op_complete(self->instance, op->id, MP_OK, view(%s));
    return MP_OK;
}
"""
SLOW = """
static int32_t intercept(void *pointer, const mp_op *op) {
    struct plugin *self = pointer;
    static int count;
    if (++count % 10 == 0)
        usleep(250000);
    self->host->op_complete(self->instance, op->id, MP_OK, view("{\\"verdict\\":\\"continue\\"}"));
    return MP_OK;
}
"""
ASKING = """
static int32_t intercept(void *pointer, const mp_op *op) {
    return look(pointer, op, "/v1/lists", "");
}
"""
"""Lets the vendor decide: what comes of its answer is `answered`'s to say."""
WEBHOOK = """
static int32_t webhook(void *pointer, const mp_op *op) {
    struct plugin *self = pointer;
    static int count;
    char result[200];
    int is_good = memmem(op->body.ptr, op->body.len, "\\"verified\\":true", 15) != NULL &&
                  memmem(op->body.ptr, op->body.len, "%%%%", 2) == NULL;
    snprintf(result, sizeof result, is_good ? "{\\"events\\":[{\\"dedupe_key\\":\\"%%d\\"}]}" : "{\\"events\\":[]}", %s);
    count++;
    self->host->op_complete(self->instance, op->id, MP_OK, view(result));
    return MP_OK;
}
"""

PAGE = r"""
/* A page of the lists: the cursor is the place of the next one. */
static void write_page(struct text *result, struct json answer, long long from, long long limit) {
    struct json items = json_member(answer, "items"), name, item;
    long long place = 0, more = 0;
    if (!json_is(items, '['))
        return;
    text_add(result, "{\"records\":[");
    for (const char *cursor = NULL; json_next(items, &cursor, &name, &item); place++) {
        if (place >= from && place < from + limit)
            text_add(result, "%s{\"id\":%lld}", place > from ? "," : "", json_integer(json_member(item, "id"), 0));
        more = place >= from + limit;
    }
    text_add(result, "],\"more\":%s,\"next_cursor\":\"%lld\"}", more ? "true" : "false", from + limit);
}

static void answered("""
PULL = r"""
static int32_t pull(void *pointer, const mp_op *op) {
    struct json body = json_parse(op->body.ptr, op->body.len);
    char cursor[80] = "0", place[80];
    json_text(json_member(body, "cursor"), cursor, sizeof cursor);
    if (cursor[0] && strspn(cursor, "0123456789") != strlen(cursor)) {
        struct plugin *self = pointer;
        struct work *work = begin(self, op, 1);
        if (!work)
            return MP_RETRY;
        fail(self, work, MP_REJECTED, "cursor_invalid", "The cursor is not one of ours.");
        return MP_OK;
    }
    snprintf(place, sizeof place, "%%lld %%lld", %s, json_integer(json_member(body, "limit"), 1));
    return look(pointer, op, "/v1/lists", place);
}
"""
STREAMS = put([{"name": "lists"}], "streams")


def pulling(cursor: str, more: str = "", entries: str = "") -> tuple[tuple[str, str], ...]:
    """With the verb pull; `cursor` is the C expression for where a page begins."""
    return before_table(PULL % cursor + more, "    .pull = pull,\n" + entries) + (
        ("static void answered(", PAGE.lstrip("\n")),
        ("        else\n            write_choices(&result, answer, work->search);",
         "        else if (work->verb == MP_VERB_PULL)\n"
         "            write_page(&result, answer, atoll(work->search), atoll(strchr(work->search, ' ')));\n"
         "        else\n            write_choices(&result, answer, work->search);"))


STAMPED = (
    ('    text_add(&body, ",\\"list\\":%lld',
     "    mp_time now = {.struct_size = sizeof now};\n    self->host->now(self->instance, &now);\n    char stamp[40];\n"
     "    time_t second = (time_t)(now.wall_ns / 1000000000u);\n    struct tm date;\n"
     "    strftime(stamp, sizeof stamp, \"%Y-%m-%dT%H:%M:%SZ\", gmtime_r(&second, &date));\n"
     "    text_add(&body, \",\\\"sent_at\\\":\\\"%s\\\",\\\"sent_ns\\\":%llu,\\\"by\\\":%lld\", stamp, (unsigned long long)now.wall_ns,\n"
     "             (long long)time(NULL));\n"
     '    text_add(&body, ",\\"list\\":%lld'),)
"""A body that tells when it was sent."""
ONE_BY_ONE = (
    ("            else if (!record->done)\n                create_record(self, work, index);",
     "            else if (!record->done && !is_busy) {\n                create_record(self, work, index);\n"
     "                is_busy = !record->done;\n            }"),
    ("    uint32_t index = 0;\n    if (!work)", "    uint32_t index = 0;\n    int is_busy = 0;\n    if (!work)"),
    ("            end_if_done(self, work);\n            return;\n        }\n}",
     "            if (work->verb == MP_VERB_DELIVER && record->done)\n"
     "                for (uint32_t next = 0; next < work->count; next++)\n"
     "                    if (!work->records[next].done) {\n                        create_record(self, work, next);\n"
     "                        if (!work->records[next].done)\n                            break;\n                    }\n"
     "            end_if_done(self, work);\n            return;\n        }\n}"))
"""Sends the next record when the one before was answered and its step stored."""
ORDERED = put("/scope/id", "actions", 0, "ordering_key")


def both(*changes: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        for one in changes:
            one(manifest)

    return change


WELL = Animal(
    "well", 0,
    pulling(
        "atoll(cursor)", GOOD_EXTENSION + ASKING + WEBHOOK % "7",
        "    .get_extension = extension,\n    .intercept = intercept,\n    .webhook = webhook,\n") + STAMPED + ONE_BY_ONE + (
        ("        if (work->verb == MP_VERB_CONNECT)\n",
         "        if (work->verb == MP_VERB_INTERCEPT)\n            text_add(&result, \"{\\\"verdict\\\":\\\"continue\\\"}\");\n"
         "        else if (work->verb == MP_VERB_CONNECT)\n"),),
    manifest=both(STREAMS, ORDERED))

ANIMALS = [
    Animal("binds-late", 1, without=("-Wl,-z,relro,-z,now,-z,noexecstack",), flags=("-Wl,-z,relro,-z,lazy,-z,noexecstack",)),
    Animal("executable-stack", 1, without=("-Wl,-z,relro,-z,now,-z,noexecstack",), flags=("-Wl,-z,relro,-z,now,-z,execstack",)),
    Animal(
        "exports-more", 2, before_table("MP_EXPORT int sqlite3_open(void);\nMP_EXPORT int sqlite3_open(void) {\n    return 1;\n}"),
        exports="milepost_plugin_v1; sqlite3_open;"),
    Animal("another-abi", 2, (("*milepost_plugin_v1(", "*milepost_plugin_v2("),), exports="milepost_plugin_v2;"),
    Animal("looks-elsewhere", 3, flags=("-Wl,-rpath,/opt/vendor/lib",)),
    Animal("needs-another-library", 3, flags=("-Wl,--no-as-needed", "-lcurl", "-Wl,--as-needed")),
    Animal("static-tls", 4, (
        ("static const mp_view absent", "static __thread volatile int calls __attribute__((tls_model(\"initial-exec\")));\nstatic const mp_view absent"),
        (DELIVER, DELIVER + "    calls++;\n"))),
    Animal("undefined", 5, before_table("extern void nobody_defines_this(void);") + (
        (DELIVER, DELIVER + "    if (!op)\n        nobody_defines_this();\n"),), without=("-Wl,-z,defs",)),
    Animal("names-no-library", 6, flags=("-nodefaultlibs",), without=("-Wl,-z,defs",)),
    Animal("no-kinds", 7, manifest=drop("kinds")),
    Animal("unknown-key", 7, manifest=put(True, "auto_update")),
    Animal("wrong-type", 7, manifest=put("ten", "actions", 0, "batch", "max_records")),
    Animal("describes-another", 8, sidecar=put("0.1.1", "version")),
    Animal("lies-about-its-size", 8, ((".struct_size = sizeof table", ".struct_size = 16"),)),
    Animal("lacks-reconcile", 8, ((".reconcile = reconcile,", "/* none */"), ("static int32_t reconcile(", "__attribute__((unused)) static int32_t reconcile("))),
    Animal("no-licence", 9, manifest=drop("license")),
    Animal("version-of-its-own", 9, manifest=put("0.1.0beta", "version")),
    Animal("no-such-picker", 10, manifest=put("nowhere", "config_schema", "properties", "list", "x-mp-picker")),
    Animal("default-does-not-fit", 10, manifest=put("many", "config_schema", "properties", "list", "default")),
    Animal("whole-internet", 11, manifest=put(["*.com"], "egress", 0, "hosts")),
    Animal("address-literal", 11, manifest=put(["api.example.com", "169.254.169.254"], "egress", 0, "hosts")),
    Animal("endpoint-not-covered", 11, manifest=put("https://api.example.org", "endpoints", "api", "default")),
    Animal("writable-by-all", 12, mode=0o666),
    Animal("thread-in-constructor", 13, before_table(
        "static void *idle(void *nothing) {\n    return nothing;\n}\n__attribute__((constructor)) static void early(void) {\n"
        "    pthread_t thread;\n    pthread_create(&thread, NULL, idle, NULL);\n}")),
    Animal("socket-in-constructor", 13, before_table(
        "__attribute__((constructor)) static void early(void) {\n    close(socket(AF_INET, SOCK_STREAM, 0));\n}")),
    Animal("file-in-constructor", 13, before_table(
        "__attribute__((constructor)) static void early(void) {\n    close(open(\"/etc/passwd\", O_RDONLY));\n}")),
    Animal("wants-this-very-minor", 14, (
        ("    (void)info;\n    (void)ret_status;\n",
         "    if (info->abi_minor != MP_ABI_MINOR) {\n        *ret_status = MP_UNSUPPORTED;\n        return NULL;\n    }\n"),)),
    Animal("copies-more-than-there-is", 15, (
        (CREATED, "    static volatile uint64_t future;\n    memcpy((void *)&future, (const char *)host + sizeof *host, 8);\n" + CREATED),)),
    Animal("compares-half-the-id", 16, before_table(
        "static const void *extension(void *self, mp_view id) {\n    (void)self;\n"
        "    return id.len >= 16 && !memcmp(id.ptr, \"milepost.trace/1\", 16) ? \"a table\" : NULL;\n}",
        "    .get_extension = extension,\n")),
    Animal("another-table-each-time", 17, (
        ("    (void)info;\n    (void)ret_status;\n    return &table;",
         "    static mp_plugin copy;\n    (void)info;\n    (void)ret_status;\n    uint32_t calls = copy.reserved + 1;\n"
         "    copy = table;\n    copy.reserved = calls;\n    return &copy;"),)),
    Animal("leaks", 18, (("        self->works = next;\n    }\n    free(self);", "        self->works = next;\n    }"),)),
    Animal("leaks-descriptors", 18, (
        (CREATED, "    if (open(\"/dev/null\", O_RDONLY) < 0)\n        return MP_RETRY;\n" + CREATED),
        ('#include "json.h"', MORE + '#include "json.h"'))),
    Animal("has-actions-and-no-deliver", 19, ((".deliver = deliver,", "/* none */"), ("static int32_t deliver(", "__attribute__((unused)) static int32_t deliver("))),
    Animal("shares-a-global", 19, (
        ("static const mp_view absent", "static char shared[300];\nstatic const mp_view absent"),
        ('"%s%s", self->base, path', '"%s%s", shared, path'),
        ("    self->instance = instance;\n", "    self->instance = instance;\n    json_text(json_member(json_member(json, \"endpoints\"), \"api\"), shared, sizeof shared);\n"))),
    Animal("aborts", 19, delivering("    abort();")),
    Animal("exits", 19, delivering("    exit(0);")),
    Animal("hangs", 19, delivering("    for (volatile int i = 0;; i++) {\n    }")),
    Animal("never-completes", 19, delivering("    if (op)\n        return MP_OK;")),
    Animal("forgets-what-runs", 20, (("    while (self->works)\n        give_up(self, self->works);\n    self->host->op_complete", "    self->host->op_complete"),)),
    Animal("calls-after-destroy", 21, before_table(
        "struct late {\n    const mp_host *host;\n    uint64_t instance;\n};\nstatic void *call_late(void *pointer) {\n"
        "    struct late *late = pointer;\n    usleep(200000);\n    late->host->log(late->instance, 0, MP_LOG_INFO, view(\"late\"), absent);\n"
        "    return NULL;\n}\nstatic void destroy_badly(void *pointer) {\n    static struct late late;\n    struct plugin *self = pointer;\n"
        "    pthread_t thread;\n    if (!late.host) {\n        late = (struct late){self->host, self->instance};\n"
        "        pthread_create(&thread, NULL, call_late, &late);\n    }\n    destroy(pointer);\n}") + (
            ("    .destroy = destroy,", "    .destroy = destroy_badly,"),)),
    Animal("points-nowhere", 22, (('{\\"pointer\\":\\"/list\\"', '{\\"pointer\\":\\"/lists\\"'),)),
    Animal("trusts-its-configuration", 23, ((CREATED, "    if (!json.at)\n        abort();\n" + CREATED),)),
    Animal("retries-a-dead-key", 24, (("status == 401   ? MP_AUTH_REVOKED", "status == 401   ? MP_RETRY"),)),
    Animal("connect-makes-something", 24, (
        ('    return look(pointer, op, "/v1/me", "");',
         "    struct plugin *self = pointer;\n    struct work *work = begin(self, op, 1);\n"
         '    return work && submit(self, work, 0, "/v1/records", "{}") == MP_CALL_OK ? MP_OK : MP_RETRY;'),)),
    Animal("any-picker", 25, (('strcmp(picker, "lists") ? MP_REJECTED : look(', "look("),)),
    Animal("ignores-the-search", 25, ((" || !strcasestr(label, search)", " || (search && 0)"),)),
    Animal("logs-the-answer", 26, (
        ("    struct json answer = json_parse(bytes, length);\n    if (verdict",
         "    struct json answer = json_parse(bytes, length);\n"
         "    self->host->log(self->instance, work->op, MP_LOG_DEBUG, (mp_view){(const uint8_t *)bytes, length}, absent);\n    if (verdict"),)),
    Animal("tells-the-environment", 26, before_table(
        "static void tell(struct plugin *self) {\n    const char *secret = getenv(\"MILEPOST_CHECK_CANARY\");\n"
        "    if (secret)\n        self->host->log(self->instance, 0, MP_LOG_INFO, view(secret), absent);\n}\n"
        "static int32_t connect_and_tell(void *self, const mp_op *op) {\n    tell(self);\n    return connect_account(self, op);\n}") + (
            ("    .connect = connect_account,", "    .connect = connect_and_tell,"),)),
    Animal("loses-a-record", 27, (
        ('    text_add(&result, "{\\"records\\":[");\n    for (uint32_t i = 0; i < work->count; i++) {',
         '    text_add(&result, "{\\"records\\":[");\n    for (uint32_t i = work->count > 1; i < work->count; i++) {'),
        ('"%s{\\"index\\":%u,", i ? "," : "", i', '"%s{\\"index\\":%u,", i > (work->count > 1) ? "," : "", i'))),
    Animal("sends-all-at-once", 27, manifest=ORDERED),
    Animal("sends-from-behind", 27, ONE_BY_ONE + (
        ("for (uint32_t next = 0; next < work->count; next++)", "for (uint32_t next = work->count; next-- > 0;)"),), manifest=ORDERED),
    Animal("answers-twice", 27, (
        ("    self->host->op_complete(self->instance, op, status, body);\n",
         "    self->host->op_complete(self->instance, op, status, body);\n    if (strstr((const char *)body.ptr, \"class\"))\n"
         "        self->host->op_complete(self->instance, op, status, body);\n"),)),
    Animal("answers-rubbish", 27, (('    text_add(&result, "]}");\n    end(self, work, MP_OK', '    text_add(&result, "]");\n    end(self, work, MP_OK'),)),
    Animal("one-bad-spoils-all", 28, (
        ("            else if (!record->done)\n                create_record(self, work, index);",
         "            else if (!record->done)\n                create_record(self, work, index);\n            else {\n"
         "                fail(self, work, MP_REJECTED, \"payload_unreadable\", \"A payload is bad.\");\n                return MP_OK;\n            }"),)),
    Animal("repeats-after-500", 29, (('judge(record, "uncertain", "vendor_unavailable", "The vendor failed;', 'judge(record, "retry", "vendor_unavailable", "The vendor failed;'),)),
    Animal("hears-no-retry-after", 29, (("retry_after_ms(event) ? retry_after_ms(event) : 2000", "retry_after_ms(event) ? 2000 : 2000"),)),
    Animal("writes-no-key", 30, (('    text_quoted(&body, record->delivery);\n', '    text_quoted(&body, record->key);\n'),)),
    Animal("knows-no-lag", 31, (("- record->intent_ms < READ_LAG_MS", "- record->intent_ms < 0"),)),
    Animal("repeats-what-is-done", 32, (
        ('        if (!strcmp(step, "record") && !strcmp(state, "done"))',
         '        json_text(json_member(entry, "wire"), when, sizeof when);\n'
         '        if (!strcmp(step, "record") && !strcmp(state, "done") && strcmp(when, "answered"))'),)),
    Animal("takes-rubbish-for-a-refusal", 33, (('judge(record, "uncertain", "answer_unreadable"', 'judge(record, "rejected", "answer_unreadable"'),)),
    Animal("unpacks-without-bound", 33, (
        ("    *ret_length = have;\n    return bytes;",
         "    if (have > 10 && bytes[0] == 0x1f && (unsigned char)bytes[1] == 0x8b) {\n        size_t unpacked = have * 1032;\n"
         "        char *all = malloc(unpacked);\n        if (all)\n            memset(all, 1, unpacked);\n"
         "        volatile char last = all ? all[unpacked - 1] : 0;\n        (void)last;\n        free(all);\n    }\n"
         "    *ret_length = have;\n    return bytes;"),)),
    Animal("overruns-its-buffer", 34, (('name_text, sizeof name_text)', 'name_text, 1u << 22)'),)),
    Animal("deaf-to-cancel", 35, (("        if (work->op == op) {\n            give_up(self, work);\n            return;\n        }", "        if (work->op == op)\n            return;"),)),
    Animal("late-is-never", 36, (
        (DELIVER, "static int32_t deliver(void *pointer, const mp_op *op) {\n    struct plugin *self = pointer;\n"
         "    mp_time now = {.struct_size = sizeof now};\n    self->host->now(self->instance, &now);\n"
         "    if (op->deadline_ns < now.monotonic_ns + 1000000)\n        return MP_OK;\n"),)),
    Animal("phones-home", 37, (
        ("    snprintf(work->search, sizeof work->search, \"%s\", search);\n",
         "    snprintf(work->search, sizeof work->search, \"%s\", search);\n"
         "    mp_http_request home = {.struct_size = sizeof home, .flags = MP_HTTP_IDEMPOTENT, .op = op->id, .token = 1u << 30,\n"
         "                            .method = view(\"GET\"), .url = view(\"https://telemetry.example.net/\")};\n"
         "    self->host->http_submit(self->instance, &home);\n"),)),
    Animal("twice-under-load", 38, (
        ("    self->host->op_complete(self->instance, op, status, body);\n",
         "    self->host->op_complete(self->instance, op, status, body);\n    if (self->works)\n"
         "        self->host->op_complete(self->instance, op, status, body);\n"),)),
    Animal("promises-to-judge", 39, manifest=put([{"point": "deal.before"}], "hooks")),
    Animal("throws-dice", 39, before_table(
        INTERCEPT % '(count % 2 ? "{\\"verdict\\":\\"continue\\"}" : "{\\"verdict\\":\\"drop\\"}")', "    .intercept = intercept,\n")),
    Animal("takes-its-time", 39, before_table(SLOW, "    .intercept = intercept,\n"),
           manifest=put([{"point": "deal.before", "budget_ms": 100}], "hooks")),
    Animal("decides-for-the-administrator", 39, before_table(ASKING, "    .intercept = intercept,\n") + (
        ("    if (verdict(self, work, record, event)) {\n        int status",
         "    if (work->verb == MP_VERB_INTERCEPT) {\n"
         "        text_add(&result, \"{\\\"verdict\\\":\\\"%s\\\"}\", verdict(self, work, record, event) ? \"drop\" : \"continue\");\n"
         "        end(self, work, MP_OK, &result);\n    } else if (verdict(self, work, record, event)) {\n        int status"),)),
    Animal("counts-webhooks", 40, before_table(WEBHOOK % "count", "    .webhook = webhook,\n")),
    Animal("forgets-its-place", 41, pulling("(long long)__atomic_fetch_add(&place_of_all, 1, __ATOMIC_RELAXED)") + (
        ("static const mp_view absent", "static long long place_of_all;\nstatic const mp_view absent"),), manifest=STREAMS),
    Animal("promises-a-stream", 41, manifest=STREAMS),
    Animal("believes-the-clock", 42, (
        (DELIVER, "static int32_t deliver(void *pointer, const mp_op *op) {\n    struct plugin *self = pointer;\n    static uint64_t last;\n"
         "    mp_time now = {.struct_size = sizeof now};\n    self->host->now(self->instance, &now);\n"
         "    if (now.wall_ns < last)\n        return MP_REJECTED;\n    last = now.wall_ns;\n"),)),
    Animal("knows-its-time-zone", 42, (
        ('    text_add(&body, ",\\"list\\":%lld',
         "    mp_time now = {.struct_size = sizeof now};\n    self->host->now(self->instance, &now);\n"
         "    time_t second = (time_t)(now.wall_ns / 1000000000u);\n    struct tm date;\n    localtime_r(&second, &date);\n"
         "    text_add(&body, \",\\\"day\\\":%d\", date.tm_mday);\n"
         '    text_add(&body, ",\\"list\\":%lld'),)),
    Animal("forks", 43, delivering("    pid_t child = fork();\n    if (child == 0)\n        _exit(0);")),
    Animal("opens-a-socket", 43, delivering("    close(socket(AF_INET, SOCK_DGRAM, 0));")),
    Animal("writes-a-file", 43, delivering("    close(open(\"/tmp/milepost-zoo\", O_CREAT | O_WRONLY, 0600));")),
    Animal("reads-a-file", 43, delivering("    close(open(\"/etc/hostname\", O_RDONLY));")),
    Animal("prints", 43, delivering("    printf(\"delivering\\n\");\n    fflush(stdout);")),
    Animal("knows-its-mode", 44, (
        ("static const mp_view absent", "static int32_t mode;\nstatic const mp_view absent"),
        ("    (void)info;\n    (void)ret_status;", "    (void)ret_status;\n    mode = info->isolation;"),
        ('    text_add(&body, ",\\"list\\":%lld', '    if (mode == MP_ISOLATION_WORKER)\n        text_add(&body, ",\\"from\\":\\"a worker\\"");\n    text_add(&body, ",\\"list\\":%lld'))),
    Animal("takes-a-refusal-for-success", 45, (
        ("    if (event->status != MP_CALL_OK || event->wire == MP_WIRE_NEVER_SENT)",
         "    if (event->status != MP_CALL_OK)\n        judge(record, \"ok\", \"\", \"\");\n    else if (event->wire == MP_WIRE_NEVER_SENT)"),)),
    Animal("stamps-and-knows-its-mode", 44, STAMPED + (
        ("static const mp_view absent", "static int32_t mode;\nstatic const mp_view absent"),
        ("    (void)info;\n    (void)ret_status;", "    (void)ret_status;\n    mode = info->isolation;"),
        ('"POST" : "GET"', '"POST" : mode == MP_ISOLATION_WORKER ? "HEAD" : "GET"'))),
    Animal("one-instance-at-a-time", 46, (
        ("static const mp_view absent", "static volatile uint64_t busy;\nstatic const mp_view absent"),
        ("    self->works = work;\n    return work;", "    self->works = work;\n    busy = self->instance;\n    return work;"),
        ("    free(work);\n    mp_view body", "    free(work);\n    if (!self->works && busy == self->instance)\n        busy = 0;\n    mp_view body"),
        (DELIVER, DELIVER + "    if (busy && busy != ((struct plugin *)self)->instance)\n        return MP_REJECTED;\n"))),
    Animal("remembers-in-memory", 47, (
        ("static const mp_view absent", "static char known[256][80];\nstatic unsigned knowns;\nstatic const mp_view absent"),
        ("    struct record *record = &work->records[index];\n    struct text body = {0};",
         "    struct record *record = &work->records[index];\n    struct text body = {0};\n"
         "    snprintf(known[knowns++ % 256], 80, \"%s\", record->delivery);"),
        ("            record->done = 0;\n            record->code[0] = 0;\n",
         "            int is_known = 0;\n            for (unsigned i = 0; i < 256; i++)\n"
         "                is_known |= !strcmp(known[i], record->delivery);\n"
         "            record->done = 0;\n            record->code[0] = 0;\n            if (!is_known) {\n"
         "                judge(record, \"not_applied\", \"\", \"Never asked.\");\n                continue;\n            }\n"))),
]

HARDENED = "-Wl,-z,relro,-z,now,-z,noexecstack"


def new_project(folder: Path) -> Path:
    """What `milepost plugin new` makes of the name acme in C, with the corpus' connector, which stands on the ABI itself: the zoo
    breaks it below what <milepost/connector.h> would keep right."""
    subprocess.run(
        [DIST / "milepost", "plugin", "new", "acme", "--language", "c", "--folder", folder], check=True, capture_output=True,
        timeout=100)
    for source in ("plugin.c", "json.h"):
        shutil.copy(ROOT / "Tests/AbiCorpus/1.0/plugin" / source, folder / "src" / source)
    return folder


def build(animal: Animal, project: Path, folder: Path, name: str = "acme") -> Path:
    """Compiles the project with what the animal breaks, into a folder of its own."""
    source = (project / "src/plugin.c").read_text()
    for old, new in animal.edits:
        assert source.count(old) == 1, f"{animal.name}: {source.count(old)} times in the template: {old}"
        source = source.replace(old, new)
    manifest = json.loads((project / "acme.json").read_text()) | {"name": name, "id": f"com.example.{name}"}
    if animal.manifest:
        animal.manifest(manifest)
    described = json.dumps(manifest).encode()
    if animal.sidecar:
        animal.sidecar(manifest)
    folder.mkdir(exist_ok=True)
    (folder / "plugin.c").write_text(source)
    (folder / "manifest.h").write_text(f"static const unsigned char manifest[] = {{{','.join(map(str, described))}}};\n")
    (folder / "export.map").write_text(f"{{ global: {animal.exports} local: *; }};\n")
    (folder / f"{name}.json").write_text(json.dumps(manifest))
    (folder / f"{name}.vendor.json").write_text((project / "acme.vendor.json").read_text())
    link = [flag for flag in (HARDENED, "-Wl,-z,defs") if flag not in animal.without]
    library = folder / f"{name}.so"
    subprocess.run(
        ["cc", "-std=gnu11", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-stack-protector", "-w", f"-I{ROOT / 'include'}",
         f"-I{folder}", f"-I{project / 'src'}", "-o", library, folder / "plugin.c", *link,
         f"-Wl,--version-script={folder / 'export.map'}", *animal.flags],
        check=True, timeout=100)
    library.chmod(animal.mode)
    (folder / f"{name}.json").chmod(0o644)
    return library
