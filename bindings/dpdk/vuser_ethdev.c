/* The operations of a port, and its life from opening to closing.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#include <errno.h>
#include <string.h>

#include "vuser_pmd.h"

int
vuser_port_open(struct vuser_port *port)
{
    int ret = vuser_dev_init(&port->config, &port->dev);

    if (ret == 0) {
        ret = vuser_learn(port);
        if (ret == 0)
            return 0;
    }
    vuser_failed(port, "the device can't be made", ret);
    vuser_port_close(port);
    return ret;
}

void
vuser_port_close(struct vuser_port *port)
{
    vuser_memory_unshare(port);
    vuser_dev_uninit(port->dev);
    port->dev = NULL;
    vuser_queues_forget(port);
    vuser_bounce_fini(port);
}

/* Bursts and what else is called without the control plane. */
void
vuser_set_bursts(struct rte_eth_dev *eth)
{
    const struct vuser_port *port = vuser_port(eth);

    if (port->bouncing) {
        eth->dev_ops = &vuser_bounce_ops;
        eth->rx_pkt_burst = vuser_bounce_rx;
        eth->tx_pkt_burst = vuser_bounce_tx;
        eth->tx_pkt_prepare = vuser_bounce_prepare;
        eth->rx_queue_count = vuser_bounce_count;
        eth->rx_descriptor_status = vuser_bounce_rx_status;
        eth->tx_descriptor_status = vuser_bounce_tx_status;
        return;
    }
    eth->dev_ops = &vuser_ops;
    /* A packet buffer of the library's is one of DPDK's (vuser_layout.h). */
    eth->rx_pkt_burst = vuser_revises(port) ? vuser_revised_rx : (eth_rx_burst_t)vuser_rx_burst;
    eth->tx_pkt_burst = (eth_tx_burst_t)vuser_tx_burst;
    eth->tx_pkt_prepare = (eth_tx_prep_t)vuser_tx_prepare;
    eth->rx_queue_count = vuser_rx_count;
    eth->rx_descriptor_status = vuser_rx_status;
    eth->tx_descriptor_status = vuser_tx_status;
}

static int
close_port(struct rte_eth_dev *eth)
{
    if (rte_eal_process_type() != RTE_PROC_PRIMARY)
        return 0;
    vuser_stop(eth);
    vuser_port_close(vuser_port(eth));
    rte_intr_instance_free(eth->intr_handle);
    eth->intr_handle = NULL;
    return 0;
}

/* Connects anew. The port is to be configured and its queues are to be set up again. */
static int
reset(struct rte_eth_dev *eth)
{
    struct vuser_port *port = vuser_port(eth);
    uint16_t i;

    vuser_stop(eth);
    vuser_port_close(port);
    for (i = 0; i < eth->data->nb_rx_queues; i++)
        eth->data->rx_queues[i] = NULL;
    for (i = 0; i < eth->data->nb_tx_queues; i++)
        eth->data->tx_queues[i] = NULL;
    return vuser_port_open(port);
}

static int
set_link(struct rte_eth_dev *eth, bool up)
{
    struct vuser_port *port = vuser_port(eth);
    int ret;

    if (port->dev == NULL)
        return -ENODEV;
    ret = vuser_dev_set_link(port->dev, up);
    if (ret != 0)
        return vuser_failed(port, "link", ret);
    port->link_down = !up;
    vuser_link_update(eth, 0);
    return 0;
}

static int
set_link_up(struct rte_eth_dev *eth)
{
    return set_link(eth, true);
}

static int
set_link_down(struct rte_eth_dev *eth)
{
    return set_link(eth, false);
}

static int
mtu_set(struct rte_eth_dev *eth, uint16_t mtu)
{
    struct vuser_port *port = vuser_port(eth);
    const uint32_t frame = mtu + RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN;
    uint16_t i;
    int ret;

    if (mtu < RTE_ETHER_MIN_MTU || mtu > port->max_mtu) {
        VUSER_LOG(ERR, "port %u: MTU %u: it is %u to %u", port->id, mtu, RTE_ETHER_MIN_MTU, port->max_mtu);
        return -EINVAL;
    }
    for (i = 0; i < eth->data->nb_rx_queues && !eth->data->scattered_rx; i++) {
        const struct rte_mempool *pool = port->rxq[i].pool;

        if (pool == NULL)
            continue;
        if (frame > (uint32_t)rte_pktmbuf_data_room_size((struct rte_mempool *)(uintptr_t)pool) - RTE_PKTMBUF_HEADROOM) {
            VUSER_LOG(ERR, "port %u: MTU %u: a frame does not fit a buffer of receive queue %u, and the offload SCATTER "
                      "is off", port->id, mtu, i);
            return -EINVAL;
        }
    }
    ret = port->dev == NULL ? -ENODEV : vuser_dev_set_mtu(port->dev, mtu);
    return ret == 0 || ret == -ENOTSUP ? 0 : vuser_failed(port, "MTU", ret);
}

/* What the virtio header tells of a packet: the transport of one whose checksum the device has seen. */
#if RTE_VERSION >= RTE_VERSION_NUM(24, 3, 0, 0)
static const uint32_t *
supported_ptypes(struct rte_eth_dev *eth, size_t *n)
#else
static const uint32_t *
supported_ptypes(struct rte_eth_dev *eth)
#endif
{
    static const uint32_t ptypes[] = {
        RTE_PTYPE_L2_ETHER,
        RTE_PTYPE_L4_TCP,
        RTE_PTYPE_L4_UDP,
        RTE_PTYPE_UNKNOWN,
    };

    if (!(eth->data->dev_conf.rxmode.offloads & (RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_LRO)))
        return NULL;
#if RTE_VERSION >= RTE_VERSION_NUM(24, 3, 0, 0)
    *n = RTE_DIM(ptypes) - 1;
#endif
    return ptypes;
}

#define COMMON_OPS \
    .dev_configure = vuser_configure, \
    .dev_start = vuser_start, \
    .dev_stop = vuser_stop, \
    .dev_close = close_port, \
    .dev_reset = reset, \
    .dev_set_link_up = set_link_up, \
    .dev_set_link_down = set_link_down, \
    .link_update = vuser_link_update, \
    .promiscuous_enable = vuser_promiscuous_enable, \
    .promiscuous_disable = vuser_promiscuous_disable, \
    .allmulticast_enable = vuser_allmulticast_enable, \
    .allmulticast_disable = vuser_allmulticast_disable, \
    .mac_addr_add = vuser_mac_addr_add, \
    .mac_addr_remove = vuser_mac_addr_remove, \
    .mac_addr_set = vuser_mac_addr_set, \
    .set_mc_addr_list = vuser_set_mc_addr_list, \
    .mtu_set = mtu_set, \
    .stats_get = vuser_stats_get, \
    .stats_reset = vuser_stats_reset, \
    .xstats_get = vuser_xstats_get, \
    .xstats_reset = vuser_stats_reset, \
    .xstats_get_names = vuser_xstats_names, \
    .dev_infos_get = vuser_infos_get, \
    .rxq_info_get = vuser_rxq_info_get, \
    .txq_info_get = vuser_txq_info_get, \
    .rx_burst_mode_get = vuser_rx_burst_mode_get, \
    .tx_burst_mode_get = vuser_tx_burst_mode_get, \
    .fw_version_get = vuser_fw_version_get, \
    .dev_supported_ptypes_get = supported_ptypes, \
    .rss_hash_update = vuser_rss_hash_update, \
    .rss_hash_conf_get = vuser_rss_hash_conf_get, \
    .reta_update = vuser_reta_update, \
    .reta_query = vuser_reta_query, \
    .vlan_filter_set = vuser_vlan_filter_set, \
    .vlan_offload_set = vuser_vlan_offload_set, \
    .rx_queue_start = vuser_rx_start, \
    .rx_queue_stop = vuser_rx_stop, \
    .tx_queue_start = vuser_tx_start, \
    .tx_queue_stop = vuser_tx_stop, \
    .rx_queue_setup = vuser_rx_setup, \
    .rx_queue_release = vuser_rx_give_up, \
    .rx_queue_intr_enable = vuser_rx_intr_enable, \
    .rx_queue_intr_disable = vuser_rx_intr_disable, \
    .tx_queue_setup = vuser_tx_setup, \
    .tx_queue_release = vuser_tx_give_up, \
    .eth_dev_priv_dump = vuser_priv_dump

/* Queue pointers are the library's queues. */
const struct eth_dev_ops vuser_ops = {
    COMMON_OPS,
    .tx_done_cleanup = vuser_tx_cleanup,
    .get_monitor_addr = vuser_monitor_addr,
};

/* Queue pointers are the driver's. */
const struct eth_dev_ops vuser_bounce_ops = {
    COMMON_OPS,
    .tx_done_cleanup = vuser_bounce_cleanup,
    .get_monitor_addr = vuser_bounce_monitor,
};
