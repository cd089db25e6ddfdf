/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The null device on the driver's own thread, between the bursts: what is measured is the driver's work alone. */
#include "clock.h"
#include "duty.h"

/* Frames per queue in a slice: a whole number of laps of every ring size, so that work that drivers do once in a lap
 * counts as often as it occurs. */
#define FRAMES_CYCLES (32 * 1024)
#define FRAMES_STEPS  (4 * 1024)

static void between(void *context, uint16_t queue)
{
    duty_turn(context, queue);
}

static const char *slice(struct side *side, const struct setup *setup, enum meter meter, uint32_t frames,
                         struct sample *sample)
{
    struct duty duty = {side, setup, setup->burst};
    struct traffic traffic;
    uint32_t lap = setup->ring / setup->burst;

    duty_begin(&duty, &traffic);
    traffic.between = between;
    traffic.context = &duty;
    /* Two laps bring everything into the cache that the other driver has just used. */
    traffic_run(&traffic, meter == METER_STEPS ? METER_NONE : meter, 2 * lap, UINT64_MAX);
    uint64_t before_in = traffic.received, before_out = traffic.sent;
    uint64_t bursts = traffic.bursts, empty = traffic.empty, refused = traffic.refused;
    traffic.metered = traffic.metered_empty = 0;
    traffic_run(&traffic, meter, frames / setup->burst, UINT64_MAX);

    uint64_t packets = setup->direction == RX ? traffic.received - before_in : traffic.sent - before_out;
    bursts = traffic.bursts - bursts;
    empty = traffic.empty - empty;
    refused = traffic.refused - refused;
    *sample = (struct sample){
        .value = (double)(traffic.metered + traffic.metered_empty) / packets,
        .empty = (double)empty / bursts,
        .per_burst = (double)packets / (bursts - empty),
        .refused = (double)refused / bursts,
    };
    return duty_end(&duty, &traffic);
}

const char *cpu_slice(struct side *side, const struct setup *setup, struct sample *sample)
{
    return slice(side, setup, METER_CYCLES, FRAMES_CYCLES, sample);
}

const char *instructions_slice(struct side *side, const struct setup *setup, struct sample *sample)
{
    return slice(side, setup, METER_STEPS, FRAMES_STEPS, sample);
}
