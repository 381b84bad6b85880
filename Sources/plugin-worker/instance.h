/* SPDX-License-Identifier: Apache-2.0
 *
 * instance.h: what the files about instances share.
 */
#ifndef MILEPOST_WORKER_INSTANCE_H
#define MILEPOST_WORKER_INSTANCE_H

#include "worker.h"

#include <pthread.h>
#include <stdatomic.h>

struct job;

struct live_op {
    struct live_op *next;
    uint64_t id;
};

struct blob {
    struct blob *next;
    uint64_t id, op;
    struct payload *payload; /**< owned */
    mp_view view;
};

struct facts {
    struct facts *next;
    uint64_t name_len, json_len;
    uint8_t bytes[]; /**< name, then JSON */
};

struct instance {
    struct instance *next_in_bucket;
    uint64_t id;
    uint32_t references; /**< under table_lock */
    void *self;          /**< own thread only */
    int created;         /**< own thread only */
    _Atomic uint64_t call_since;
    pthread_mutex_t lock; /**< guards all below; never held while plugin code runs */
    pthread_cond_t wake;
    struct job *first_job, **last_job;
    struct live_op *live;
    struct blob *blobs;
    struct facts *facts;
};

/** Null when there is none of this id. Every acquired instance is released once. */
struct instance *instance_acquire(uint64_t id);
void instance_release(struct instance *instance);
void instance_store_facts(struct instance *instance, mp_view name, mp_view json);

#endif
