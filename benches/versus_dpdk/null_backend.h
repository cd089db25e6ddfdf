/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * A vhost-user back-end inside this process: a thread answers the control messages; the rings are served by whoever
 * calls null_receive and null_send.
 */
#ifndef VERSUS_NULL_BACKEND_H
#define VERSUS_NULL_BACKEND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "null_ring.h"

#define NULL_MAX_QUEUES 8

struct null_backend {
    char socket[108];
    int listener, connection;
    pthread_t thread;
    pthread_mutex_t lock;             /* of what follows, against null_backend_ready */
    pthread_cond_t changed;
    bool stopping;
    uint64_t features;
    uint8_t status;
    struct null_memory memory;
    struct null_ring rings[2 * NULL_MAX_QUEUES];   /* rx of queue 0, tx of queue 0, rx of queue 1, ... */
};

/* Listens at a path, which must not exist. NULL or a sentence about what went wrong. */
const char *null_backend_start(struct null_backend *backend, const char *socket);

/* Waits at most a few seconds until the driver has started so many queue pairs. */
bool null_backend_ready(struct null_backend *backend, unsigned queues);

void null_backend_stop(struct null_backend *backend);

static inline struct null_ring *null_rx(struct null_backend *backend, unsigned queue)
{
    return &backend->rings[2 * queue];
}

static inline struct null_ring *null_tx(struct null_backend *backend, unsigned queue)
{
    return &backend->rings[2 * queue + 1];
}

#endif
