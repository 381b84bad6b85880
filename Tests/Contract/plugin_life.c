/* SPDX-License-Identifier: Apache-2.0
 *
 * A host of a hundred lines: loads a plugin, makes and ends instances, and says what is left over.
 * plugin_life PLUGIN.so ROUNDS; prints one JSON object. Compiled and judged by plugin_life_test.py.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <milepost/plugin.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint64_t completed;      /* operations, all of them */
static int32_t last_status;
static uint64_t refused;        /* requests that this host did not take */

static int32_t op_complete(uint64_t instance, uint64_t op, int32_t status, mp_view result) {
    (void)instance, (void)op, (void)result;
    pthread_mutex_lock(&lock);
    completed++;
    last_status = status;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return MP_CALL_OK;
}

static int32_t http_submit(uint64_t instance, const mp_http_request *request) {
    (void)instance, (void)request;
    pthread_mutex_lock(&lock);
    refused++;
    pthread_mutex_unlock(&lock);
    return MP_CALL_DENIED;
}

static int32_t now(uint64_t instance, mp_time *ret_time) {
    (void)instance;
    struct timespec clock;
    clock_gettime(CLOCK_MONOTONIC, &clock);
    ret_time->wall_ns = ret_time->monotonic_ns = (uint64_t)clock.tv_sec * 1000000000u + (uint64_t)clock.tv_nsec;
    return MP_CALL_OK;
}

/** Runs one operation to its end. Exits when it is not completed within ten seconds. */
static int32_t run(int32_t (*verb)(void *, const mp_op *), void *self, int32_t number, const char *body) {
    static uint64_t next = 1;
    mp_time time = {sizeof time, 0, 0, 0};
    now(0, &time);
    mp_op op = {sizeof op, number, next++, time.monotonic_ns + 20000000u, 1, 0,
                {(const uint8_t *)body, strlen(body)}};
    pthread_mutex_lock(&lock);
    uint64_t before = completed;
    pthread_mutex_unlock(&lock);
    int32_t accepted = verb(self, &op);
    if (accepted != MP_OK) return accepted;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&lock);
    while (completed == before)
        if (pthread_cond_timedwait(&changed, &lock, &until) != 0) {
            fprintf(stderr, "verb %d was not completed\n", number);
            exit(2);
        }
    int32_t status = last_status;
    pthread_mutex_unlock(&lock);
    return status;
}

static long entries(const char *path) {
    DIR *folder = opendir(path);
    long count = 0;
    while (folder && readdir(folder)) count++;
    if (folder) closedir(folder);
    return count;
}

static long resident_kb(void) {
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &size, &resident) != 2) exit(3);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void measure(const char *name) {
    usleep(100 * 1000); /* tasks that have completed their operation still put their things away */
    printf("\"%s\":{\"threads\":%ld,\"descriptors\":%ld,\"heap\":%zu,\"resident_kb\":%ld},", name,
           entries("/proc/self/task"), entries("/proc/self/fd"), mallinfo2().uordblks, resident_kb());
}

int main(int count, char **arguments) {
    if (count != 3) return 64;
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    mp_plugin_entry entry = NULL;
    *(void **)&entry = dlsym(library, MP_ENTRY_NAME);
    static const uint8_t version[] = "0";
    mp_host_info info = {sizeof info, MP_ABI_MINOR, MP_ISOLATION_INLINE, MP_SCHEMA_REVISION, {version, 1}};
    int32_t status = MP_OK;
    const mp_plugin *plugin = entry ? entry(&info, &status) : NULL;
    if (!plugin) return 1;
    static mp_host host = {.struct_size = sizeof host, .abi_minor = MP_ABI_MINOR, .op_complete = op_complete,
                           .http_submit = http_submit, .now = now};
    const char *config = "{\"plugin\":\"x\",\"connection\":\"con_1\",\"workspace\":\"acme\",\"settings\":{},"
                         "\"endpoints\":{\"api\":\"http://127.0.0.1:9\"},\"credentials\":[]}";
    int rounds = atoi(arguments[2]);
    printf("{");
    for (int round = 1; round <= rounds; round++) {
        void *self = NULL;
        mp_view view = {(const uint8_t *)config, strlen(config)};
        if (plugin->create(&host, (uint64_t)round, view, &self) != MP_OK) return 4;
        /* Each verb's own end does not matter here, only that it ends: the host takes no request. */
        if (plugin->connect) run(plugin->connect, self, MP_VERB_CONNECT, "{\"settings\":{}}");
        if (plugin->configure) run(plugin->configure, self, MP_VERB_CONFIGURE, "{\"settings\":{\"x\":[1,2,3]}}");
        if (run(plugin->ping, self, MP_VERB_PING, "{}") != MP_OK) return 5;
        if (run(plugin->shutdown, self, MP_VERB_SHUTDOWN, "{}") != MP_OK) return 6;
        plugin->destroy(self);
        if (round == rounds / 5) measure("warm");
    }
    measure("end");
    printf("\"completed\":%llu,\"refused\":%llu}\n", (unsigned long long)completed, (unsigned long long)refused);
    return 0;
}
