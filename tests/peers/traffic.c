/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The thread that bursts, while another one makes control calls. */
#define _GNU_SOURCE

#include "mix.h"

#include <sched.h>
#include <unistd.h>

static unsigned receive(struct traffic *t)
{
    unsigned came = 0;

    for (unsigned q = 0; q < t->pairs; q++) {
        struct vuser_mbuf *got[BURST];
        const unsigned n = vuser_rx_burst(t->lanes[q].rx, got, BURST);

        for (unsigned i = 0; i < n; i++) {
            uint64_t number;
            struct flow *flow = flow_of(t->run, got[i], &number);

            if (flow == t->lanes[q].flow)
                flow_receive(flow, number);
            else if (flow != NULL)
                t->run->corrupt++;
        }
        vuser_mbuf_free_bulk(got, (uint16_t)n);
        came += n;
    }
    __atomic_fetch_add(&t->moved, came, __ATOMIC_RELAXED);
    return came;
}

static unsigned transmit(struct traffic *t)
{
    unsigned sent = 0;

    for (unsigned q = 0; q < t->pairs; q++)
        sent += flow_send(t->run, t->lanes[q].flow, t->window);
    return sent;
}

static void drain(struct traffic *t)
{
    uint64_t left = 0;

    for (unsigned q = 0; q < t->pairs; q++) {
        flow_take_back(t->lanes[q].flow);
        left += flow_under_way(t->lanes[q].flow);
    }
    __atomic_store_n(&t->left, left, __ATOMIC_RELAXED);
}

void *traffic_main(void *arg)
{
    struct traffic *t = arg;

    for (;;) {
        const enum mode mode = __atomic_load_n(&t->wanted, __ATOMIC_ACQUIRE);
        unsigned done = 0;

        if (mode == LEAVE)
            return NULL;
        if (mode == RUN)
            done += transmit(t);
        if (mode != PARK)
            done += receive(t);
        if (mode == DRAIN)
            drain(t);
        __atomic_store_n(&t->at, mode, __ATOMIC_RELEASE);
        if (done == 0)
            usleep(mode == PARK ? 500 : 20);
    }
}

void traffic_set(struct traffic *t, enum mode mode)
{
    __atomic_store_n(&t->wanted, mode, __ATOMIC_RELEASE);
    while (__atomic_load_n(&t->at, __ATOMIC_ACQUIRE) != mode)
        usleep(100);
}

uint64_t traffic_read(const uint64_t *what)
{
    return __atomic_load_n(what, __ATOMIC_RELAXED);
}
