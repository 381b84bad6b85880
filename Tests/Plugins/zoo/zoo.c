/* SPDX-License-Identifier: Apache-2.0
 *
 * Every way to misbehave, chosen by the first word of `query`'s body; `ping` stays well. Built by
 * the tests.
 */
#define _GNU_SOURCE
#include "../bodies.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct zoo {
    const mp_host *host;
    uint64_t instance;
    uint64_t cancellable;
    int kept; /* operations that it means not to end by itself */
};

static void describe(mp_view *ret_manifest) {
#ifdef SLOW_DESCRIBE
    /* This thread's own time: inline, the process's would be spent by others too. */
    struct timespec spent;
    do
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    while (spent.tv_sec == 0 && spent.tv_nsec < 200000000);
#endif
    *ret_manifest = text(MANIFEST);
}

static int32_t create(const mp_host *host, uint64_t instance, mp_view config, void **ret_self) {
    if (config.len >= 4 && memcmp(config.ptr, "slow", 4) == 0)
        sleep(3600);
    struct zoo *self = calloc(1, sizeof *self);
    self->host = host;
    self->instance = instance;
    *ret_self = self;
    return MP_OK;
}

static void destroy(void *pointer) {
    free(pointer);
}

static int32_t well(void *pointer, const mp_op *op) {
    struct zoo *self = pointer;
    self->host->op_complete(self->instance, op->id, MP_OK, text("{}"));
    return MP_OK;
}

static int is(const mp_op *op, const char *word) {
    return op->body.len == strlen(word) && memcmp(op->body.ptr, word, op->body.len) == 0;
}

static void complete(struct zoo *self, const mp_op *op, const char *result) {
    self->host->op_complete(self->instance, op->id, MP_OK, text(result));
}

static const char *verdict(long result) {
    static __thread char buffer[32];
    if (result >= 0)
        return "ALLOWED";
    snprintf(buffer, sizeof buffer, "%s", strerrorname_np(errno));
    return buffer;
}

/* Raw numbers where the C library would refuse by itself. */
static void probe(struct zoo *self, const mp_op *op) {
    char result[1200];
    int used = 0;
    long outcome;
#define PROBE(name, expression)                                                                    \
    errno = 0;                                                                                     \
    outcome = (long)(expression);                                                                  \
    used += snprintf(result + used, sizeof result - (size_t)used, "%s\"%s\":\"%s\"",               \
                     used ? "," : "{", name, verdict(outcome))
    PROBE("socket", socket(AF_INET, SOCK_STREAM, 0));
    PROBE("unix_socket", socket(AF_UNIX, SOCK_STREAM, 0));
    int pair[2];
    PROBE("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    PROBE("read_passwd", open("/etc/passwd", O_RDONLY));
    PROBE("read_proc", open("/proc/1/environ", O_RDONLY));
    PROBE("write_tmp", open("/tmp/milepost-zoo-was-here", O_CREAT | O_WRONLY, 0600));
    PROBE("list_root", open("/", O_RDONLY | O_DIRECTORY));
    outcome = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (outcome == 0)
        _exit(0);
    used +=
        snprintf(result + used, sizeof result - (size_t)used, ",\"fork\":\"%s\"", verdict(outcome));
    char *arguments[] = {"/bin/true", NULL};
    PROBE("exec", execve("/bin/true", arguments, NULL));
    PROBE("kill_parent", kill(getppid() > 1 ? getppid() : 1, 0));
    /* Whom a descriptor signals when it is ready; F_SETSIG would make it SIGKILL. */
    PROBE("signal_by_descriptor", fcntl(3, F_SETOWN, getpid()));
    PROBE("ptrace", syscall(SYS_ptrace, 16, 1, 0, 0));
    PROBE("io_uring", syscall(425, 1, NULL));
    PROBE("executable_memory", mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
                                   ? -1
                                   : 0);
    PROBE("shared_memory",
          mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
              ? -1
              : 0);
    struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
    PROBE("raise_limit", setrlimit(RLIMIT_DATA, &more));
    PROBE("zoneinfo", open("/usr/share/zoneinfo", O_RDONLY | O_DIRECTORY));
    PROBE("urandom", open("/dev/urandom", O_RDONLY));
    snprintf(result + used, sizeof result - (size_t)used,
             ",\"environment\":\"%s\",\"descriptors\":\"%s\"}",
             environ && environ[0] ? environ[0] : "empty",
             fcntl(5, F_GETFD) < 0 || fcntl(40, F_GETFD) < 0 ? "few" : "many");
    complete(self, op, result);
#undef PROBE
}

static void *late(void *argument) {
    uint64_t *ids = argument;
    usleep(20000);
    (void)ids;
    return NULL;
}

static int32_t query(void *pointer, const mp_op *op) {
    struct zoo *self = pointer;
    if (is(op, "abort")) {
        fprintf(stderr, "the zoo says goodbye\n");
        abort();
    }
    if (is(op, "segfault"))
        *(volatile int *)16 = 1;
    if (is(op, "exit"))
        exit(7);
    if (is(op, "spin"))
        for (volatile uint64_t i = 0;; i++) {
        }
    if (is(op, "block"))
        pause(), sleep(3600);
    if (is(op, "never")) {
        self->kept++;
        return MP_OK;
    }
    if (is(op, "until_cancelled")) {
        self->cancellable = op->id;
        self->kept++;
        return MP_OK;
    }
    if (is(op, "kept")) {
        complete(self, op, self->kept ? "{\"kept\":true}" : "{}");
        return MP_OK;
    }
    if (is(op, "hog")) {
        for (;;) {
            char *chunk = malloc(8 << 20);
            if (!chunk)
                break;
            memset(chunk, 1, 8 << 20);
        }
        complete(self, op, "{\"memory\":\"refused\"}");
        return MP_OK;
    }
    if (is(op, "twice")) {
        complete(self, op, "{\"answer\":1}");
        complete(self, op, "{\"answer\":2}");
        return MP_OK;
    }
    if (is(op, "rubbish")) {
        self->host->op_complete(self->instance, op->id, MP_OK,
                                (mp_view){(const uint8_t *)"\xff{]not json", 11});
        return MP_OK;
    }
    if (is(op, "status")) {
        self->host->op_complete(self->instance, op->id, MP_CRASHED, text("{}"));
        return MP_OK;
    }
    if (is(op, "stdout")) {
        printf("hello from stdout\n");
        fflush(stdout);
        for (int i = 0; i < 2000; i++)
            fprintf(stderr, "line %d\n", i);
        complete(self, op, "{}");
        return MP_OK;
    }
    if (is(op, "log_flood")) {
        for (int i = 0; i < 50000; i++)
            self->host->log(self->instance, op->id, MP_LOG_INFO, text("on and on"),
                            (mp_view){NULL, 0});
        complete(self, op, "{}");
        return MP_OK;
    }
    if (is(op, "stale")) {
        int32_t status =
            self->host->op_complete(self->instance + 1000000, op->id, MP_OK, text("{}"));
        char result[64];
        snprintf(result, sizeof result, "{\"status\":%d}", status);
        complete(self, op, result);
        return MP_OK;
    }
    if (is(op, "frame")) { /* the worker's channel is number 3 */
        if (write(3, "this is no frame", 16) < 0) {
        }
        sleep(3600);
    }
    if (is(op, "close")) {
        close(3);
        sleep(3600);
    }
    if (is(op, "thread")) {
        pthread_t thread;
        uint64_t ids[2] = {self->instance, op->id};
        int error = pthread_create(&thread, NULL, late, ids);
        if (error == 0)
            pthread_join(thread, NULL);
        complete(self, op, error == 0 ? "{\"thread\":\"ran\"}" : "{\"thread\":\"refused\"}");
        return MP_OK;
    }
    if (is(op, "submit_then_abort")) {
        mp_http_request request = {.struct_size = sizeof request,
                                   .op = op->id,
                                   .token = 1,
                                   .method = text("POST"),
                                   .url = text("https://api.example.com/"),
                                   .step = text("deal")};
        self->host->http_submit(self->instance, &request);
        usleep(50000);
        abort();
    }
    if (is(op, "no_step")) {
        mp_http_request request = {.struct_size = sizeof request,
                                   .op = op->id,
                                   .token = 1,
                                   .method = text("POST"),
                                   .url = text("https://api.example.com/")};
        int32_t status = self->host->http_submit(self->instance, &request);
        complete(self, op,
                 status == MP_CALL_INVALID ? "{\"refused\":true}" : "{\"refused\":false}");
        return MP_OK;
    }
    if (is(op, "probe")) {
        probe(self, op);
        return MP_OK;
    }
    return MP_REJECTED;
}

static void cancel(void *pointer, uint64_t op) {
    struct zoo *self = pointer;
    if (op == self->cancellable)
        self->host->op_complete(self->instance, op, MP_CANCELLED, text("{}"));
}
static void on_event(void *pointer, const mp_event *event) {
    (void)pointer;
    (void)event;
}

static const mp_plugin table = {
    .struct_size = sizeof table,
    .abi_minor = MP_ABI_MINOR,
    .describe = describe,
    .create = create,
    .destroy = destroy,
    .query = query,
    .ping = well,
    .shutdown = well,
    .cancel = cancel,
    .on_event = on_event,
};

MP_EXPORT const mp_plugin *milepost_plugin_v1(const mp_host_info *info, int32_t *ret_status) {
    (void)info;
    (void)ret_status;
    return &table;
}
