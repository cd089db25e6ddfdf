/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* A device on the other core: the null one in a loop. */
#include <rte_launch.h>
#include <rte_lcore.h>

#include "clock.h"
#include "duty.h"

#define WARM_US   300
#define RATE_US   3000
#define CYCLES_US 1000
/* Descriptors that the device takes from a ring before it looks at the next one. */
#define DEVICE_BURST 32

/* Aligned, so that what the other core reads in its loop shares no cache line with what this one writes. */
struct __attribute__((aligned(128))) worker {
    struct duty duty;
    uint64_t turns, idle;
    bool running, stop, disturbed;
};

static int serve(void *arg)
{
    struct worker *worker = arg;
    uint16_t queues = worker->duty.setup->queues;
    uint64_t turns = 0, idle = 0;
    uint64_t waited = waited_ns();

    __atomic_store_n(&worker->running, true, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&worker->stop, __ATOMIC_ACQUIRE)) {
        for (uint16_t q = 0; q < queues; q++) {
            turns++;
            idle += duty_turn(&worker->duty, q) == 0;
        }
    }
    worker->turns = turns;
    worker->idle = idle;
    worker->disturbed = waited_ns() - waited > MOST_WAIT_NS;
    return 0;
}

void timed_slices(struct traffic *traffic, struct sample *sample)
{
    uint64_t received, sent, begin, packets;
    uint64_t waited = waited_ns();

    traffic_run(traffic, METER_NONE, UINT64_MAX, after_us(WARM_US));
    received = traffic->received;
    sent = traffic->sent;
    traffic->bursts = traffic->empty = traffic->refused = 0;
    begin = fenced_tsc();
    traffic_run(traffic, METER_NONE, UINT64_MAX, after_us(RATE_US));
    packets = traffic->direction == RX ? traffic->received - received : traffic->sent - sent;
    sample->value = packets / ((double)(fenced_tsc() - begin) / rte_get_tsc_hz()) / 1e6;
    sample->empty = (double)traffic->empty / traffic->bursts;
    sample->per_burst = traffic->bursts > traffic->empty ? (double)packets / (traffic->bursts - traffic->empty) : 0;
    sample->refused = (double)traffic->refused / traffic->bursts;

    received = traffic->received;
    sent = traffic->sent;
    traffic->metered = traffic->metered_empty = 0;
    traffic_run(traffic, METER_CYCLES, UINT64_MAX, after_us(CYCLES_US));
    packets = traffic->direction == RX ? traffic->received - received : traffic->sent - sent;
    sample->cycles = packets ? (double)traffic->metered / packets : 0;
    sample->disturbed = waited_ns() - waited > MOST_WAIT_NS;
}

const char *cross_slice(struct side *side, const struct setup *setup, struct sample *sample)
{
    struct worker worker = {.duty = {side, setup, DEVICE_BURST}};
    unsigned other = rte_get_next_lcore(-1, 1, 0);
    struct traffic traffic __attribute__((aligned(128)));

    duty_begin(&worker.duty, &traffic);
    rte_eal_remote_launch(serve, &worker, other);
    while (!__atomic_load_n(&worker.running, __ATOMIC_ACQUIRE))
        ;
    timed_slices(&traffic, sample);
    __atomic_store_n(&worker.stop, true, __ATOMIC_RELEASE);
    rte_eal_wait_lcore(other);
    sample->idle = (double)worker.idle / worker.turns;
    sample->disturbed |= worker.disturbed;
    return duty_end(&worker.duty, &traffic);
}
