/* SPDX-License-Identifier: Apache-2.0
 *
 * Probes of loading, of the tables' sizes and of an instance's life, on the bare C table.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "probe.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t cpu_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

#define MOST_LOADING_MS 100

static int load_and_describe(const char *library, uint64_t *ret_spent, char *ret_text,
                             size_t capacity) {
    int descriptors = probe_count("/proc/self/fd"), threads = probe_count("/proc/self/task");
    char folder[512];
    strncpy(folder, library, sizeof folder - 1);
    folder[sizeof folder - 1] = 0;
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = 0;
    int error = mp_watch_install(folder, 1);
    if (error)
        return probe_fail(ret_text, capacity,
                          "system calls cannot be watched on this kernel (error %d)", -error);
    uint64_t began = cpu_now();
    const mp_plugin *plugin = probe_open(library, ret_text, capacity);
    if (!plugin)
        return MP_PROBE_FAILED;
    mp_view manifest = {NULL, 0};
    plugin->describe(&manifest);
    uint64_t spent = *ret_spent = (cpu_now() - began) / 1000000u;
    char calls[1024];
    if (mp_watch_report(calls, sizeof calls) > 0) {
        for (char *at = calls; *at; at++)
            if (*at == '\n')
                *at = at[1] ? ',' : 0;
        return probe_fail(ret_text, capacity, "while it was loaded and described it asked for: %s",
                          calls);
    }
    if (probe_count("/proc/self/task") > threads)
        return probe_fail(ret_text, capacity, "it started a thread while it was loaded");
    if (probe_count("/proc/self/fd") > descriptors)
        return probe_fail(ret_text, capacity, "it left a descriptor open while it was loaded");
    if (!manifest.ptr || manifest.len == 0)
        return probe_fail(ret_text, capacity, "describe gave no bytes");
    if (spent > MOST_LOADING_MS)
        return probe_fail(ret_text, capacity,
                          "loading and describe took %d ms of CPU; %d are permitted", (int)spent,
                          MOST_LOADING_MS);
    return probe_pass(ret_text, capacity, "%d ms of CPU", (int)spent);
}

/* In a fork of one thread: the runtime of the validator itself starts threads and opens descriptors
 * when it likes, and what it did must not be laid at the plugin's door. */
static int in_a_fork(const char *library, uint64_t *ret_spent, char *ret_text, size_t capacity) {
    struct answer {
        int outcome;
        uint64_t spent;
        char text[4096];
    } *answer =
        mmap(NULL, sizeof *answer, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (answer == MAP_FAILED)
        return probe_fail(ret_text, capacity, "no memory to share can be had");
    answer->outcome = MP_PROBE_FAILED;
    strcpy(answer->text, "it ended the process while it was loaded");
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        return probe_fail(ret_text, capacity, "no process can be had (error %d)", errno);
    if (child == 0) {
        char text[sizeof answer->text] = {0};
        int outcome = load_and_describe(library, &answer->spent, text, sizeof text);
        memcpy(answer->text, text, sizeof text);
        answer->outcome = outcome;
        fflush(NULL);
        _exit(0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status)) {
        /* The one who waits for this process shall see how it ended. */
        signal(WTERMSIG(status), SIG_DFL);
        kill(getpid(), WTERMSIG(status));
    }
    int outcome = answer->outcome;
    *ret_spent = answer->spent;
    (outcome == MP_PROBE_PASSED ? probe_pass : probe_fail)(ret_text, capacity, "%s", answer->text);
    munmap(answer, sizeof *answer);
    return outcome;
}

/* A processor that is shared makes the same work cost more of its time (cold caches, a hypervisor's
 * neighbours), never less: the least of five is what the plugin needs. */
int mp_probe_constructors(const char *library, char *ret_text, size_t capacity) {
    int outcome = MP_PROBE_FAILED;
    for (int round = 0; round < 5; round++) {
        uint64_t spent = 0;
        outcome = in_a_fork(library, &spent, ret_text, capacity);
        if (outcome == MP_PROBE_PASSED || spent <= MOST_LOADING_MS)
            break;
    }
    return outcome;
}

int mp_probe_minors(const char *library, char *ret_text, size_t capacity) {
    mp_plugin_entry entry = probe_entry(library, ret_text, capacity);
    int32_t status = 0;
    if (!entry)
        return MP_PROBE_FAILED;
    const mp_plugin *plugin = probe_ask(entry, 1000, &status);
    if (!plugin)
        return probe_fail(ret_text, capacity,
                          "its entry refuses a host that offers ABI 1.1000 with status %d", status);
    uint32_t needed = plugin->min_host_minor;
    if (needed == 0)
        return probe_pass(ret_text, capacity,
                          "accepts ABI 1.1000; needs 1.0, so there is no older host to refuse");
    plugin = probe_ask(entry, needed - 1, &status);
    if (plugin)
        return probe_pass(ret_text, capacity, "leaves it to the host to refuse ABI 1.%u",
                          needed - 1);
    if (status != MP_UNSUPPORTED && status != MP_CONFIG)
        return probe_fail(ret_text, capacity,
                          "its entry refuses ABI 1.%u with status %d in place of MP_UNSUPPORTED",
                          needed - 1, status);
    return probe_pass(ret_text, capacity, "refuses ABI 1.%u with status %d", needed - 1, status);
}

/* A copy of the host table whose last byte is the last of a page that may be read. */
static mp_host *at_the_edge(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *pages =
        mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE) != 0)
        return NULL;
    mp_host *table = (mp_host *)(pages + page - MP_HOST_SIZE_1_0);
    memcpy(table, probe_host(), MP_HOST_SIZE_1_0);
    table->struct_size = MP_HOST_SIZE_1_0;
    table->abi_minor = 0;
    return table;
}

/* Newer than anything known, with functions that nobody can call. */
static mp_host *with_a_tail(void) {
    static union {
        mp_host table;
        uint8_t bytes[sizeof(mp_host) + 256];
    } large;
    memset(large.bytes, 0xa5, sizeof large.bytes);
    memcpy(&large.table, probe_host(), sizeof(mp_host));
    large.table.struct_size = sizeof large.bytes;
    large.table.abi_minor = 1000;
    return &large.table;
}

static int live_once(const mp_plugin *plugin, const mp_host *host, uint64_t instance,
                     const char *config, const char *what, char *ret_text, size_t capacity) {
    void *self = NULL;
    int status = probe_create(plugin, host, instance, config, &self);
    if (status != MP_OK)
        return probe_fail(ret_text, capacity, "%s: create answers with status %d", what, status);
    if (probe_run(plugin->ping, self, MP_VERB_PING, "{}") != 0)
        return probe_fail(ret_text, capacity, "%s: ping was not completed within five seconds",
                          what);
    if (probe_run(plugin->shutdown, self, MP_VERB_SHUTDOWN, "{}") != 0)
        return probe_fail(ret_text, capacity, "%s: shutdown was not completed within five seconds",
                          what);
    plugin->destroy(self);
    return MP_PROBE_PASSED;
}

int mp_probe_tables(const char *library, const char *config, char *ret_text, size_t capacity) {
    const mp_plugin *plugin = probe_open(library, ret_text, capacity);
    mp_host *edge = at_the_edge();
    if (!plugin)
        return MP_PROBE_FAILED;
    if (!edge)
        return probe_fail(ret_text, capacity, "no guarded page can be had");
    if (live_once(plugin, edge, 1, config, "with a host table of the 1.0 size", ret_text,
                  capacity) != 0 ||
        live_once(plugin, with_a_tail(), 2, config, "with a larger host table", ret_text,
                  capacity) != 0)
        return MP_PROBE_FAILED;
    return probe_pass(ret_text, capacity, "works with a host table of %u bytes and of %u",
                      MP_HOST_SIZE_1_0, with_a_tail()->struct_size);
}

int mp_probe_extensions(const char *library, const char *config, char *ret_text, size_t capacity) {
    static const char *const ids[] = {"nobody.knows/1",
                                      "",
                                      "milepost.trace/1x",
                                      "milepost.trace/1/2",
                                      "milepost.check/1 trailing",
                                      "nobody.knows/4294967297"};
    const mp_plugin *plugin = probe_open(library, ret_text, capacity);
    if (!plugin)
        return MP_PROBE_FAILED;
    if (!plugin->get_extension) {
        probe_pass(ret_text, capacity, "its table has no get_extension");
        return MP_PROBE_INAPPLICABLE;
    }
    void *self = NULL;
    if (probe_create(plugin, probe_host(), 1, config, &self) != MP_OK)
        return probe_fail(ret_text, capacity, "create refuses the configuration");
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (plugin->get_extension(self, (mp_view){(const uint8_t *)ids[i], strlen(ids[i])}))
            return probe_fail(ret_text, capacity, "get_extension answers \"%s\" with a table",
                              ids[i]);
    return probe_pass(ret_text, capacity, "%d unknown ids answered with null",
                      (int)(sizeof ids / sizeof *ids));
}

struct asked {
    mp_plugin_entry entry;
    const mp_plugin *answer;
};

static void *ask_again(void *pointer) {
    struct asked *asked = pointer;
    int32_t status = 0;
    for (int i = 0; i < 100; i++)
        asked->answer = probe_ask(asked->entry, MP_ABI_MINOR, &status);
    return NULL;
}

int mp_probe_entry(const char *library, char *ret_text, size_t capacity) {
    mp_plugin_entry entry = probe_entry(library, ret_text, capacity);
    if (!entry)
        return MP_PROBE_FAILED;
    int32_t status = 0;
    const mp_plugin *first = probe_ask(entry, MP_ABI_MINOR, &status);
    if (!first)
        return probe_fail(ret_text, capacity, "its entry refuses ABI 1.%u with status %d",
                          MP_ABI_MINOR, status);
    mp_plugin copy = *first;
    struct asked asked[2] = {{entry, NULL}, {entry, NULL}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, ask_again, &asked[i]) != 0)
            return probe_fail(ret_text, capacity, "no thread can be had");
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    if (!asked[0].answer || !asked[1].answer)
        return probe_fail(ret_text, capacity, "its entry answers null when it is called again");
    if (memcmp(first, &copy, sizeof copy) != 0 || memcmp(asked[0].answer, &copy, sizeof copy) != 0)
        return probe_fail(ret_text, capacity, "its table changes when the entry is called again");
    return probe_pass(ret_text, capacity, "the same table 201 times, on three threads");
}

int mp_probe_lifecycle(const char *library, const char *config, uint32_t rounds, char *ret_text,
                       size_t capacity) {
    /* One arena, so that the heap's figure is what is in use. */
    mallopt(M_ARENA_MAX, 1);
    const mp_plugin *plugin = probe_open(library, ret_text, capacity);
    if (!plugin)
        return MP_PROBE_FAILED;
    uint32_t warm_up = rounds / 2 + 1;
    struct mallinfo2 heap = {0};
    int descriptors = 0, threads = 0;
    for (uint32_t round = 0; round < warm_up + rounds; round++) {
        if (round == warm_up) {
            heap = mallinfo2();
            descriptors = probe_count("/proc/self/fd");
            threads = probe_count("/proc/self/task");
        }
        if (live_once(plugin, probe_host(), round + 1, config, "create and destroy", ret_text,
                      capacity) != 0)
            return MP_PROBE_FAILED;
    }
    struct mallinfo2 after = mallinfo2();
    int64_t grown =
        (int64_t)(after.uordblks + after.hblkhd) - (int64_t)(heap.uordblks + heap.hblkhd);
    int more_descriptors = probe_count("/proc/self/fd") - descriptors;
    int more_threads = probe_count("/proc/self/task") - threads;
    /* 48 bytes an instance: less than the smallest object with something in it. */
    if (grown > (int64_t)rounds * 48)
        return probe_fail(ret_text, capacity, "%u instances left %lld bytes on the heap, %lld each",
                          rounds, (long long)grown, (long long)(grown / rounds));
    if (more_descriptors > 2)
        return probe_fail(ret_text, capacity, "%u instances left %d descriptors open", rounds,
                          more_descriptors);
    if (more_threads > 8)
        return probe_fail(ret_text, capacity, "%u instances left %d threads running", rounds,
                          more_threads);
    return probe_pass(ret_text, capacity,
                      "%u instances: %lld bytes, %d descriptors, %d threads more", rounds,
                      (long long)grown, more_descriptors, more_threads);
}

int mp_probe_afterwards(const char *library, const char *config, char *ret_text, size_t capacity) {
    const mp_plugin *plugin = probe_open(library, ret_text, capacity);
    if (!plugin)
        return MP_PROBE_FAILED;
    uint64_t before = 0;
    int threads = probe_count("/proc/self/task");
    for (uint64_t instance = 1; instance <= 20; instance++) {
        void *self = NULL;
        if (probe_create(plugin, probe_host(), instance, config, &self) != MP_OK)
            return probe_fail(ret_text, capacity, "create refuses the configuration");
        if (probe_run(plugin->shutdown, self, MP_VERB_SHUTDOWN, "{}") != 0)
            return probe_fail(ret_text, capacity,
                              "shutdown right after create was not completed in five seconds");
        plugin->destroy(self);
        before += probe_calls(instance);
    }
    /* Long enough for a timer or a thread that was forgotten, short beside the cap; a thread that is
     * still there gets some time more, because a busy machine may not have let it run. */
    usleep(700000);
    for (int round = 0; round < 20 && probe_count("/proc/self/task") > threads; round++)
        usleep(100000);
    uint64_t after = 0;
    for (uint64_t instance = 1; instance <= 20; instance++)
        after += probe_calls(instance);
    if (after > before)
        return probe_fail(ret_text, capacity,
                          "it called the host %llu times after destroy had returned",
                          (unsigned long long)(after - before));
    return probe_pass(ret_text, capacity, "silent after destroy");
}
