/* SPDX-License-Identifier: Apache-2.0
 *
 * What a plugin reads from its instance without asking the daemon: public facts of credentials, and
 * large bodies.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "instance.h"

#include <stdlib.h>
#include <string.h>

void instance_store_facts(struct instance *instance, mp_view name, mp_view json) {
    struct facts *entry = malloc(sizeof *entry + name.len + json.len);
    if (!entry)
        return;
    entry->name_len = name.len;
    entry->json_len = json.len;
    if (name.len > 0)
        memcpy(entry->bytes, name.ptr, name.len);
    if (json.len > 0)
        memcpy(entry->bytes + name.len, json.ptr, json.len);
    pthread_mutex_lock(&instance->lock);
    struct facts *old = NULL;
    for (struct facts **link = &instance->facts; *link; link = &(*link)->next) {
        if ((*link)->name_len != name.len || memcmp((*link)->bytes, name.ptr, name.len) != 0)
            continue;
        old = *link;
        *link = old->next;
        break;
    }
    entry->next = instance->facts;
    instance->facts = entry;
    pthread_mutex_unlock(&instance->lock);
    free(old);
}

void instance_credential(uint64_t id, struct payload *payload) {
    struct instance *instance = instance_acquire(id);
    if (instance) {
        if (payload->view_count > 1 && payload->views[0].ptr)
            instance_store_facts(instance, payload->views[0], payload->views[1]);
        instance_release(instance);
    }
    free(payload->bytes);
}

int32_t instance_credential_facts(uint64_t id, mp_view name, uint8_t *ret_json, uint64_t capacity,
                                  uint64_t *ret_len) {
    struct instance *instance = instance_acquire(id);
    if (!instance)
        return MP_CALL_STALE;
    int32_t result = MP_CALL_NOT_FOUND;
    pthread_mutex_lock(&instance->lock);
    for (struct facts *entry = instance->facts; entry; entry = entry->next) {
        if (entry->name_len != name.len ||
            (name.len > 0 && memcmp(entry->bytes, name.ptr, name.len) != 0))
            continue;
        uint64_t count = entry->json_len < capacity ? entry->json_len : capacity;
        if (ret_json && count > 0)
            memcpy(ret_json, entry->bytes + entry->name_len, count);
        if (ret_len)
            *ret_len = entry->json_len;
        result = MP_CALL_OK;
        break;
    }
    pthread_mutex_unlock(&instance->lock);
    instance_release(instance);
    return result;
}

int32_t instance_blob_read(uint64_t id, uint64_t blob_id, uint64_t offset, uint8_t *ret_bytes,
                           uint64_t capacity, uint64_t *ret_len) {
    struct instance *instance = instance_acquire(id);
    if (!instance)
        return MP_CALL_STALE;
    int32_t result = MP_CALL_STALE;
    pthread_mutex_lock(&instance->lock);
    for (struct blob *blob = instance->blobs; blob; blob = blob->next) {
        if (blob->id != blob_id)
            continue;
        uint64_t left = offset < blob->view.len ? blob->view.len - offset : 0;
        uint64_t count = left < capacity ? left : capacity;
        if (ret_bytes && count > 0)
            memcpy(ret_bytes, blob->view.ptr + offset, count);
        if (ret_len)
            *ret_len = count;
        result = MP_CALL_OK;
        break;
    }
    pthread_mutex_unlock(&instance->lock);
    instance_release(instance);
    return result;
}
