/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "port.h"

#include <stdio.h>

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_mbuf.h>

#define BUS "vdev"
#define CACHE 256
/* Buffers beside those that rings hold: the pool's cache, and bursts. */
#define SPARE 1536

static char complaint[256];

static const char *complain(const char *name, const char *what, int error)
{
    snprintf(complaint, sizeof(complaint), "%s: %s: %s", name, what, rte_strerror(error < 0 ? -error : error));
    return complaint;
}

uint32_t port_buffers(const struct port *port)
{
    return 2u * port->ring * port->queues + SPARE;
}

static const char *setup_queues(struct port *port)
{
    struct rte_eth_conf conf = {0};
    int rc = rte_eth_dev_configure(port->id, port->queues, port->queues, &conf);

    if (rc)
        return complain(port->name, "configure", rc);
    for (uint16_t q = 0; q < port->queues; q++) {
        rc = rte_eth_rx_queue_setup(port->id, q, port->ring, SOCKET_ID_ANY, NULL, port->pool);
        if (rc)
            return complain(port->name, "rx queue setup", rc);
        rc = rte_eth_tx_queue_setup(port->id, q, port->ring, SOCKET_ID_ANY, NULL);
        if (rc)
            return complain(port->name, "tx queue setup", rc);
    }
    rc = rte_eth_dev_start(port->id);
    return rc ? complain(port->name, "start", rc) : NULL;
}

static void find_bursts(struct port *port)
{
    const struct rte_eth_fp_ops *ops = &rte_eth_fp_ops[port->id];

    port->rx = ops->rx_pkt_burst;
    port->tx = ops->tx_pkt_burst;
    for (uint16_t q = 0; q < port->queues; q++) {
        port->rx_queue[q] = ops->rxq.data[q];
        port->tx_queue[q] = ops->txq.data[q];
    }
}

const char *port_open(struct port *port, const char *name, const char *devargs, uint16_t ring, uint16_t queues)
{
    const char *wrong;
    int rc;

    memset(port, 0, sizeof(*port));
    snprintf(port->name, sizeof(port->name), "%s", name);
    port->ring = ring;
    port->queues = queues;
    port->pool = rte_pktmbuf_pool_create(name, port_buffers(port), CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    if (!port->pool)
        return complain(name, "pool", rte_errno);
    rc = rte_eal_hotplug_add(BUS, name, devargs);
    if (rc || (rc = rte_eth_dev_get_port_by_name(name, &port->id))) {
        rte_mempool_free(port->pool);
        return complain(name, devargs, rc);
    }
    wrong = setup_queues(port);
    if (wrong) {
        rte_eal_hotplug_remove(BUS, name);
        rte_mempool_free(port->pool);
        return wrong;
    }
    find_bursts(port);
    return NULL;
}

const char *port_check_buffers(const struct port *port)
{
    uint32_t here = rte_mempool_avail_count(port->pool), away = port_buffers(port) - here;

    if (here <= port_buffers(port) && away <= 2u * port->ring * port->queues)
        return NULL;
    snprintf(complaint, sizeof(complaint), "%s: %u buffers are away, more than the rings hold", port->name, away);
    return complaint;
}

const char *port_close(struct port *port)
{
    int rc = rte_eth_dev_stop(port->id);
    const char *wrong = rc ? complain(port->name, "stop", rc) : NULL;
    uint32_t here;

    rc = rte_eth_dev_close(port->id);
    if (rc && !wrong)
        wrong = complain(port->name, "close", rc);
    rte_eal_hotplug_remove(BUS, port->name);
    here = rte_mempool_avail_count(port->pool);
    if (here != port_buffers(port) && !wrong) {
        snprintf(complaint, sizeof(complaint), "%s: %u of %u buffers did not come back", port->name,
                 port_buffers(port) - here, port_buffers(port));
        wrong = complaint;
    }
    rte_mempool_free(port->pool);
    return wrong;
}
