/* SPDX-License-Identifier: Apache-2.0
 *
 * The floor under single-event POSTs: an epoll server that stores one row pair a request and
 * answers after the commit.
 *
 *   bare_pipe FILE PORT      serves on loopback until its standard input ends
 *
 * It reads what all connections have sent, stores it in one transaction (synchronous=FULL), and
 * answers all. No JSON, no authentication, no hash: the body is kept as it is, identities are
 * random bytes. A request must fit one read.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_EVENTS = 512, BUFFER = 8192 };

static const char answer[] =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 61\r\n\r\n"
    "{\"accepted\":1,\"duplicate\":0,\"rejected\":0,\"rejections\":[]}    ";

static void run(sqlite3 *db, const char *sql) {
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
        return;
    fprintf(stderr, "bare_pipe: %s: %s\n", sql, sqlite3_errmsg(db));
    exit(1);
}

static uint64_t next_random(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static int listen_on(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 256) != 0) {
        perror("bare_pipe: listen");
        exit(1);
    }
    return listener;
}

static void watch(int poll, int descriptor) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event) != 0) {
        perror("bare_pipe: epoll");
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    sqlite3 *db = NULL;
    if (sqlite3_open(argv[1], &db) != SQLITE_OK)
        return 1;
    run(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-65536;"
            "PRAGMA wal_autocheckpoint=32768;"
            "CREATE TABLE event_ids (hash BLOB PRIMARY KEY, day INTEGER NOT NULL) STRICT, WITHOUT "
            "ROWID;"
            "CREATE TABLE clicks (id INTEGER PRIMARY KEY, body TEXT NOT NULL);"
            "CREATE TABLE totals (link INTEGER PRIMARY KEY, clicks INTEGER NOT NULL);");
    sqlite3_stmt *identity = NULL, *click = NULL, *total = NULL;
    if (sqlite3_prepare_v2(db, "INSERT INTO event_ids VALUES (?, 20260101) ON CONFLICT DO NOTHING",
                           -1, &identity, NULL) ||
        sqlite3_prepare_v2(db, "INSERT INTO clicks (body) VALUES (?)", -1, &click, NULL) ||
        sqlite3_prepare_v2(
            db,
            "INSERT INTO totals VALUES (?, 1) ON CONFLICT (link) DO UPDATE SET clicks = clicks + 1",
            -1, &total, NULL))
        return 1;
    int listener = listen_on(atoi(argv[2])), poll = epoll_create1(EPOLL_CLOEXEC);
    watch(poll, listener);
    watch(poll, STDIN_FILENO);
    puts("ready");
    fflush(stdout);
    static char buffer[BUFFER];
    for (;;) {
        struct epoll_event events[MAX_EVENTS];
        int waiting[MAX_EVENTS], count = 0, ready = epoll_wait(poll, events, MAX_EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int descriptor = events[i].data.fd;
            if (descriptor == STDIN_FILENO)
                return 0;
            if (descriptor == listener) {
                int client, one = 1;
                while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >=
                       0) {
                    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    watch(poll, client);
                }
                continue;
            }
            ssize_t length = read(descriptor, buffer, sizeof buffer);
            char *body = length > 0 ? memmem(buffer, (size_t)length, "\r\n\r\n", 4) : NULL;
            if (!body) {
                close(descriptor);
                continue;
            }
            body += 4;
            if (count == 0)
                run(db, "BEGIN IMMEDIATE");
            uint64_t hash[2] = {next_random(), next_random()};
            sqlite3_bind_blob(identity, 1, hash, sizeof hash, SQLITE_STATIC);
            sqlite3_bind_text(click, 1, body, (int)(buffer + length - body), SQLITE_STATIC);
            sqlite3_bind_int64(total, 1, (int64_t)(hash[0] % 1000));
            sqlite3_step(identity);
            sqlite3_reset(identity);
            sqlite3_step(click);
            sqlite3_reset(click);
            sqlite3_step(total);
            sqlite3_reset(total);
            waiting[count++] = descriptor;
        }
        if (count == 0)
            continue;
        run(db, "COMMIT");
        for (int i = 0; i < count; i++)
            if (write(waiting[i], answer, sizeof answer - 1) < 0)
                close(waiting[i]);
    }
}
