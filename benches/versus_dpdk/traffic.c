/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "traffic.h"

#include <rte_mbuf.h>

#include "clock.h"
#include "steps.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* Cycles that two reads of the counter and a call take by themselves. */
static uint64_t reading;

static __attribute__((noinline)) uint16_t nothing(void *queue, struct rte_mbuf **packets, uint16_t n)
{
    (void)queue, (void)packets;
    return n;
}

static ALWAYS_INLINE uint16_t call(enum meter meter, burst_fn burst, void *queue, struct rte_mbuf **packets,
                                   uint16_t n, uint64_t *metered)
{
    if (meter == METER_STEPS)
        return steps_burst(burst, queue, packets, n, metered);
    if (meter == METER_NONE)
        return burst(queue, packets, n);
    uint64_t begin = fenced_tsc();
    n = burst(queue, packets, n);
    *metered = saturating_sub(fenced_tsc() - begin, reading);
    return n;
}

void traffic_calibrate(void)
{
    burst_fn volatile burst = nothing;   /* volatile: called as a driver's burst is, through a pointer */
    uint64_t best = UINT64_MAX;

    reading = 0;
    for (int i = 0; i < 10000; i++) {
        uint64_t cycles;

        call(METER_CYCLES, burst, NULL, NULL, 0, &cycles);
        if (cycles < best)
            best = cycles;
    }
    reading = best;
}

static ALWAYS_INLINE void account(struct traffic *t, uint16_t n, uint64_t metered)
{
    t->bursts++;
    t->empty += n == 0;
    if (n)
        t->metered += metered;
    else
        t->metered_empty += metered;
}

/* The application's own look at what it got. It is also what makes the buffers fit to be given back as they are. */
static ALWAYS_INLINE void look_at(struct traffic *t, struct rte_mbuf **packets, uint16_t n)
{
    uint32_t odd = 0;

    for (uint16_t i = 0; i < n; i++)
        odd |= (packets[i]->pkt_len ^ t->size) | (packets[i]->data_len ^ t->size) | (packets[i]->nb_segs ^ 1);
    if (__builtin_expect(odd, 0))
        t->wrong = "a frame was received with a wrong length or in several segments";
    t->received += n;
}

static ALWAYS_INLINE uint16_t receive(struct traffic *t, enum meter meter, uint16_t q, struct rte_mbuf **packets)
{
    uint64_t metered = 0;
    uint16_t n = call(meter, t->port->rx, t->port->rx_queue[q], packets, t->burst, &metered);

    account(t, n, metered);
    look_at(t, packets, n);
    return n;
}

static bool fill(struct traffic *t, struct staged *staged, uint16_t n)
{
    if (rte_mempool_get_bulk(t->port->pool, (void **)staged->packets, n)) {
        t->wrong = "the pool ran empty";
        return false;
    }
    for (uint16_t i = 0; i < n; i++) {
        struct rte_mbuf *m = staged->packets[i];

        m->data_off = RTE_PKTMBUF_HEADROOM;
        m->ol_flags = 0;
        m->data_len = t->size;
        m->pkt_len = t->size;
    }
    staged->first = 0;
    staged->count = n;
    return true;
}

static ALWAYS_INLINE uint16_t transmit(struct traffic *t, enum meter meter, uint16_t q, uint64_t *metered)
{
    struct staged *staged = &t->staged[q];
    uint16_t n = call(meter, t->port->tx, t->port->tx_queue[q], &staged->packets[staged->first], staged->count,
                      metered);

    staged->first += n;
    staged->count -= n;
    t->refused += staged->count != 0;
    t->sent += n;
    return n;
}

static ALWAYS_INLINE void turn(struct traffic *t, enum meter meter, enum direction direction, uint16_t q)
{
    struct staged *staged = &t->staged[q];
    struct rte_mbuf *packets[MAX_BURST];
    uint64_t metered = 0;
    uint16_t n;

    switch (direction) {
    case RX:
        n = receive(t, meter, q, packets);
        if (n)
            rte_mempool_put_bulk(t->port->pool, (void **)packets, n);
        break;
    case TX:
        if (staged->count == 0 && !fill(t, staged, t->burst))
            break;
        n = transmit(t, meter, q, &metered);
        account(t, n, metered);
        break;
    case FORWARD:
        if (staged->count == 0) {
            staged->count = receive(t, meter, q, staged->packets);
            staged->first = 0;
        }
        if (staged->count) {
            transmit(t, meter, q, &metered);
            t->metered += metered;
        }
        break;
    }
}

static ALWAYS_INLINE void run(struct traffic *t, enum meter meter, enum direction direction, uint64_t turns,
                              uint64_t until)
{
    uint16_t queues = t->port->queues;

    for (uint64_t i = 1; turns && !t->wrong; i++, turns--) {
        for (uint16_t q = 0; q < queues; q++) {
            if (t->between)
                t->between(t->context, q);
            turn(t, meter, direction, q);
        }
        if (i % 16 == 0 && __rdtsc() >= until)
            break;
    }
}

#define RUN(meter) \
    switch (t->direction) { \
    case RX: run(t, meter, RX, turns, until); break; \
    case TX: run(t, meter, TX, turns, until); break; \
    case FORWARD: run(t, meter, FORWARD, turns, until); break; \
    }

void traffic_run(struct traffic *t, enum meter meter, uint64_t turns, uint64_t until)
{
    switch (meter) {
    case METER_NONE: RUN(METER_NONE); break;
    case METER_CYCLES: RUN(METER_CYCLES); break;
    case METER_STEPS: RUN(METER_STEPS); break;
    }
}

void traffic_reset(struct traffic *t)
{
    t->bursts = t->empty = t->refused = t->received = t->sent = t->metered = t->metered_empty = 0;
}

void traffic_drain(struct traffic *t)
{
    struct rte_mbuf *packets[MAX_BURST];

    for (uint16_t q = 0; q < t->port->queues; q++) {
        struct staged *staged = &t->staged[q];

        rte_pktmbuf_free_bulk(&staged->packets[staged->first], staged->count);
        staged->count = 0;
        /* More than one empty poll: a driver may leave a few frames for the next one, or refill first. */
        for (int idle = 0; idle < 3;) {
            uint16_t n = t->port->rx(t->port->rx_queue[q], packets, MAX_BURST);

            idle = n ? 0 : idle + 1;
            look_at(t, packets, n);
            rte_pktmbuf_free_bulk(packets, n);
        }
    }
}

void traffic_inject(struct traffic *t)
{
    for (uint16_t q = 0; q < t->port->queues; q++)
        if (t->staged[q].count == 0 && fill(t, &t->staged[q], t->burst))
            t->received += t->burst;
}
