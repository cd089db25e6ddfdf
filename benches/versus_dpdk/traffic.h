/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The application: one loop that receives, sends or forwards as fast as it can, whatever the back-end is. */
#ifndef VERSUS_TRAFFIC_H
#define VERSUS_TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>

#include "paths.h"
#include "port.h"

#define MAX_BURST 64

/* What is measured of each burst. */
enum meter { METER_NONE, METER_CYCLES, METER_STEPS };

/* Packets on their way out. */
struct staged {
    struct rte_mbuf *packets[MAX_BURST];
    uint16_t first, count;
};

struct traffic {
    struct port *port;
    enum direction direction;
    uint16_t burst, size;
    /* Called before each turn of a queue, outside of what is measured; may be NULL. */
    void (*between)(void *context, uint16_t queue);
    void *context;

    uint64_t bursts, empty, refused;       /* polls (rx, forward) or calls (tx); those with nothing; tx not all taken */
    uint64_t received, sent;
    uint64_t metered, metered_empty;       /* cycles or instructions in bursts, and in those with nothing */
    struct staged staged[MAX_QUEUES];
    const char *wrong;                     /* a received frame is not as it was sent */
};

/* Before the first METER_CYCLES. */
void traffic_calibrate(void);

/* Turns until there were so many, or until this time (checked now and then). */
void traffic_run(struct traffic *traffic, enum meter meter, uint64_t turns, uint64_t until);

/* Forgets the figures, not the packets. */
void traffic_reset(struct traffic *traffic);

/* Takes what has been received but not fetched; gives all packets that the application holds back to the pool.
 * Only when no back-end goes on sending. */
void traffic_drain(struct traffic *traffic);

/* Stages a burst of our own packets to be forwarded by each queue that has none staged. */
void traffic_inject(struct traffic *traffic);

#endif
