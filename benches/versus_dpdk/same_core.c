/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The null device on the driver's own thread, between the bursts: what is measured is the driver's work alone. */
#include "clock.h"
#include "duty.h"

/* Frames per queue in a slice of cycles: many laps of a ring, for drivers do some work only once in a lap. */
#define FRAMES_CYCLES (32 * 1024)
/* Bursts in a slice of instructions. A trap can take 10 us, so there are few of them; but they are two laps of a ring of
 * 256 in bursts of 32, after which everything that drivers do now and then repeats. */
#define BURSTS_STEPS 16

static void between(void *context, uint16_t queue)
{
    duty_turn(context, queue);
}

static const char *slice(struct side *side, const struct setup *setup, enum meter meter, uint32_t turns,
                         struct sample *sample)
{
    struct duty duty = {side, setup, setup->burst};
    struct traffic traffic;
    uint32_t lap = setup->ring / setup->burst;
    uint64_t waited = waited_ns();

    duty_begin(&duty, &traffic);
    traffic.between = between;
    traffic.context = &duty;
    /* Four laps bring everything into the cache that the other driver has just used, and resolve symbols. */
    traffic_run(&traffic, meter == METER_STEPS ? METER_NONE : meter, 4 * lap, UINT64_MAX);
    uint64_t before_in = traffic.received, before_out = traffic.sent;
    uint64_t bursts = traffic.bursts, empty = traffic.empty, refused = traffic.refused;
    traffic.metered = traffic.metered_empty = 0;
    traffic_run(&traffic, meter, turns, UINT64_MAX);

    uint64_t packets = setup->direction == RX ? traffic.received - before_in : traffic.sent - before_out;
    bursts = traffic.bursts - bursts;
    empty = traffic.empty - empty;
    refused = traffic.refused - refused;
    *sample = (struct sample){
        .value = (double)(traffic.metered + traffic.metered_empty) / packets,
        .empty = (double)empty / bursts,
        .per_burst = (double)packets / (bursts - empty),
        .refused = (double)refused / bursts,
        .disturbed = waited_ns() - waited > MOST_WAIT_NS,
    };
    return duty_end(&duty, &traffic);
}

const char *cpu_slice(struct side *side, const struct setup *setup, struct sample *sample)
{
    return slice(side, setup, METER_CYCLES, FRAMES_CYCLES / setup->burst, sample);
}

const char *instructions_slice(struct side *side, const struct setup *setup, struct sample *sample)
{
    return slice(side, setup, METER_STEPS, BURSTS_STEPS, sample);
}
