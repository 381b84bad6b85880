/* SPDX-License-Identifier: Apache-2.0
 *
 * Instances: a thread and a queue each, so that calls into one never overlap and a wedged one holds
 * up no other.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "instance.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 256u

enum job_kind { JOB_CREATE, JOB_OPERATION, JOB_CANCEL, JOB_EVENT, JOB_DESTROY };

struct job {
    struct job *next;
    enum job_kind kind;
    uint64_t op;
    struct payload *payload; /**< owned, may be null */
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct instance *table[BUCKETS];
static const mp_plugin *plugin;
static const mp_host *host;
static _Atomic uint64_t next_blob = 1;

void instances_start(const mp_plugin *the_plugin, const mp_host *the_host) {
    plugin = the_plugin;
    host = the_host;
}

static void payload_free(struct payload *payload) {
    if (!payload)
        return;
    free(payload->bytes);
    free(payload);
}

void instance_release(struct instance *instance) {
    pthread_mutex_lock(&table_lock);
    int gone = --instance->references == 0;
    pthread_mutex_unlock(&table_lock);
    if (!gone)
        return;
    while (instance->live) {
        struct live_op *next = instance->live->next;
        free(instance->live);
        instance->live = next;
    }
    while (instance->blobs) {
        struct blob *next = instance->blobs->next;
        payload_free(instance->blobs->payload);
        free(instance->blobs);
        instance->blobs = next;
    }
    while (instance->facts) {
        struct facts *next = instance->facts->next;
        free(instance->facts);
        instance->facts = next;
    }
    while (instance->first_job) {
        struct job *next = instance->first_job->next;
        payload_free(instance->first_job->payload);
        free(instance->first_job);
        instance->first_job = next;
    }
    pthread_mutex_destroy(&instance->lock);
    pthread_cond_destroy(&instance->wake);
    free(instance);
}

struct instance *instance_acquire(uint64_t id) {
    pthread_mutex_lock(&table_lock);
    struct instance *instance = table[id % BUCKETS];
    while (instance && instance->id != id)
        instance = instance->next_in_bucket;
    if (instance)
        instance->references++;
    pthread_mutex_unlock(&table_lock);
    return instance;
}

static void unlink_instance(struct instance *instance) {
    pthread_mutex_lock(&table_lock);
    struct instance **link = &table[instance->id % BUCKETS];
    while (*link && *link != instance)
        link = &(*link)->next_in_bucket;
    if (*link)
        *link = instance->next_in_bucket;
    pthread_mutex_unlock(&table_lock);
}

/* The instance's lock is held. */
static int is_live(const struct instance *instance, uint64_t op) {
    for (const struct live_op *live = instance->live; live; live = live->next)
        if (live->id == op)
            return 1;
    return 0;
}

static void drop_blobs(struct instance *instance, uint64_t op) {
    struct blob *dropped = NULL;
    pthread_mutex_lock(&instance->lock);
    for (struct blob **link = &instance->blobs; *link;) {
        struct blob *blob = *link;
        if (blob->op != op) {
            link = &blob->next;
            continue;
        }
        *link = blob->next;
        blob->next = dropped;
        dropped = blob;
    }
    pthread_mutex_unlock(&instance->lock);
    while (dropped) {
        struct blob *next = dropped->next;
        payload_free(dropped->payload);
        free(dropped);
        dropped = next;
    }
}

static int finish(struct instance *instance, uint64_t op) {
    struct live_op *found = NULL;
    pthread_mutex_lock(&instance->lock);
    for (struct live_op **link = &instance->live; *link; link = &(*link)->next) {
        if ((*link)->id != op)
            continue;
        found = *link;
        *link = found->next;
        break;
    }
    pthread_mutex_unlock(&instance->lock);
    if (!found)
        return 0;
    free(found);
    drop_blobs(instance, op);
    return 1;
}

static int32_t call_verb(struct instance *instance, uint64_t id, const struct payload *payload) {
    mp_op op = {
        .struct_size = sizeof op,
        .verb = (int32_t)payload->scalars[0],
        .id = id,
        .deadline_ns = payload->scalars[1],
        .attempt = (uint32_t)payload->scalars[2],
        .flags = (uint32_t)payload->scalars[3],
        .body = payload->view_count > 0 ? payload->views[0] : (mp_view){NULL, 0},
    };
    int32_t (*const verbs[])(void *, const mp_op *) = {
        NULL,
        plugin->configure,
        plugin->connect,
        plugin->provision,
        plugin->deprovision,
        plugin->query,
        plugin->options,
        plugin->catalog,
        plugin->deliver,
        plugin->reconcile,
        plugin->intercept,
        plugin->webhook,
        plugin->pull,
        plugin->ping,
        plugin->shutdown,
    };
    if (!instance->created || op.verb < 1 || op.verb >= (int32_t)(sizeof verbs / sizeof *verbs) ||
        !verbs[op.verb])
        return MP_UNSUPPORTED;
    return verbs[op.verb](instance->self, &op);
}

static void run_operation(struct instance *instance, const struct job *job) {
    struct live_op *live = malloc(sizeof *live);
    if (live) {
        live->id = job->op;
        pthread_mutex_lock(&instance->lock);
        live->next = instance->live;
        instance->live = live;
        pthread_mutex_unlock(&instance->lock);
    }
    int32_t status = live ? call_verb(instance, job->op, job->payload) : MP_RETRY;
    if (status == MP_OK)
        return;
    (void)finish(instance, job->op);
    uint64_t scalar = (uint64_t)(int64_t)status;
    (void)outbox_send(MILEPOST_FRAME_NOT_ACCEPTED, job->op, instance->id, &scalar, 1, NULL, 0);
}

/* Large data becomes a blob of its operation; the payload then belongs to the blob. Both go when
 * the plugin completes the operation, which it may do before `on_event` returns. The event is valid
 * until then, so what else the payload holds is copied. */
static void run_event(struct instance *instance, struct job *job) {
    struct payload *payload = job->payload;
    mp_event event = {
        .struct_size = sizeof event,
        .kind = (int32_t)payload->scalars[0],
        .token = payload->scalars[1],
        .op = job->op,
        .status = (int32_t)payload->scalars[2],
        .wire = (int32_t)payload->scalars[3],
        .http_status = (int32_t)payload->scalars[4],
        .json = payload->view_count > 0 ? payload->views[0] : (mp_view){NULL, 0},
        .data = payload->view_count > 1 ? payload->views[1] : (mp_view){NULL, 0},
    };
    uint8_t *json = NULL;
    if (event.data.len > MILEPOST_BLOB_THRESHOLD) {
        struct blob *blob = malloc(sizeof *blob);
        json = malloc(event.json.len + 1);
        if (blob && json) {
            *blob = (struct blob){.id = atomic_fetch_add(&next_blob, 1),
                                  .op = job->op,
                                  .payload = payload,
                                  .view = event.data};
            event.blob = blob->id;
            event.blob_len = event.data.len;
            event.data = (mp_view){NULL, 0};
            if (event.json.ptr) {
                memcpy(json, event.json.ptr, event.json.len);
                event.json.ptr = json;
            }
            job->payload = NULL;
            pthread_mutex_lock(&instance->lock);
            blob->next = instance->blobs;
            instance->blobs = blob;
            pthread_mutex_unlock(&instance->lock);
        } else {
            free(blob);
        }
    }
    if (instance->created)
        plugin->on_event(instance->self, &event);
    free(json);
    if (event.blob != 0) {
        pthread_mutex_lock(&instance->lock);
        int live = is_live(instance, job->op);
        pthread_mutex_unlock(&instance->lock);
        if (!live)
            drop_blobs(instance, job->op);
    }
}

static int run_job(struct instance *instance, struct job *job) {
    switch (job->kind) {
    case JOB_CREATE: {
        mp_view config = job->payload->view_count > 0 ? job->payload->views[0] : (mp_view){NULL, 0};
        int32_t status = plugin->create(host, instance->id, config, &instance->self);
        instance->created = status == MP_OK;
        uint64_t scalar = (uint64_t)(int64_t)status;
        (void)outbox_send(MILEPOST_FRAME_CREATED, 0, instance->id, &scalar, 1, NULL, 0);
        return 1;
    }
    case JOB_OPERATION:
        run_operation(instance, job);
        return 1;
    case JOB_CANCEL:
        if (instance->created && plugin->cancel)
            plugin->cancel(instance->self, job->op);
        return 1;
    case JOB_EVENT:
        run_event(instance, job);
        return 1;
    case JOB_DESTROY:
        unlink_instance(instance); /* before destroy: late host calls are stale from here on */
        if (instance->created)
            plugin->destroy(instance->self);
        (void)outbox_send(MILEPOST_FRAME_DESTROYED, 0, instance->id, NULL, 0, NULL, 0);
        return 0;
    }
    return 1;
}

static void *instance_thread(void *argument) {
    struct instance *instance = argument;
    int alive = 1;
    while (alive) {
        pthread_mutex_lock(&instance->lock);
        while (!instance->first_job)
            pthread_cond_wait(&instance->wake, &instance->lock);
        struct job *job = instance->first_job;
        instance->first_job = job->next;
        if (!instance->first_job)
            instance->last_job = &instance->first_job;
        pthread_mutex_unlock(&instance->lock);

        atomic_store(&instance->call_since, monotonic_ns());
        alive = run_job(instance, job);
        atomic_store(&instance->call_since, 0);
        payload_free(job->payload);
        free(job);
    }
    instance_release(instance);
    return NULL;
}

static struct payload *payload_copy(const struct payload *payload) {
    struct payload *copy = malloc(sizeof *copy);
    if (copy)
        memcpy(copy, payload,
               offsetof(struct payload, views) + payload->view_count * sizeof(mp_view));
    return copy;
}

static void enqueue(struct instance *instance, enum job_kind kind, uint64_t op,
                    struct payload *payload) {
    struct job *job = malloc(sizeof *job);
    struct payload *owned = payload ? payload_copy(payload) : NULL;
    if (!job || (payload && !owned))
        abort(); /* out of memory here loses a frame: the daemon restarts us instead */
    *job = (struct job){.next = NULL, .kind = kind, .op = op, .payload = owned};
    pthread_mutex_lock(&instance->lock);
    *instance->last_job = job;
    instance->last_job = &job->next;
    pthread_cond_signal(&instance->wake);
    pthread_mutex_unlock(&instance->lock);
}

static void send_to(uint64_t id, enum job_kind kind, uint64_t op, struct payload *payload) {
    struct instance *instance = instance_acquire(id);
    if (!instance) {
        if (payload)
            free(payload->bytes);
        return;
    }
    enqueue(instance, kind, op, payload);
    instance_release(instance);
}

void instance_create(uint64_t id, struct payload *payload) {
    struct instance *instance = calloc(1, sizeof *instance);
    if (!instance)
        abort();
    instance->id = id;
    instance->references = 2; /* the table's user and the thread */
    pthread_mutex_init(&instance->lock, NULL);
    pthread_cond_init(&instance->wake, NULL);
    instance->last_job = &instance->first_job;
    for (uint32_t i = 1; i + 1 < payload->view_count; i += 2)
        if (payload->views[i].ptr)
            instance_store_facts(instance, payload->views[i], payload->views[i + 1]);
    pthread_mutex_lock(&table_lock);
    instance->next_in_bucket = table[id % BUCKETS];
    table[id % BUCKETS] = instance;
    pthread_mutex_unlock(&table_lock);

    enqueue(instance, JOB_CREATE, 0, payload);
    pthread_t thread;
    if (pthread_create(&thread, NULL, instance_thread, instance) != 0) {
        uint64_t status = MP_RETRY;
        (void)outbox_send(MILEPOST_FRAME_CREATED, 0, id, &status, 1, NULL, 0);
        unlink_instance(instance);
        instance_release(instance);
    } else {
        pthread_detach(thread);
    }
    instance_release(instance);
}

void instance_operation(uint64_t id, uint64_t op, struct payload *payload) {
    send_to(id, JOB_OPERATION, op, payload);
}
void instance_cancel(uint64_t id, uint64_t op) {
    send_to(id, JOB_CANCEL, op, NULL);
}
void instance_event(uint64_t id, uint64_t op, struct payload *payload) {
    send_to(id, JOB_EVENT, op, payload);
}
void instance_destroy(uint64_t id) {
    send_to(id, JOB_DESTROY, 0, NULL);
}

uint64_t instances_longest_call(uint64_t *ret_instance) {
    uint64_t now = monotonic_ns(), longest = 0;
    pthread_mutex_lock(&table_lock);
    for (uint32_t i = 0; i < BUCKETS; i++)
        for (struct instance *instance = table[i]; instance; instance = instance->next_in_bucket) {
            uint64_t since = atomic_load(&instance->call_since);
            if (since == 0 || now <= since || now - since <= longest)
                continue;
            longest = now - since;
            *ret_instance = instance->id;
        }
    pthread_mutex_unlock(&table_lock);
    return longest;
}

int instance_is_live(uint64_t id, uint64_t op) {
    struct instance *instance = instance_acquire(id);
    if (!instance)
        return 0;
    int live = 1;
    if (op != 0) {
        pthread_mutex_lock(&instance->lock);
        live = is_live(instance, op);
        pthread_mutex_unlock(&instance->lock);
    }
    instance_release(instance);
    return live;
}

int instance_finish(uint64_t id, uint64_t op) {
    struct instance *instance = instance_acquire(id);
    if (!instance)
        return 0;
    int live = finish(instance, op);
    instance_release(instance);
    return live;
}
