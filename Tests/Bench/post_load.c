/* SPDX-License-Identifier: Apache-2.0
 *
 * Posts events over kept-alive connections, each with one request on its way, and measures every
 * answer.
 *
 *   post_load single PORT TOKEN CONNECTIONS SECONDS PREFIX    one event a request, for so long
 *   post_load lines  PORT TOKEN CONNECTIONS LINES FILE        FILE as NDJSON, LINES a request, once
 *
 * Prints JSON: requests, accepted, seconds, per_second (of accepted events), p50_us, p99_us,
 * max_us. An answer other than 200, a cut connection or ten silent seconds end it with status 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 512, ANSWER = 65536, HEAD = 700, SINGLE_LINKS = 1000, SILENCE_MS = 10000 };

struct connection {
    int descriptor;
    char head[HEAD + 300];
    size_t head_length, sent;
    const char *body; /* in the mapped file, or null when head holds all */
    size_t body_length;
    char answer[ANSWER];
    size_t received;
    double started;
    int is_busy;
};

static const char *token, *prefix, *file_start, *file_at, *file_end;
static int port, is_single;
static long lines_per_request, number;
static double *spent;
static size_t spent_count, spent_capacity;

static void fail(const char *what) {
    fprintf(stderr, "post_load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void connect_to(struct connection *connection) {
    connection->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    if (connect(connection->descriptor, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    setsockopt(connection->descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(connection->descriptor, F_SETFL, O_NONBLOCK);
}

/* Prepares the next request; 0 when there is none left. */
static int prepare(struct connection *connection) {
    static const char format[] =
        "POST /v1/workspaces/bench/events HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        "authorization: Bearer %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n%s";
    char event[300] = "";
    connection->body = NULL;
    connection->body_length = 0;
    size_t length;
    if (is_single) {
        time_t now = time(NULL);
        length = (size_t)snprintf(
            event, sizeof event,
            "{\"id\":\"%s-%ld\",\"ts\":%ld,\"link\":\"link-%ld\",\"country\":\"DE\"}", prefix,
            number, (long)now, number % SINGLE_LINKS);
        number++;
    } else {
        if (file_at >= file_end)
            return 0;
        connection->body = file_at;
        for (long i = 0; i < lines_per_request && file_at < file_end; i++) {
            const char *end = memchr(file_at, '\n', (size_t)(file_end - file_at));
            file_at = end ? end + 1 : file_end;
        }
        length = connection->body_length = (size_t)(file_at - connection->body);
    }
    int head = snprintf(connection->head, sizeof connection->head, format, token,
                        is_single ? "application/json" : "application/x-ndjson", length, event);
    if (head < 0 || (size_t)head >= sizeof connection->head)
        fail("token too long");
    connection->head_length = (size_t)head;
    connection->sent = connection->received = 0;
    connection->started = seconds();
    connection->is_busy = 1;
    return 1;
}

/* Sends what the socket takes; 1 when all is sent. */
static int push(struct connection *connection) {
    size_t total = connection->head_length + connection->body_length;
    while (connection->sent < total) {
        int in_head = connection->sent < connection->head_length;
        const char *from = in_head
                               ? connection->head + connection->sent
                               : connection->body + (connection->sent - connection->head_length);
        size_t length =
            in_head ? connection->head_length - connection->sent : total - connection->sent;
        ssize_t count = send(connection->descriptor, from, length, MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN)
            return 0;
        if (count <= 0)
            fail("send");
        connection->sent += (size_t)count;
    }
    return 1;
}

/* Reads what there is; the number of accepted events once the answer is whole, else -1. */
static long pull(struct connection *connection) {
    for (;;) {
        ssize_t count = recv(connection->descriptor, connection->answer + connection->received,
                             ANSWER - 1 - connection->received, 0);
        if (count < 0 && errno == EAGAIN)
            break;
        if (count <= 0)
            fail("the connection was cut");
        connection->received += (size_t)count;
        if (connection->received >= ANSWER - 1)
            fail("the answer is too long");
    }
    connection->answer[connection->received] = 0;
    char *end = strstr(connection->answer, "\r\n\r\n");
    if (!end)
        return -1;
    char *length = strcasestr(connection->answer, "content-length:");
    if (!length || length > end)
        fail("an answer without length");
    if (connection->received <
        (size_t)(end + 4 - connection->answer) + strtoul(length + 15, NULL, 10))
        return -1;
    char *accepted = strstr(end, "\"accepted\":");
    errno = 0;
    if (strncmp(connection->answer, "HTTP/1.1 200", 12) != 0 || !accepted)
        fail(connection->answer);
    return strtol(accepted + 11, NULL, 10);
}

static void note(double duration) {
    if (spent_count == spent_capacity) {
        spent_capacity = spent_capacity ? spent_capacity * 2 : 65536;
        spent = realloc(spent, spent_capacity * sizeof *spent);
        if (!spent)
            fail("memory");
    }
    spent[spent_count++] = duration;
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void open_file(const char *path) {
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &status) != 0)
        fail(path);
    file_start =
        mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, descriptor, 0);
    if (file_start == MAP_FAILED)
        fail(path);
    close(descriptor);
    file_at = file_start;
    file_end = file_start + status.st_size;
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: see the head of post_load.c\n");
        return 2;
    }
    is_single = strcmp(argv[1], "single") == 0;
    port = atoi(argv[2]);
    token = argv[3];
    int count = atoi(argv[4]);
    if (count < 1 || count > MAX_CONNECTIONS || strlen(token) > 400)
        return 2;
    double limit = is_single ? atof(argv[5]) : 1e9;
    lines_per_request = is_single ? 1 : atol(argv[5]);
    prefix = argv[6];
    if (!is_single)
        open_file(argv[6]);

    struct connection *connections = calloc((size_t)count, sizeof *connections);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    if (!connections || poll < 0)
        fail("start");
    for (int i = 0; i < count; i++) {
        connect_to(&connections[i]);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET,
                                    .data.ptr = &connections[i]};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, connections[i].descriptor, &event) != 0)
            fail("epoll");
    }
    long accepted = 0;
    int busy = 0;
    double started = seconds();
    for (int i = 0; i < count; i++)
        if (prepare(&connections[i])) {
            busy++;
            push(&connections[i]);
        }
    while (busy > 0) {
        struct epoll_event events[MAX_CONNECTIONS];
        int ready = epoll_wait(poll, events, MAX_CONNECTIONS, SILENCE_MS);
        errno = 0;
        if (ready == 0)
            fail("no answer for ten seconds");
        double now = seconds();
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (!connection->is_busy)
                continue;
            if (events[i].events & (EPOLLHUP | EPOLLERR))
                fail("the connection was cut");
            if (!push(connection))
                continue;
            long result = pull(connection);
            if (result < 0)
                continue;
            now = seconds();
            note(now - connection->started);
            accepted += result;
            connection->is_busy = 0;
            if (now - started < limit && prepare(connection))
                push(connection);
            else
                busy--;
        }
    }
    double elapsed = seconds() - started;
    qsort(spent, spent_count, sizeof *spent, compare);
    printf("{\"requests\":%zu,\"accepted\":%ld,\"seconds\":%.3f,\"per_second\":%.0f,\"p50_us\":%."
           "0f,\"p99_us\":%.0f,"
           "\"max_us\":%.0f}\n",
           spent_count, accepted, elapsed, (double)accepted / elapsed, spent[spent_count / 2] * 1e6,
           spent[spent_count * 99 / 100] * 1e6, spent[spent_count - 1] * 1e6);
    return 0;
}
