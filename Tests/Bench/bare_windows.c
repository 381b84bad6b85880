/* SPDX-License-Identifier: Apache-2.0
 *
 * The floor under a rolling rule's click through the store: the log read, and a window's row read
 * and written, with nothing around them.
 *
 *   bare_windows FILE RULES CONTACTS TRANSACTION_SIZE     prints microseconds a click
 *
 * One click for each pair, contact by contact. The log is written first and not timed; then a
 * transaction for each page of it, windows in the order of their key. Tables and settings as in
 * Sources/MilepostStore (DayTable, Migration0006): WAL, synchronous=FULL, checkpoints between
 * transactions. No rules, no links, no forms; a window is its eight bytes and never expires.
 */
#include "bare_sqlite.h"

#include <string.h>

static const char *const schema =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA "
    "cache_size=-32768;"
    "PRAGMA secure_delete=ON; PRAGMA temp_store=MEMORY;"
    "CREATE TABLE clicks (id INTEGER PRIMARY KEY, link INTEGER NOT NULL, at INTEGER NOT NULL, "
    "event TEXT NOT NULL, contact TEXT, received_at INTEGER NOT NULL);"
    "CREATE TABLE cursor (id INTEGER PRIMARY KEY, position INTEGER NOT NULL);"
    "INSERT INTO cursor VALUES (1, 0);"
    "CREATE TABLE windows (rule INTEGER NOT NULL, contact TEXT NOT NULL, times BLOB NOT NULL, "
    "arming INTEGER NOT NULL, is_armed INTEGER NOT NULL, bots INTEGER NOT NULL, changed_at INTEGER "
    "NOT NULL, PRIMARY KEY (rule, contact)) STRICT, WITHOUT ROWID;";

struct touch {
    int64_t rule;
    int64_t at;
    char contact[32];
};

static int by_key(const void *left, const void *right) {
    const struct touch *a = left, *b = right;
    if (a->rule != b->rule)
        return a->rule < b->rule ? -1 : 1;
    return strcmp(a->contact, b->contact);
}

static void write_log(sqlite3 *db, long rules, long contacts) {
    sqlite3_stmt *click = prepare(
        db, "INSERT INTO clicks (link, at, event, contact, received_at) VALUES (?, ?, ?, ?, ?)");
    run(db, "BEGIN IMMEDIATE");
    for (long contact = 0; contact < contacts; contact++) {
        char name[32];
        snprintf(name, sizeof name, "contact-%ld", contact);
        for (long rule = 0; rule < rules; rule++) {
            char event[40];
            snprintf(event, sizeof event, "%ld-%ld", contact, rule);
            sqlite3_bind_int64(click, 1, rule + 1);
            sqlite3_bind_int64(click, 2, 1767225600000);
            sqlite3_bind_text(click, 3, event, -1, SQLITE_STATIC);
            sqlite3_bind_text(click, 4, name, -1, SQLITE_STATIC);
            sqlite3_bind_int64(click, 5, 1767225600000);
            step(db, click);
        }
    }
    commit(db);
    sqlite3_finalize(click);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: bare_windows FILE RULES CONTACTS TRANSACTION_SIZE\n");
        return 2;
    }
    long rules = atol(argv[2]), contacts = atol(argv[3]), size = atol(argv[4]);
    if (rules < 1 || contacts < 1 || size < 1)
        return 2;
    sqlite3 *db = NULL;
    if (sqlite3_open(argv[1], &db) != SQLITE_OK)
        fail(db, argv[1]);
    run(db, schema);
    sqlite3_wal_hook(db, on_commit, NULL);
    write_log(db, rules, contacts);
    struct touch *page = calloc((size_t)size, sizeof *page);
    if (!page)
        fail(NULL, "page");
    sqlite3_stmt *log =
        prepare(db, "SELECT id, link, at, contact FROM clicks WHERE id > ? ORDER BY id LIMIT ?");
    sqlite3_stmt *window =
        prepare(db, "SELECT times, arming, is_armed, bots FROM windows WHERE rule = ? AND contact = ?");
    sqlite3_stmt *replace =
        prepare(db, "INSERT OR REPLACE INTO windows VALUES (?, ?, ?, 0, 1, 0, ?)");
    sqlite3_stmt *move = prepare(db, "UPDATE cursor SET position = ? WHERE id = 1");

    double started = seconds();
    int64_t position = 0;
    for (long done = 0; done < rules * contacts;) {
        long count = 0;
        run(db, "BEGIN IMMEDIATE");
        sqlite3_bind_int64(log, 1, position);
        sqlite3_bind_int64(log, 2, size);
        for (; sqlite3_step(log) == SQLITE_ROW; count++) {
            position = sqlite3_column_int64(log, 0);
            page[count].rule = sqlite3_column_int64(log, 1);
            page[count].at = sqlite3_column_int64(log, 2);
            snprintf(page[count].contact, sizeof page[count].contact, "%s",
                     (const char *)sqlite3_column_text(log, 3));
        }
        sqlite3_reset(log);
        if (count == 0)
            fail(db, "the log ended early");
        qsort(page, (size_t)count, sizeof *page, by_key);
        for (long index = 0; index < count; index++) {
            const struct touch *touch = &page[index];
            sqlite3_bind_int64(window, 1, touch->rule);
            sqlite3_bind_text(window, 2, touch->contact, -1, SQLITE_STATIC);
            if (sqlite3_step(window) == SQLITE_ROW)
                fail(db, "a pair came twice");
            sqlite3_reset(window);
            sqlite3_bind_int64(replace, 1, touch->rule);
            sqlite3_bind_text(replace, 2, touch->contact, -1, SQLITE_STATIC);
            sqlite3_bind_blob(replace, 3, &touch->at, sizeof touch->at, SQLITE_STATIC);
            sqlite3_bind_int64(replace, 4, touch->at);
            step(db, replace);
        }
        sqlite3_bind_int64(move, 1, position);
        step(db, move);
        commit(db);
        done += count;
    }
    printf("%.3f\n", (seconds() - started) * 1e6 / ((double)rules * (double)contacts));
    sqlite3_finalize(log);
    sqlite3_finalize(window);
    sqlite3_finalize(replace);
    sqlite3_finalize(move);
    sqlite3_close(db);
    free(page);
    return 0;
}
