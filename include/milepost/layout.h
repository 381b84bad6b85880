/* SPDX-License-Identifier: Apache-2.0
 *
 * milepost/layout.h: the frozen layout of ABI 1.0 on 64-bit machines, the same on amd64 and arm64. Compiled in the test suite
 * by gcc, and by clang for both machines, as C11 and as C++17; a failing assert is a broken ABI, not a test to adapt.
 */
#ifndef MILEPOST_LAYOUT_H
#define MILEPOST_LAYOUT_H

#include "plugin.h"
#include <stddef.h>

#ifdef __cplusplus
#define MP_LAYOUT(condition) static_assert(condition, #condition)
#else
#define MP_LAYOUT(condition) _Static_assert(condition, #condition)
#endif

MP_LAYOUT(sizeof(mp_view) == 16);
MP_LAYOUT(offsetof(mp_view, len) == 8);
MP_LAYOUT(sizeof(mp_pair) == 32);
MP_LAYOUT(offsetof(mp_pair, value) == 16);
MP_LAYOUT(sizeof(mp_time) == 24);
MP_LAYOUT(offsetof(mp_time, wall_ns) == 8);
MP_LAYOUT(offsetof(mp_time, monotonic_ns) == 16);
MP_LAYOUT(sizeof(mp_op) == 48);
MP_LAYOUT(offsetof(mp_op, verb) == 4);
MP_LAYOUT(offsetof(mp_op, id) == 8);
MP_LAYOUT(offsetof(mp_op, deadline_ns) == 16);
MP_LAYOUT(offsetof(mp_op, attempt) == 24);
MP_LAYOUT(offsetof(mp_op, flags) == 28);
MP_LAYOUT(offsetof(mp_op, body) == 32);
MP_LAYOUT(sizeof(mp_http_request) == 184);
MP_LAYOUT(offsetof(mp_http_request, flags) == 4);
MP_LAYOUT(offsetof(mp_http_request, op) == 8);
MP_LAYOUT(offsetof(mp_http_request, token) == 16);
MP_LAYOUT(offsetof(mp_http_request, method) == 24);
MP_LAYOUT(offsetof(mp_http_request, url) == 40);
MP_LAYOUT(offsetof(mp_http_request, headers) == 56);
MP_LAYOUT(offsetof(mp_http_request, header_count) == 64);
MP_LAYOUT(offsetof(mp_http_request, body) == 72);
MP_LAYOUT(offsetof(mp_http_request, credential) == 88);
MP_LAYOUT(offsetof(mp_http_request, placement) == 104);
MP_LAYOUT(offsetof(mp_http_request, step) == 120);
MP_LAYOUT(offsetof(mp_http_request, records) == 136);
MP_LAYOUT(offsetof(mp_http_request, record_count) == 144);
MP_LAYOUT(offsetof(mp_http_request, response_cap) == 152);
MP_LAYOUT(offsetof(mp_http_request, timeout_ms) == 160);
MP_LAYOUT(offsetof(mp_http_request, cost) == 164);
MP_LAYOUT(offsetof(mp_http_request, bucket) == 168);
MP_LAYOUT(sizeof(mp_event) == 88);
MP_LAYOUT(offsetof(mp_event, kind) == 4);
MP_LAYOUT(offsetof(mp_event, token) == 8);
MP_LAYOUT(offsetof(mp_event, op) == 16);
MP_LAYOUT(offsetof(mp_event, status) == 24);
MP_LAYOUT(offsetof(mp_event, wire) == 28);
MP_LAYOUT(offsetof(mp_event, http_status) == 32);
MP_LAYOUT(offsetof(mp_event, json) == 40);
MP_LAYOUT(offsetof(mp_event, data) == 56);
MP_LAYOUT(offsetof(mp_event, blob) == 72);
MP_LAYOUT(offsetof(mp_event, blob_len) == 80);
MP_LAYOUT(sizeof(mp_host_info) == 32);
MP_LAYOUT(offsetof(mp_host_info, abi_minor) == 4);
MP_LAYOUT(offsetof(mp_host_info, isolation) == 8);
MP_LAYOUT(offsetof(mp_host_info, schema_revision) == 12);
MP_LAYOUT(offsetof(mp_host_info, host_version) == 16);
MP_LAYOUT(sizeof(mp_host) == 184);
MP_LAYOUT(offsetof(mp_host, op_complete) == 8);
MP_LAYOUT(offsetof(mp_host, op_partial) == 16);
MP_LAYOUT(offsetof(mp_host, http_submit) == 24);
MP_LAYOUT(offsetof(mp_host, http_cancel) == 32);
MP_LAYOUT(offsetof(mp_host, journal_put) == 40);
MP_LAYOUT(offsetof(mp_host, log_enabled) == 48);
MP_LAYOUT(offsetof(mp_host, log) == 56);
MP_LAYOUT(offsetof(mp_host, metric_add) == 64);
MP_LAYOUT(offsetof(mp_host, metric_observe) == 72);
MP_LAYOUT(offsetof(mp_host, kv_get) == 80);
MP_LAYOUT(offsetof(mp_host, kv_put) == 88);
MP_LAYOUT(offsetof(mp_host, kv_delete) == 96);
MP_LAYOUT(offsetof(mp_host, kv_list) == 104);
MP_LAYOUT(offsetof(mp_host, now) == 112);
MP_LAYOUT(offsetof(mp_host, timer_set) == 120);
MP_LAYOUT(offsetof(mp_host, timer_clear) == 128);
MP_LAYOUT(offsetof(mp_host, random) == 136);
MP_LAYOUT(offsetof(mp_host, cred_info) == 144);
MP_LAYOUT(offsetof(mp_host, cred_reject) == 152);
MP_LAYOUT(offsetof(mp_host, sign) == 160);
MP_LAYOUT(offsetof(mp_host, blob_read) == 168);
MP_LAYOUT(offsetof(mp_host, get_extension) == 176);
MP_LAYOUT(sizeof(mp_plugin) == 176);
MP_LAYOUT(offsetof(mp_plugin, abi_minor) == 4);
MP_LAYOUT(offsetof(mp_plugin, min_host_minor) == 8);
MP_LAYOUT(offsetof(mp_plugin, describe) == 16);
MP_LAYOUT(offsetof(mp_plugin, create) == 24);
MP_LAYOUT(offsetof(mp_plugin, destroy) == 32);
MP_LAYOUT(offsetof(mp_plugin, configure) == 40);
MP_LAYOUT(offsetof(mp_plugin, connect) == 48);
MP_LAYOUT(offsetof(mp_plugin, provision) == 56);
MP_LAYOUT(offsetof(mp_plugin, deprovision) == 64);
MP_LAYOUT(offsetof(mp_plugin, query) == 72);
MP_LAYOUT(offsetof(mp_plugin, options) == 80);
MP_LAYOUT(offsetof(mp_plugin, catalog) == 88);
MP_LAYOUT(offsetof(mp_plugin, deliver) == 96);
MP_LAYOUT(offsetof(mp_plugin, reconcile) == 104);
MP_LAYOUT(offsetof(mp_plugin, intercept) == 112);
MP_LAYOUT(offsetof(mp_plugin, webhook) == 120);
MP_LAYOUT(offsetof(mp_plugin, pull) == 128);
MP_LAYOUT(offsetof(mp_plugin, ping) == 136);
MP_LAYOUT(offsetof(mp_plugin, shutdown) == 144);
MP_LAYOUT(offsetof(mp_plugin, cancel) == 152);
MP_LAYOUT(offsetof(mp_plugin, on_event) == 160);
MP_LAYOUT(offsetof(mp_plugin, get_extension) == 168);
MP_LAYOUT(sizeof(mp_plugin) == MP_PLUGIN_SIZE_1_0);
MP_LAYOUT(sizeof(mp_host) == MP_HOST_SIZE_1_0);

#undef MP_LAYOUT
#endif
