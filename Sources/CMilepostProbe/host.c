/* SPDX-License-Identifier: Apache-2.0
 *
 * A host of the least size: it completes nothing by itself, denies every request, and counts.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "probe.h"

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define INSTANCES 8192

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint64_t completed; /* the last operation that ended */
static uint64_t calls[INSTANCES];
static uint64_t next_operation = 1;
static uint64_t seed = 0x9e3779b97f4a7c15u;

static void prepare(void) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attributes);
}

uint64_t probe_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int32_t called(uint64_t instance, int32_t answer) {
    pthread_mutex_lock(&lock);
    calls[instance % INSTANCES]++;
    pthread_mutex_unlock(&lock);
    return answer;
}

uint64_t probe_calls(uint64_t instance) {
    pthread_mutex_lock(&lock);
    uint64_t count = calls[instance % INSTANCES];
    pthread_mutex_unlock(&lock);
    return count;
}

static int32_t op_complete(uint64_t instance, uint64_t op, int32_t status, mp_view result) {
    (void)status;
    (void)result;
    called(instance, 0);
    pthread_mutex_lock(&lock);
    if (op > completed)
        completed = op;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return MP_CALL_OK;
}
static int32_t op_partial(uint64_t instance, uint64_t op, mp_view result) {
    (void)op;
    (void)result;
    return called(instance, MP_CALL_OK);
}
static int32_t http_submit(uint64_t instance, const mp_http_request *request) {
    (void)request;
    return called(instance, MP_CALL_DENIED);
}
static int32_t http_cancel(uint64_t instance, uint64_t token) {
    (void)token;
    return called(instance, MP_CALL_STALE);
}
static int32_t journal_put(uint64_t instance, uint64_t op, uint64_t token, uint32_t record,
                           mp_view step, mp_view result) {
    (void)op;
    (void)token;
    (void)record;
    (void)step;
    (void)result;
    return called(instance, MP_CALL_UNSUPPORTED);
}
static int32_t log_enabled(uint64_t instance, int32_t level) {
    return called(instance, level >= MP_LOG_INFO);
}
static void log_line(uint64_t instance, uint64_t op, int32_t level, mp_view message,
                     mp_view fields) {
    (void)op;
    (void)level;
    (void)message;
    (void)fields;
    called(instance, 0);
}
static int32_t metric(uint64_t instance, uint32_t number, int64_t value, const uint32_t *labels,
                      uint64_t count) {
    (void)number;
    (void)value;
    (void)labels;
    (void)count;
    return called(instance, MP_CALL_OK);
}
static int32_t kv_get(uint64_t instance, uint64_t token, mp_view key) {
    (void)token;
    (void)key;
    return called(instance, MP_CALL_UNSUPPORTED);
}
static int32_t kv_put(uint64_t instance, uint64_t token, mp_view key, mp_view value,
                      uint64_t version, uint64_t ttl) {
    (void)token;
    (void)key;
    (void)value;
    (void)version;
    (void)ttl;
    return called(instance, MP_CALL_UNSUPPORTED);
}
static int32_t kv_delete(uint64_t instance, uint64_t token, mp_view key, uint64_t version) {
    (void)token;
    (void)key;
    (void)version;
    return called(instance, MP_CALL_UNSUPPORTED);
}
static int32_t now(uint64_t instance, mp_time *ret_time) {
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    mp_time time = {.struct_size = sizeof time,
                    .wall_ns = (uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec,
                    .monotonic_ns = probe_now()};
    uint32_t size = ret_time->struct_size;
    memcpy(ret_time, &time, size < sizeof time ? size : sizeof time);
    ret_time->struct_size = size;
    return called(instance, MP_CALL_OK);
}
static int32_t timer_set(uint64_t instance, uint64_t token, uint64_t delay) {
    (void)token;
    (void)delay;
    return called(instance, MP_CALL_UNSUPPORTED);
}
static int32_t timer_clear(uint64_t instance, uint64_t token) {
    (void)token;
    return called(instance, MP_CALL_STALE);
}
static int32_t random_bytes(uint64_t instance, uint8_t *ret_bytes, uint64_t len) {
    called(instance, 0);
    for (uint64_t i = 0; i < len; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        ret_bytes[i] = (uint8_t)(seed >> 56);
    }
    return MP_CALL_OK;
}
static int32_t cred_info(uint64_t instance, mp_view credential, uint8_t *ret_json,
                         uint64_t capacity, uint64_t *ret_len) {
    (void)credential;
    if (capacity >= 2)
        memcpy(ret_json, "{}", 2);
    *ret_len = 2;
    return called(instance, MP_CALL_OK);
}
static int32_t cred_reject(uint64_t instance, uint64_t op, mp_view credential, mp_view reason) {
    (void)op;
    (void)credential;
    (void)reason;
    return called(instance, MP_CALL_OK);
}
static int32_t sign(uint64_t instance, uint64_t token, mp_view credential, mp_view scheme,
                    mp_view bytes) {
    (void)token;
    (void)credential;
    (void)scheme;
    (void)bytes;
    return called(instance, MP_CALL_UNSUPPORTED);
}
static int32_t blob_read(uint64_t instance, uint64_t blob, uint64_t offset, uint8_t *ret_bytes,
                         uint64_t capacity, uint64_t *ret_len) {
    (void)blob;
    (void)offset;
    (void)ret_bytes;
    (void)capacity;
    *ret_len = 0;
    return called(instance, MP_CALL_STALE);
}
static const void *get_extension(uint64_t instance, mp_view id) {
    (void)id;
    called(instance, 0);
    return NULL;
}

const mp_host *probe_host(void) {
    static const mp_host table = {
        .struct_size = sizeof table,
        .abi_minor = MP_ABI_MINOR,
        .op_complete = op_complete,
        .op_partial = op_partial,
        .http_submit = http_submit,
        .http_cancel = http_cancel,
        .journal_put = journal_put,
        .log_enabled = log_enabled,
        .log = log_line,
        .metric_add = metric,
        .metric_observe = metric,
        .kv_get = kv_get,
        .kv_put = kv_put,
        .kv_delete = kv_delete,
        .kv_list = kv_get,
        .now = now,
        .timer_set = timer_set,
        .timer_clear = timer_clear,
        .random = random_bytes,
        .cred_info = cred_info,
        .cred_reject = cred_reject,
        .sign = sign,
        .blob_read = blob_read,
        .get_extension = get_extension,
    };
    return &table;
}

mp_plugin_entry probe_entry(const char *library, char *ret_text, size_t capacity) {
    pthread_once(&once, prepare);
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) {
        probe_fail(ret_text, capacity, "it cannot be loaded: %s", dlerror());
        return NULL;
    }
    mp_plugin_entry entry = NULL;
    void *symbol = dlsym(handle, MP_ENTRY_NAME);
    memcpy(&entry, &symbol, sizeof entry);
    if (!entry)
        probe_fail(ret_text, capacity, "it does not export " MP_ENTRY_NAME);
    return entry;
}

const mp_plugin *probe_ask(mp_plugin_entry entry, uint32_t abi_minor, int32_t *ret_status) {
    mp_host_info info = {.struct_size = sizeof info,
                         .abi_minor = abi_minor,
                         .isolation = MP_ISOLATION_VALIDATOR,
                         .schema_revision = MP_SCHEMA_REVISION,
                         .host_version = {(const uint8_t *)"check", 5}};
    *ret_status = -1;
    return entry(&info, ret_status);
}

const mp_plugin *probe_open(const char *library, char *ret_text, size_t capacity) {
    mp_plugin_entry entry = probe_entry(library, ret_text, capacity);
    int32_t status = 0;
    const mp_plugin *plugin = entry ? probe_ask(entry, MP_ABI_MINOR, &status) : NULL;
    if (entry && !plugin)
        probe_fail(ret_text, capacity, "its entry refuses ABI 1.%u with status %d", MP_ABI_MINOR,
                   status);
    if (plugin &&
        (plugin->struct_size < MP_PLUGIN_SIZE_1_0 || !plugin->create || !plugin->destroy ||
         !plugin->ping || !plugin->shutdown || !plugin->describe || !plugin->on_event)) {
        probe_fail(ret_text, capacity, "its table has %u bytes or lacks a required function",
                   plugin->struct_size);
        return NULL;
    }
    return plugin;
}

int probe_create(const mp_plugin *plugin, const mp_host *host, uint64_t instance,
                 const char *config, void **ret_self) {
    *ret_self = NULL;
    return plugin->create(host, instance, (mp_view){(const uint8_t *)config, strlen(config)},
                          ret_self);
}

int probe_run(int32_t (*verb)(void *, const mp_op *), void *self, int32_t number,
              const char *body) {
    pthread_mutex_lock(&lock);
    uint64_t id = next_operation++;
    pthread_mutex_unlock(&lock);
    mp_op op = {.struct_size = sizeof op,
                .verb = number,
                .id = id,
                .deadline_ns = probe_now() + 5000000000u,
                .attempt = 1,
                .body = {(const uint8_t *)body, strlen(body)}};
    if (verb(self, &op) != MP_OK)
        return 0;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 5;
    int error = 0;
    pthread_mutex_lock(&lock);
    while (completed < id && !error)
        error = pthread_cond_timedwait(&changed, &lock, &until);
    int is_there = completed >= id;
    pthread_mutex_unlock(&lock);
    return is_there ? 0 : -1;
}

static int say(int answer, char *ret_text, size_t capacity, const char *format, va_list arguments) {
    vsnprintf(ret_text, capacity, format, arguments);
    return answer;
}

int probe_fail(char *ret_text, size_t capacity, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(0, ret_text, capacity, format, arguments);
    va_end(arguments);
    return MP_PROBE_FAILED;
}

int probe_pass(char *ret_text, size_t capacity, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(0, ret_text, capacity, format, arguments);
    va_end(arguments);
    return MP_PROBE_PASSED;
}

int probe_count(const char *folder) {
    DIR *stream = opendir(folder);
    if (!stream)
        return -1;
    int count = 0;
    while (readdir(stream))
        count++;
    closedir(stream);
    return count;
}
