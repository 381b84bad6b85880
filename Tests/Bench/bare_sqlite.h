/* SPDX-License-Identifier: Apache-2.0
 *
 * SQLite as the bare baselines use it: with the settings of Sources/MilepostStore, and nothing around it.
 */
#ifndef MILEPOST_BARE_SQLITE_H
#define MILEPOST_BARE_SQLITE_H

#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline void fail(sqlite3 *db, const char *what) {
    fprintf(stderr, "%s: %s\n", what, db ? sqlite3_errmsg(db) : "no memory");
    exit(1);
}

static inline void run(sqlite3 *db, const char *sql) {
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail(db, sql);
}

static inline sqlite3_stmt *prepare(sqlite3 *db, const char *sql) {
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        fail(db, sql);
    return statement;
}

static inline void step(sqlite3 *db, sqlite3_stmt *statement) {
    if (sqlite3_step(statement) != SQLITE_DONE)
        fail(db, "step");
    sqlite3_reset(statement);
}

static inline double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* checkpointLimitBytes of SQLiteConfiguration.swift: a writer that never rests copies there. */
#define LOG_LIMIT (128 << 20)

static int log_pages;

static inline int on_commit(void *context, sqlite3 *db, const char *name, int pages) {
    (void)context;
    (void)db;
    (void)name;
    log_pages = pages;
    return SQLITE_OK;
}

static inline void commit(sqlite3 *db) {
    run(db, "COMMIT");
    if ((int64_t)log_pages * 4096 > LOG_LIMIT)
        sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}

#endif
