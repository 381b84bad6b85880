/* SPDX-License-Identifier: Apache-2.0
 *
 * The floor under Milepost's intake: the rows that it writes for a click, written with nothing
 * around them.
 *
 *   bare_sqlite FILE EVENTS TRANSACTION_SIZE LINKS     prints events a second
 *
 * A row in a day's table with its partial index, an identity in a table without row ids, and one
 * total a link and transaction, as in Sources/MilepostStore (Migration0001, DayTable,
 * PendingTotals): WAL, synchronous=FULL, checkpoints between transactions once the log holds
 * as much as the store lets it hold. No HTTP, no JSON, no hash: identities are random bytes.
 */
#include "bare_sqlite.h"

#include <string.h>

static uint64_t next_random(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static const char *const schema =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA "
    "cache_size=-65536;"
    "PRAGMA secure_delete=ON; PRAGMA temp_store=MEMORY;"
    "CREATE TABLE link_totals (link INTEGER PRIMARY KEY, workspace INTEGER NOT NULL, clicks "
    "INTEGER NOT NULL,"
    " people INTEGER NOT NULL, sequence INTEGER NOT NULL) STRICT;"
    "CREATE INDEX link_totals_changed ON link_totals (workspace, sequence);"
    "CREATE TABLE event_ids (hash BLOB PRIMARY KEY, day INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE clicks (id INTEGER PRIMARY KEY, link INTEGER NOT NULL, at INTEGER NOT NULL, "
    "is_bot INTEGER NOT NULL,"
    " event TEXT NOT NULL, url TEXT, contact TEXT, gclid TEXT, fbclid TEXT, source TEXT, medium "
    "TEXT, campaign TEXT,"
    " term TEXT, content TEXT, referrer TEXT, country TEXT, device TEXT, user_agent TEXT, "
    "received_at INTEGER NOT NULL);"
    "CREATE INDEX clicks_contact ON clicks (contact) WHERE contact IS NOT NULL;";

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: bare_sqlite FILE EVENTS TRANSACTION_SIZE LINKS\n");
        return 2;
    }
    long events = atol(argv[2]), size = atol(argv[3]), links = atol(argv[4]);
    if (events < 1 || size < 1 || links < 1)
        return 2;
    sqlite3 *db = NULL;
    if (sqlite3_open(argv[1], &db) != SQLITE_OK)
        fail(db, argv[1]);
    run(db, schema);
    sqlite3_wal_hook(db, on_commit, NULL);
    sqlite3_stmt *identity =
        prepare(db, "INSERT INTO event_ids (hash, day) VALUES (?, ?) ON CONFLICT DO NOTHING");
    sqlite3_stmt *click = prepare(
        db,
        "INSERT INTO clicks (link, at, is_bot, event, referrer, country, user_agent, received_at)"
        " VALUES (?, ?, 0, ?, ?, ?, ?, ?)");
    sqlite3_stmt *total = prepare(
        db, "INSERT INTO link_totals VALUES (?, 1, ?, ?, ?) ON CONFLICT (link) DO UPDATE SET"
            " clicks = clicks + excluded.clicks, people = people + excluded.people, sequence = "
            "excluded.sequence");
    int64_t *counts = calloc((size_t)links, sizeof *counts);
    if (!counts)
        fail(NULL, "counts");

    double started = seconds();
    for (long done = 0, transaction = 1; done < events; transaction++) {
        long until = done + size < events ? done + size : events;
        run(db, "BEGIN IMMEDIATE");
        for (; done < until; done++) {
            uint64_t hash[2] = {next_random(), next_random()};
            char event[40];
            int length = snprintf(event, sizeof event, "event-%ld", done);
            int64_t link = (int64_t)(next_random() % (uint64_t)links);
            sqlite3_bind_blob(identity, 1, hash, sizeof hash, SQLITE_STATIC);
            sqlite3_bind_int64(identity, 2, 20260101);
            step(db, identity);
            if (sqlite3_changes(db) != 1)
                fail(db, "a random identity came twice");
            sqlite3_bind_int64(click, 1, link + 1);
            sqlite3_bind_int64(click, 2, 1767225600000 + done);
            sqlite3_bind_text(click, 3, event, length, SQLITE_STATIC);
            sqlite3_bind_text(click, 4, "https://news.example.com/today", -1, SQLITE_STATIC);
            sqlite3_bind_text(click, 5, "DE", 2, SQLITE_STATIC);
            sqlite3_bind_text(
                click, 6, "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                -1, SQLITE_STATIC);
            sqlite3_bind_int64(click, 7, 1767225600000);
            step(db, click);
            counts[link]++;
        }
        for (long link = 0; link < links; link++) {
            if (counts[link] == 0)
                continue;
            sqlite3_bind_int64(total, 1, link + 1);
            sqlite3_bind_int64(total, 2, counts[link]);
            sqlite3_bind_int64(total, 3, counts[link]);
            sqlite3_bind_int64(total, 4, transaction);
            step(db, total);
            counts[link] = 0;
        }
        commit(db);
    }
    printf("%.0f\n", (double)events / (seconds() - started));
    sqlite3_finalize(identity);
    sqlite3_finalize(click);
    sqlite3_finalize(total);
    sqlite3_close(db);
    free(counts);
    return 0;
}
