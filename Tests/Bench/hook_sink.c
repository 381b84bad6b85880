/* SPDX-License-Identifier: Apache-2.0
 *
 * A receiver of hooks that costs next to nothing: epoll, HTTP/1.1, kept-alive connections.
 *
 *   hook_sink PORT DELAY_MS      answers 204, so many milliseconds after a request is complete
 *
 * Prints "ready" once it listens (PORT 0: the kernel chooses) with the port. A line on standard
 * input is answered by one of JSON: requests, distinct (by webhook-id), connections (the most at
 * once), p50_us and p99_us, and body, the last one as it came, in a string of its own; `zero` begins
 * to count anew. Latencies are known of bodies with "?t=" and the microseconds of CLOCK_MONOTONIC at
 * which their click was posted. The end of its input ends it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_EVENTS = 512, BUFFER = 16384, DESCRIPTORS = 4096, IDS = 1 << 22, TIMES = 1 << 20 };

static const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";

struct client {
    char *bytes;
    size_t length;
};

/* Answers that wait, in the order of their time: each waits equally long. */
struct due {
    double at;
    int descriptor;
};

static struct client clients[DESCRIPTORS];
static struct due *queue;
static size_t queue_first, queue_count, queue_room;
static uint64_t *ids;
static long requests, distinct, connections, most;
static char last_body[BUFFER];
static size_t last_length;
static double delay;
static double times[TIMES];
static size_t time_count;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int poll, int descriptor) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event) != 0)
        fail("hook_sink: epoll");
}

static void note_id(const char *id, size_t length) {
    uint64_t hash = 1469598103934665603u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (uint8_t)id[i]) * 1099511628211u;
    hash |= 1;
    for (size_t at = hash % IDS;; at = (at + 1) % IDS) {
        if (ids[at] == hash)
            return;
        if (ids[at] != 0)
            continue;
        if (distinct < IDS / 2) {
            ids[at] = hash;
            distinct++;
        }
        return;
    }
}

static void reply(int descriptor) {
    if (clients[descriptor].bytes && write(descriptor, answer, sizeof answer - 1) < 0) {
    } /* its end is noticed where it is read */
}

static void reply_later(int descriptor) {
    if (queue_count == queue_room) {
        size_t room = queue_room ? 2 * queue_room : 1024;
        struct due *more = malloc(room * sizeof *more);
        if (!more)
            fail("hook_sink: memory");
        for (size_t i = 0; i < queue_count; i++)
            more[i] = queue[(queue_first + i) % queue_room];
        free(queue);
        queue = more;
        queue_first = 0;
        queue_room = room;
    }
    queue[(queue_first + queue_count++) % queue_room] =
        (struct due){seconds() + delay, descriptor};
}

static void drop(int descriptor) {
    close(descriptor);
    free(clients[descriptor].bytes);
    clients[descriptor] = (struct client){NULL, 0};
    connections--;
}

/* The bytes of the first request in the buffer; 0 when it is not whole yet, -1 when it is none. */
static ssize_t whole(struct client *client, char **ret_body, size_t *ret_length) {
    client->bytes[client->length] = 0;
    char *end = strstr(client->bytes, "\r\n\r\n");
    if (!end)
        return 0;
    *end = 0;
    const char *length = strcasestr(client->bytes, "\r\ncontent-length:");
    const char *id = strcasestr(client->bytes, "\r\nwebhook-id:");
    if (!length)
        return -1;
    *ret_length = strtoul(length + 17, NULL, 10);
    *ret_body = end + 4;
    size_t total = (size_t)(end + 4 - client->bytes) + *ret_length;
    if (total >= BUFFER)
        return -1;
    if (total > client->length) {
        *end = '\r';
        return 0;
    }
    if (id) {
        id += 13;
        note_id(id, strcspn(id, "\r"));
    }
    return (ssize_t)total;
}

static void note_time(const char *body, size_t length) {
    const char *mark = memmem(body, length, "?t=", 3);
    if (mark && time_count < TIMES)
        times[time_count++] = seconds() * 1e6 - strtod(mark + 3, NULL);
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* 0 when nothing was measured. */
static double percentile(double part) {
    return time_count ? times[(size_t)((double)(time_count - 1) * part)] : 0;
}

static void take(int descriptor) {
    struct client *client = &clients[descriptor];
    ssize_t got = read(descriptor, client->bytes + client->length, BUFFER - 1 - client->length);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            drop(descriptor);
        return;
    }
    client->length += (size_t)got;
    while (client->length > 0) {
        char *body = NULL;
        size_t length = 0;
        ssize_t size = whole(client, &body, &length);
        if (size == 0)
            return;
        if (size < 0) {
            drop(descriptor);
            return;
        }
        requests++;
        memcpy(last_body, body, length);
        last_length = length;
        note_time(last_body, length);
        client->length -= (size_t)size;
        memmove(client->bytes, client->bytes + size, client->length);
        if (delay > 0)
            reply_later(descriptor);
        else
            reply(descriptor);
    }
}

static void accept_all(int poll, int listener) {
    int client, one = 1;
    while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (client >= DESCRIPTORS || !(clients[client].bytes = malloc(BUFFER))) {
            close(client);
            continue;
        }
        clients[client].length = 0;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(poll, client);
        if (++connections > most)
            most = connections;
    }
}

/* 0 at the end of the input. */
static int command(void) {
    char line[256];
    ssize_t got = read(STDIN_FILENO, line, sizeof line - 1);
    if (got <= 0)
        return 0;
    line[got] = 0;
    qsort(times, time_count, sizeof *times, compare);
    printf("{\"requests\":%ld,\"distinct\":%ld,\"connections\":%ld,\"p50_us\":%.0f,"
           "\"p99_us\":%.0f,\"body\":\"",
           requests, distinct, most, percentile(0.5), percentile(0.99));
    for (size_t i = 0; i < last_length; i++) {
        uint8_t byte = (uint8_t)last_body[i];
        if (byte < 0x20 || byte == '"' || byte == '\\')
            printf("\\u%04x", byte);
        else
            putchar(byte);
    }
    puts("\"}");
    fflush(stdout);
    if (strncmp(line, "zero", 4) == 0) {
        requests = distinct = 0;
        time_count = 0;
        most = connections;
        memset(ids, 0, IDS * sizeof *ids);
    }
    return 1;
}

static int next_timeout(void) {
    if (queue_count == 0)
        return -1;
    double left = queue[queue_first].at - seconds();
    return left <= 0 ? 0 : (int)(left * 1000) + 1;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    delay = atof(argv[2]) / 1000;
    ids = calloc(IDS, sizeof *ids);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (!ids || bind(listener, (struct sockaddr *)&address, length) != 0 ||
        listen(listener, 1024) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        fail("hook_sink: listen");
    int poll = epoll_create1(EPOLL_CLOEXEC);
    watch(poll, listener);
    watch(poll, STDIN_FILENO);
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event events[MAX_EVENTS];
        int ready = epoll_wait(poll, events, MAX_EVENTS, next_timeout());
        for (int i = 0; i < ready; i++) {
            int descriptor = events[i].data.fd;
            if (descriptor == STDIN_FILENO) {
                if (!command())
                    return 0;
            } else if (descriptor == listener) {
                accept_all(poll, listener);
            } else if (clients[descriptor].bytes) {
                take(descriptor);
            }
        }
        double now = queue_count ? seconds() : 0;
        while (queue_count && queue[queue_first].at <= now) {
            reply(queue[queue_first].descriptor);
            queue_first = (queue_first + 1) % queue_room;
            queue_count--;
        }
    }
}
