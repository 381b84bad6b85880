/* SPDX-License-Identifier: Apache-2.0
 *
 * The host table as a plugin in a worker sees it: what can be answered here is, the rest becomes a
 * frame. The daemon checks everything again; these checks only give the plugin its answer at once.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "worker.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define HEADERS_MAX 64u
#define RECORDS_MAX 10000u
#define LABELS_MAX 16u

static _Atomic uint64_t kept_level = MP_LOG_INFO;

void host_table_set_log_level(uint64_t level) {
    atomic_store(&kept_level, level);
}

uint64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int32_t op_complete(uint64_t instance, uint64_t op, int32_t status, mp_view result) {
    int live = instance_finish(instance, op);
    uint64_t scalar = (uint64_t)(int64_t)status;
    /* A second completion goes to the daemon too, which writes it down. */
    int32_t sent = outbox_send(MILEPOST_FRAME_COMPLETE, op, instance, &scalar, 1, &result, 1);
    if (sent == MP_CALL_TOO_LARGE && live) {
        scalar = MP_PLUGIN_BUG;
        mp_view nothing = {NULL, 0};
        (void)outbox_send(MILEPOST_FRAME_COMPLETE, op, instance, &scalar, 1, &nothing, 1);
    }
    return live ? sent : MP_CALL_STALE;
}

static int32_t op_partial(uint64_t instance, uint64_t op, mp_view result) {
    if (!instance_is_live(instance, op))
        return MP_CALL_STALE;
    return outbox_send(MILEPOST_FRAME_PARTIAL, op, instance, NULL, 0, &result, 1);
}

static int32_t http_submit(uint64_t instance, const mp_http_request *given) {
    if (!given || given->struct_size < 8)
        return MP_CALL_INVALID;
    mp_http_request request;
    memset(&request, 0, sizeof request);
    memcpy(&request, given,
           given->struct_size < sizeof request ? given->struct_size : sizeof request);
    if (request.header_count > HEADERS_MAX || request.record_count > RECORDS_MAX)
        return MP_CALL_TOO_LARGE;
    if ((request.header_count > 0 && !request.headers) ||
        (request.record_count > 0 && !request.records))
        return MP_CALL_INVALID;
    if (!(request.flags & MP_HTTP_IDEMPOTENT) && request.step.len == 0)
        return MP_CALL_INVALID;
    if (!instance_is_live(instance, request.op))
        return MP_CALL_STALE;

    uint64_t few[64];
    uint32_t scalar_count = 5 + (uint32_t)request.record_count;
    uint64_t *scalars = scalar_count <= 64 ? few : malloc(8 * (size_t)scalar_count);
    if (!scalars)
        return MP_CALL_BUSY;
    scalars[0] = request.token;
    scalars[1] = request.flags;
    scalars[2] = request.response_cap;
    scalars[3] = request.timeout_ms;
    scalars[4] = request.cost;
    for (uint64_t i = 0; i < request.record_count; i++)
        scalars[5 + i] = request.records[i];
    mp_view views[7 + 2 * HEADERS_MAX] = {request.method,     request.url,       request.body,
                                          request.credential, request.placement, request.step,
                                          request.bucket};
    for (uint64_t i = 0; i < request.header_count; i++) {
        views[7 + 2 * i] = request.headers[i].name;
        views[8 + 2 * i] = request.headers[i].value;
    }
    int32_t result = outbox_send(MILEPOST_FRAME_HTTP, request.op, instance, scalars, scalar_count,
                                 views, 7 + 2 * (uint32_t)request.header_count);
    if (scalars != few)
        free(scalars);
    return result;
}

static int32_t send_live(uint16_t type, uint64_t instance, uint64_t op, const uint64_t *scalars,
                         uint32_t scalar_count, const mp_view *views, uint32_t view_count) {
    if (!instance_is_live(instance, op))
        return MP_CALL_STALE;
    return outbox_send(type, op, instance, scalars, scalar_count, views, view_count);
}

static int32_t http_cancel(uint64_t instance, uint64_t token) {
    return send_live(MILEPOST_FRAME_HTTP_CANCEL, instance, 0, &token, 1, NULL, 0);
}

static int32_t journal_put(uint64_t instance, uint64_t op, uint64_t token, uint32_t record,
                           mp_view step, mp_view result) {
    uint64_t scalars[] = {token, record};
    mp_view views[] = {step, result};
    if (step.len == 0)
        return MP_CALL_INVALID;
    return send_live(MILEPOST_FRAME_JOURNAL, instance, op, scalars, 2, views, 2);
}

static int32_t log_enabled(uint64_t instance, int32_t level) {
    (void)instance;
    return level >= 0 && (uint64_t)level >= atomic_load(&kept_level);
}

static void log_line(uint64_t instance, uint64_t op, int32_t level, mp_view message,
                     mp_view fields) {
    if (!log_enabled(instance, level))
        return;
    uint64_t scalar = (uint64_t)level;
    mp_view views[] = {message, fields};
    (void)outbox_send(MILEPOST_FRAME_LOG, op, instance, &scalar, 1, views, 2);
}

static int32_t metric(uint16_t type, uint64_t instance, uint32_t index, int64_t value,
                      const uint32_t *labels, uint64_t count) {
    if (count > LABELS_MAX)
        return MP_CALL_TOO_LARGE;
    if (count > 0 && !labels)
        return MP_CALL_INVALID;
    uint64_t scalars[2 + LABELS_MAX] = {index, (uint64_t)value};
    for (uint64_t i = 0; i < count; i++)
        scalars[2 + i] = labels[i];
    return send_live(type, instance, 0, scalars, 2 + (uint32_t)count, NULL, 0);
}

static int32_t metric_add(uint64_t instance, uint32_t index, int64_t value, const uint32_t *labels,
                          uint64_t count) {
    return metric(MILEPOST_FRAME_METRIC_ADD, instance, index, value, labels, count);
}

static int32_t metric_observe(uint64_t instance, uint32_t index, int64_t value,
                              const uint32_t *labels, uint64_t count) {
    return metric(MILEPOST_FRAME_METRIC_OBSERVE, instance, index, value, labels, count);
}

static int32_t kv_get(uint64_t instance, uint64_t token, mp_view key) {
    return send_live(MILEPOST_FRAME_KV_GET, instance, 0, &token, 1, &key, 1);
}

static int32_t kv_put(uint64_t instance, uint64_t token, mp_view key, mp_view value,
                      uint64_t version, uint64_t ttl_ms) {
    uint64_t scalars[] = {token, version, ttl_ms};
    mp_view views[] = {key, value};
    return send_live(MILEPOST_FRAME_KV_PUT, instance, 0, scalars, 3, views, 2);
}

static int32_t kv_delete(uint64_t instance, uint64_t token, mp_view key, uint64_t version) {
    uint64_t scalars[] = {token, version};
    return send_live(MILEPOST_FRAME_KV_DELETE, instance, 0, scalars, 2, &key, 1);
}

static int32_t kv_list(uint64_t instance, uint64_t token, mp_view prefix) {
    return send_live(MILEPOST_FRAME_KV_LIST, instance, 0, &token, 1, &prefix, 1);
}

static int32_t now(uint64_t instance, mp_time *ret_time) {
    (void)instance;
    if (!ret_time || ret_time->struct_size < 8)
        return MP_CALL_INVALID;
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    mp_time time = {
        .struct_size = ret_time->struct_size,
        .wall_ns = (uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec,
        .monotonic_ns = monotonic_ns(),
    };
    memcpy(ret_time, &time, time.struct_size < sizeof time ? time.struct_size : sizeof time);
    return MP_CALL_OK;
}

static int32_t timer_set(uint64_t instance, uint64_t token, uint64_t delay_ms) {
    uint64_t scalars[] = {token, delay_ms};
    return send_live(MILEPOST_FRAME_TIMER_SET, instance, 0, scalars, 2, NULL, 0);
}

static int32_t timer_clear(uint64_t instance, uint64_t token) {
    return send_live(MILEPOST_FRAME_TIMER_CLEAR, instance, 0, &token, 1, NULL, 0);
}

static int32_t fill_random(uint64_t instance, uint8_t *ret_bytes, uint64_t len) {
    (void)instance;
    if (len > 0 && !ret_bytes)
        return MP_CALL_INVALID;
    while (len > 0) {
        ssize_t got = getrandom(ret_bytes, len, 0);
        if (got < 0 && errno != EINTR)
            return MP_CALL_UNSUPPORTED;
        if (got <= 0)
            continue;
        ret_bytes += got;
        len -= (uint64_t)got;
    }
    return MP_CALL_OK;
}

static int32_t cred_info(uint64_t instance, mp_view credential, uint8_t *ret_json,
                         uint64_t capacity, uint64_t *ret_len) {
    return instance_credential_facts(instance, credential, ret_json, capacity, ret_len);
}

static int32_t cred_reject(uint64_t instance, uint64_t op, mp_view credential, mp_view reason) {
    mp_view views[] = {credential, reason};
    return send_live(MILEPOST_FRAME_CREDENTIAL_REJECTED, instance, op, NULL, 0, views, 2);
}

static int32_t sign(uint64_t instance, uint64_t token, mp_view credential, mp_view scheme,
                    mp_view bytes) {
    mp_view views[] = {credential, scheme, bytes};
    return send_live(MILEPOST_FRAME_SIGN, instance, 0, &token, 1, views, 3);
}

static const void *get_extension(uint64_t instance, mp_view id) {
    (void)instance;
    (void)id;
    return NULL;
}

const mp_host worker_host_table = {
    .struct_size = sizeof(mp_host),
    .abi_minor = MP_ABI_MINOR,
    .op_complete = op_complete,
    .op_partial = op_partial,
    .http_submit = http_submit,
    .http_cancel = http_cancel,
    .journal_put = journal_put,
    .log_enabled = log_enabled,
    .log = log_line,
    .metric_add = metric_add,
    .metric_observe = metric_observe,
    .kv_get = kv_get,
    .kv_put = kv_put,
    .kv_delete = kv_delete,
    .kv_list = kv_list,
    .now = now,
    .timer_set = timer_set,
    .timer_clear = timer_clear,
    .random = fill_random,
    .cred_info = cred_info,
    .cred_reject = cred_reject,
    .sign = sign,
    .blob_read = instance_blob_read,
    .get_extension = get_extension,
};
