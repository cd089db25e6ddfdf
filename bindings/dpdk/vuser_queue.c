/* Queues: set-up, start and stop, and what the power library and interrupts ask of them.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#include <rte_mbuf.h>
#include <rte_power_intrinsics.h>

#include "vuser_pmd.h"

/* The size of a ring for which so many descriptors were asked: never more than the option queue_size. */
static uint16_t
ring_size(const struct vuser_port *port, uint16_t nb_desc)
{
    struct vuser_dev_info info = { .size = sizeof(info) };
    uint16_t size = RTE_MIN(nb_desc, port->config.queue_size);

    if (vuser_dev_get_info(port->dev, &info) == 0 && !info.packed)
        size = rte_align32prevpow2(size);
    return RTE_MAX(size, 2);
}

/* Tells the library of a queue and where its buffers come from. */
static int
attach_rx(struct vuser_rxq *rxq)
{
    struct vuser_port *port = rxq->port;
    struct vuser_mbuf_source source;
    int ret;

    if (port->bouncing) {
        ret = vuser_rx_queue_setup(port->dev, rxq->id, rxq->nb_desc, port->pool);
    } else {
        vuser_rx_source(rxq, &source);
        ret = vuser_rx_queue_setup_source(port->dev, rxq->id, rxq->nb_desc, &source);
    }
    if (ret == 0)
        ret = rxq->deferred ? vuser_rx_queue_stop(port->dev, rxq->id) : vuser_rx_queue_start(port->dev, rxq->id);
    if (ret != 0)
        return ret;
    rxq->queue = vuser_rx_queue(port->dev, rxq->id);
    port->eth->data->rx_queues[rxq->id] = port->bouncing ? (void *)rxq : (void *)rxq->queue;
    return 0;
}

static int
attach_tx(struct vuser_txq *txq)
{
    struct vuser_port *port = txq->port;
    struct vuser_mbuf_source source;
    int ret;

    if (port->bouncing) {
        ret = vuser_tx_queue_setup(port->dev, txq->id, txq->nb_desc, port->pool);
    } else {
        vuser_tx_source(txq, &source);
        ret = vuser_tx_queue_setup_source(port->dev, txq->id, txq->nb_desc, &source);
    }
    if (ret == 0)
        ret = txq->deferred ? vuser_tx_queue_stop(port->dev, txq->id) : vuser_tx_queue_start(port->dev, txq->id);
    if (ret != 0)
        return ret;
    txq->queue = vuser_tx_queue(port->dev, txq->id);
    port->eth->data->tx_queues[txq->id] = port->bouncing ? (void *)txq : (void *)txq->queue;
    return 0;
}

/* Tells the library of all queues anew: whether frames are copied is known at the start only. */
int
vuser_queues_attach(struct vuser_port *port)
{
    uint16_t i;
    int ret = 0;

    for (i = 0; i < VUSER_MAX_PAIRS && ret == 0; i++)
        if (port->rxq[i].pool != NULL)
            ret = attach_rx(&port->rxq[i]);
    for (i = 0; i < VUSER_MAX_PAIRS && ret == 0; i++)
        if (port->txq[i].set_up)
            ret = attach_tx(&port->txq[i]);
    return ret;
}

/* The library's queues have gone with their device. */
void
vuser_queues_forget(struct vuser_port *port)
{
    uint16_t i;

    for (i = 0; i < VUSER_MAX_PAIRS; i++) {
        port->rxq[i] = (struct vuser_rxq){ 0 };
        port->txq[i] = (struct vuser_txq){ 0 };
    }
}

static int
check_buffers(const struct rte_eth_dev *eth, struct rte_mempool *pool)
{
    const uint16_t mtu = eth->data->mtu;
    const uint16_t room = rte_pktmbuf_data_room_size(pool);
    const uint32_t frame = mtu + RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN;

    if (room < RTE_PKTMBUF_HEADROOM + 64 ||
        (frame > (uint32_t)room - RTE_PKTMBUF_HEADROOM &&
         !(eth->data->dev_conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_SCATTER))) {
        VUSER_LOG(ERR, "port %u: buffers of %s have %u bytes, too few for a frame of MTU %u behind the headroom; larger "
                  "buffers, or the offload SCATTER", eth->data->port_id, pool->name, room, mtu);
        return -EINVAL;
    }
    return 0;
}

int
vuser_rx_setup(struct rte_eth_dev *eth, uint16_t id, uint16_t nb_desc, unsigned int socket,
               const struct rte_eth_rxconf *conf, struct rte_mempool *pool)
{
    struct vuser_port *port = vuser_port(eth);
    struct vuser_rxq *rxq = &port->rxq[id];
    int ret;

    (void)socket;
    if (port->dev == NULL)
        return -ENODEV;
    ret = check_buffers(eth, pool);
    if (ret != 0)
        return ret;
    *rxq = (struct vuser_rxq){
        .queue = rxq->queue,
        .port = port,
        .pool = pool,
        .id = id,
        .nb_desc = ring_size(port, nb_desc),
        .deferred = conf->rx_deferred_start,
    };
    ret = port->bouncing ? 0 : attach_rx(rxq);
    if (ret == 0)
        return 0;
    rxq->pool = NULL;
    return vuser_failed(port, "receive queue", ret);
}

int
vuser_tx_setup(struct rte_eth_dev *eth, uint16_t id, uint16_t nb_desc, unsigned int socket,
               const struct rte_eth_txconf *conf)
{
    struct vuser_port *port = vuser_port(eth);
    struct vuser_txq *txq = &port->txq[id];
    int ret;

    (void)socket;
    if (port->dev == NULL)
        return -ENODEV;
    *txq = (struct vuser_txq){
        .queue = txq->queue,
        .port = port,
        .set_up = true,
        .id = id,
        .nb_desc = ring_size(port, nb_desc),
        .deferred = conf->tx_deferred_start,
    };
    ret = port->bouncing ? 0 : attach_tx(txq);
    if (ret == 0)
        return 0;
    txq->set_up = false;
    return vuser_failed(port, "transmit queue", ret);
}

/* The library has no such call: a queue without a pool gets no buffers, and goes with its device. */
void
vuser_rx_give_up(struct rte_eth_dev *eth, uint16_t id)
{
    vuser_port(eth)->rxq[id].pool = NULL;
}

void
vuser_tx_give_up(struct rte_eth_dev *eth, uint16_t id)
{
    vuser_port(eth)->txq[id].set_up = false;
}

static int
done(struct vuser_port *port, int ret, uint8_t *state, uint8_t then)
{
    if (ret != 0)
        return vuser_failed(port, "queue", ret);
    *state = then;
    return 0;
}

int
vuser_rx_start(struct rte_eth_dev *eth, uint16_t id)
{
    struct vuser_port *port = vuser_port(eth);

    return done(port, vuser_rx_queue_start(port->dev, id), &eth->data->rx_queue_state[id], RTE_ETH_QUEUE_STATE_STARTED);
}

int
vuser_rx_stop(struct rte_eth_dev *eth, uint16_t id)
{
    struct vuser_port *port = vuser_port(eth);

    return done(port, vuser_rx_queue_stop(port->dev, id), &eth->data->rx_queue_state[id], RTE_ETH_QUEUE_STATE_STOPPED);
}

int
vuser_tx_start(struct rte_eth_dev *eth, uint16_t id)
{
    struct vuser_port *port = vuser_port(eth);

    return done(port, vuser_tx_queue_start(port->dev, id), &eth->data->tx_queue_state[id], RTE_ETH_QUEUE_STATE_STARTED);
}

int
vuser_tx_stop(struct rte_eth_dev *eth, uint16_t id)
{
    struct vuser_port *port = vuser_port(eth);

    return done(port, vuser_tx_queue_stop(port->dev, id), &eth->data->tx_queue_state[id], RTE_ETH_QUEUE_STATE_STOPPED);
}

vuser_count
vuser_rx_count(void *queue)
{
    return RTE_MAX(vuser_queue_count(queue), 0);
}

int
vuser_rx_status(void *queue, uint16_t offset)
{
    static const int states[] = { RTE_ETH_RX_DESC_AVAIL, RTE_ETH_RX_DESC_DONE, RTE_ETH_RX_DESC_UNAVAIL };
    int state = vuser_queue_descriptor_status(queue, offset);

    return state < 0 ? state : states[state];
}

/* One that is not in use can be filled, as one that is done. */
int
vuser_tx_status(void *queue, uint16_t offset)
{
    static const int states[] = { RTE_ETH_TX_DESC_FULL, RTE_ETH_TX_DESC_DONE, RTE_ETH_TX_DESC_DONE };
    int state = vuser_queue_descriptor_status(queue, offset);

    return state < 0 ? state : states[state];
}

/* 0 means all there are. */
int
vuser_tx_cleanup(void *queue, uint32_t n)
{
    return vuser_tx_done_cleanup(queue, n == 0 || n > UINT16_MAX ? UINT16_MAX : n);
}

enum { MASK, VALUE, WHILE_EQUAL };

/* -1 when there is something, so that nobody sleeps. */
static int
has_something(const uint64_t value, const uint64_t opaque[RTE_POWER_MONITOR_OPAQUE_SZ])
{
    bool equal = (value & opaque[MASK]) == opaque[VALUE];

    return equal == (opaque[WHILE_EQUAL] != 0) ? 0 : -1;
}

int
vuser_monitor_addr(void *queue, struct rte_power_monitor_cond *cond)
{
    struct vuser_monitor monitor = { .size = sizeof(monitor) };
    int ret = vuser_queue_monitor(queue, &monitor);

    if (ret != 0)
        return ret;
    cond->addr = (volatile void *)(uintptr_t)monitor.addr;
    cond->size = monitor.bytes;
    cond->fn = has_something;
    cond->opaque[MASK] = monitor.mask;
    cond->opaque[VALUE] = monitor.value;
    cond->opaque[WHILE_EQUAL] = monitor.while_equal;
    return 0;
}
