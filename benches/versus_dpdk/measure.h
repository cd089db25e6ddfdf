/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* What is measured, and the slices that measure it. A slice belongs to one driver; drivers take turns. */
#ifndef VERSUS_MEASURE_H
#define VERSUS_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "null_backend.h"
#include "paths.h"
#include "port.h"
#include "traffic.h"

enum stage { CPU, INSTRUCTIONS, CROSS, VHOST };
#define STAGES 4

/* How far apart the cores are at the moment. */
enum regime { NO_MATTER, NEAR, FAR };

extern const char *const stage_name[STAGES], *const stage_unit[STAGES], *const regime_name[3];

struct setup {
    const struct path *path;
    enum direction direction;
    uint16_t burst, size, ring, queues;
};

/* One of the two drivers on a path: number 0 is "a", 1 is "b". */
struct side {
    unsigned number;
    struct port port;
    struct null_backend backend;    /* not used with DPDK's vhost */
};

struct sample {
    double value;        /* in the stage's unit: cycles or instructions per packet, or million packets per second */
    double cycles;       /* per packet, in bursts that moved some; cross-core stages, measured apart */
    double empty;        /* share of polls (rx, forward) or sends (tx) that moved nothing */
    double per_burst;    /* packets of those that moved some */
    double refused;      /* share of sends of which a part was not taken */
    double idle;         /* share of the null back-end's turns in which it had nothing to do */
    bool disturbed;      /* somebody else had one of our CPUs for a while */
};

/* Each fills the sample in. NULL, or what was wrong: a result that has been got wrongly is none. */
const char *cpu_slice(struct side *side, const struct setup *setup, struct sample *sample);
const char *instructions_slice(struct side *side, const struct setup *setup, struct sample *sample);
const char *cross_slice(struct side *side, const struct setup *setup, struct sample *sample);

/* Of all stages in which somebody else is the device: packets per second, then cycles in bursts. */
void timed_slices(struct traffic *traffic, struct sample *sample);

#endif
