/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* A port of any virtual driver, with a pool of its own. */
#ifndef VERSUS_PORT_H
#define VERSUS_PORT_H

#include <stdint.h>

#include <rte_ethdev.h>
#include <rte_mempool.h>

#define MAX_QUEUES 8

struct port {
    char name[32];
    uint16_t id, queues, ring;
    struct rte_mempool *pool;
    /* The driver's bursts themselves: what ethdev puts around them is the same for all drivers. */
    eth_rx_burst_t rx;
    eth_tx_burst_t tx;
    void *rx_queue[MAX_QUEUES], *tx_queue[MAX_QUEUES];
};

/* Creates the device `name` with these devargs and starts it. NULL or a sentence about what went wrong. */
const char *port_open(struct port *port, const char *name, const char *devargs, uint16_t ring, uint16_t queues);

/* Removes the device. NULL or a sentence about what went wrong: all buffers have to come back. */
const char *port_close(struct port *port);

/* Buffers of the pool, and how many of them may be away when nothing is on its way: those in rings. */
uint32_t port_buffers(const struct port *port);
const char *port_check_buffers(const struct port *port);

#endif
