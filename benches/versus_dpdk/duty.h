/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* What a null device does during a slice, and whether driver and device agree about it afterwards. */
#ifndef VERSUS_DUTY_H
#define VERSUS_DUTY_H

#include "measure.h"

struct duty {
    struct side *side;
    const struct setup *setup;
    uint16_t n;            /* descriptors per turn and ring */
};

/* Begins a slice: counters of the rings and of the traffic start at 0. */
void duty_begin(struct duty *duty, struct traffic *traffic);

/* One turn of one queue pair; how many descriptors were used. */
uint16_t duty_turn(const struct duty *duty, uint16_t queue);

/* Ends a slice, once nobody else serves the rings: nothing may have been lost, nothing doubled. */
const char *duty_end(const struct duty *duty, struct traffic *traffic);

#endif
