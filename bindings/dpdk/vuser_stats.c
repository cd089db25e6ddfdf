/* Statistics, with DPDK's names where DPDK's virtio has them.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#include <stddef.h>
#include <stdio.h>

#include "vuser_pmd.h"

/* What a queue has counted, and the sum of its errors. */
struct counters {
    struct vuser_queue_stats queue;
    uint64_t errors;
    uint64_t no_mbuf;
};

struct name {
    const char *name;
    size_t offset;
};

#define COUNTER(name, field) { name, offsetof(struct counters, field) }
#define SORTED \
    COUNTER("multicast_packets", queue.multicast), \
    COUNTER("broadcast_packets", queue.broadcast), \
    COUNTER("undersize_packets", queue.size_bins[0]), \
    COUNTER("size_64_packets", queue.size_bins[1]), \
    COUNTER("size_65_127_packets", queue.size_bins[2]), \
    COUNTER("size_128_255_packets", queue.size_bins[3]), \
    COUNTER("size_256_511_packets", queue.size_bins[4]), \
    COUNTER("size_512_1023_packets", queue.size_bins[5]), \
    COUNTER("size_1024_1518_packets", queue.size_bins[6]), \
    COUNTER("size_1519_max_packets", queue.size_bins[7])

static const struct name rx_names[] = {
    COUNTER("good_packets", queue.packets),
    COUNTER("good_bytes", queue.bytes),
    COUNTER("errors", errors),
    COUNTER("runt_packets", queue.runt),
    COUNTER("bad_header_packets", queue.bad_header),
    COUNTER("no_mbuf", no_mbuf),
    COUNTER("lost_packets", queue.lost),
    COUNTER("kicks", queue.kicks),
}, tx_names[] = {
    COUNTER("good_packets", queue.packets),
    COUNTER("good_bytes", queue.bytes),
    COUNTER("errors", errors),
    COUNTER("bad_packets", queue.bad_packet),
    COUNTER("bad_offload_packets", queue.bad_offload),
    COUNTER("bad_address_packets", queue.bad_address),
    COUNTER("too_many_segments_packets", queue.too_many_segments),
    COUNTER("ring_full", queue.ring_full),
    COUNTER("lost_packets", queue.lost),
    COUNTER("resent_packets", queue.tx_resent),
    COUNTER("dropped_on_reconnect_packets", queue.tx_dropped_on_reconnect),
    COUNTER("kicks", queue.kicks),
/* Counted, and so listed, only with the option stats=1. */
}, sorted_names[] = {
    SORTED,
};

/* Of the device, since it was made; a reset of the counters leaves them. */
static const struct name device_names[] = {
    { "reconnects", offsetof(struct vuser_dev_info, reconnects) },
    { "refused_backends", offsetof(struct vuser_dev_info, refused) },
};

static struct counters
read_counters(struct vuser_queue *queue, uint64_t no_mbuf)
{
    struct counters c = { .queue = { .size = sizeof(c.queue) } };

    if (queue != NULL && vuser_queue_get_stats(queue, &c.queue) == 0) {
        c.errors = c.queue.runt + c.queue.bad_header + c.queue.bad_packet + c.queue.bad_offload + c.queue.bad_address +
            c.queue.too_many_segments;
        c.no_mbuf = c.queue.no_buffer + no_mbuf;
    }
    return c;
}

static struct counters
rx_counters(const struct vuser_port *port, uint16_t id)
{
    return read_counters(port->rxq[id].queue, port->rxq[id].no_mbuf);
}

static struct counters
tx_counters(const struct vuser_port *port, uint16_t id)
{
    return read_counters(port->txq[id].queue, 0);
}

#if RTE_VERSION >= RTE_VERSION_NUM(25, 11, 0, 0)
int
vuser_stats_get(struct rte_eth_dev *eth, struct rte_eth_stats *stats, struct eth_queue_stats *queues)
#else
int
vuser_stats_get(struct rte_eth_dev *eth, struct rte_eth_stats *stats)
#define queues stats
#endif
{
    const struct vuser_port *port = vuser_port(eth);
    uint16_t i;

    stats->rx_nombuf = 0;
    for (i = 0; i < eth->data->nb_rx_queues; i++) {
        const struct counters c = rx_counters(port, i);

        stats->ipackets += c.queue.packets;
        stats->ibytes += c.queue.bytes;
        stats->ierrors += c.errors;
        stats->rx_nombuf += c.no_mbuf;
        if (queues != NULL && i < RTE_ETHDEV_QUEUE_STAT_CNTRS) {
            queues->q_ipackets[i] = c.queue.packets;
            queues->q_ibytes[i] = c.queue.bytes;
            queues->q_errors[i] = c.errors;
        }
    }
    for (i = 0; i < eth->data->nb_tx_queues; i++) {
        const struct counters c = tx_counters(port, i);

        stats->opackets += c.queue.packets;
        stats->obytes += c.queue.bytes;
        stats->oerrors += c.errors;
        if (queues != NULL && i < RTE_ETHDEV_QUEUE_STAT_CNTRS) {
            queues->q_opackets[i] = c.queue.packets;
            queues->q_obytes[i] = c.queue.bytes;
        }
    }
    return 0;
}
#undef queues

int
vuser_stats_reset(struct rte_eth_dev *eth)
{
    struct vuser_port *port = vuser_port(eth);
    uint16_t i;

    for (i = 0; i < eth->data->nb_rx_queues; i++) {
        port->rxq[i].no_mbuf = 0;
        if (port->rxq[i].queue != NULL)
            vuser_queue_reset_stats(port->rxq[i].queue);
    }
    for (i = 0; i < eth->data->nb_tx_queues; i++)
        if (port->txq[i].queue != NULL)
            vuser_queue_reset_stats(port->txq[i].queue);
    return 0;
}

/* The names of a direction: first those that are always there, then the sorted ones. */
struct listed {
    const struct name *names;
    unsigned int n;
    unsigned int sorted;
};

static struct listed
listed(const struct vuser_port *port, bool receive)
{
    const unsigned int sorted = port->config.stats ? RTE_DIM(sorted_names) : 0;

    return receive ? (struct listed){ rx_names, RTE_DIM(rx_names), sorted } :
        (struct listed){ tx_names, RTE_DIM(tx_names), sorted };
}

static const struct name *
name_of(const struct listed *list, unsigned int i)
{
    return i < list->n ? &list->names[i] : &sorted_names[i - list->n];
}

static unsigned int
count(const struct rte_eth_dev *eth)
{
    const struct listed rx = listed(vuser_port(eth), true), tx = listed(vuser_port(eth), false);

    return RTE_DIM(device_names) + eth->data->nb_rx_queues * (rx.n + rx.sorted) +
        eth->data->nb_tx_queues * (tx.n + tx.sorted);
}

static unsigned int
fill_names(const struct listed *list, const char *direction, uint16_t queues, struct rte_eth_xstat_name *names)
{
    unsigned int q, i, k = 0;

    for (q = 0; q < queues; q++)
        for (i = 0; i < list->n + list->sorted; i++, k++)
            snprintf(names[k].name, sizeof(names[k].name), "%s_q%u_%s", direction, q, name_of(list, i)->name);
    return k;
}

int
vuser_xstats_names(struct rte_eth_dev *eth, struct rte_eth_xstat_name *names, unsigned int n)
{
    const struct listed rx = listed(vuser_port(eth), true), tx = listed(vuser_port(eth), false);
    unsigned int k;

    if (names == NULL || n < count(eth))
        return count(eth);
    for (k = 0; k < RTE_DIM(device_names); k++)
        snprintf(names[k].name, sizeof(names[k].name), "%s", device_names[k].name);
    k += fill_names(&rx, "rx", eth->data->nb_rx_queues, names + k);
    return k + fill_names(&tx, "tx", eth->data->nb_tx_queues, names + k);
}

static unsigned int
fill(const struct listed *list, const struct counters *c, unsigned int k, struct rte_eth_xstat *stats)
{
    unsigned int i;

    for (i = 0; i < list->n + list->sorted; i++, k++) {
        stats[k].id = k;
        stats[k].value = *(const uint64_t *)((const char *)c + name_of(list, i)->offset);
    }
    return k;
}

int
vuser_xstats_get(struct rte_eth_dev *eth, struct rte_eth_xstat *stats, unsigned int n)
{
    const struct vuser_port *port = vuser_port(eth);
    const struct listed rx = listed(port, true), tx = listed(port, false);
    struct vuser_dev_info info = { .size = sizeof(info) };
    unsigned int k;
    uint16_t q;

    if (stats == NULL || n < count(eth))
        return count(eth);
    if (port->dev == NULL || vuser_dev_get_info(port->dev, &info) != 0)
        info = (struct vuser_dev_info){ 0 };
    for (k = 0; k < RTE_DIM(device_names); k++) {
        stats[k].id = k;
        stats[k].value = *(const uint64_t *)((const char *)&info + device_names[k].offset);
    }
    for (q = 0; q < eth->data->nb_rx_queues; q++) {
        const struct counters c = rx_counters(port, q);

        k = fill(&rx, &c, k, stats);
    }
    for (q = 0; q < eth->data->nb_tx_queues; q++) {
        const struct counters c = tx_counters(port, q);

        k = fill(&tx, &c, k, stats);
    }
    return k;
}
