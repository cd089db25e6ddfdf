/* The operations of a port: configure, start, stop, close, reset, addresses, MTU.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#include <errno.h>
#include <string.h>

#include "vuser_pmd.h"

/* VIRTIO_NET_F_MTU and VHOST_USER_PROTOCOL_F_CONFIG: the device says how large its MTU is, and can be asked. */
#define F_MTU (UINT64_C(1) << 3)
#define PROTOCOL_F_CONFIG (UINT64_C(1) << 9)

/* Offloads of ethdev's and what they are in the library. */
static const struct {
    uint64_t eth;
    uint64_t vuser;
} rx_offloads[] = {
    { RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM, VUSER_OFFLOAD_RX_CSUM },
    { RTE_ETH_RX_OFFLOAD_TCP_LRO, VUSER_OFFLOAD_LRO },
    { RTE_ETH_RX_OFFLOAD_VLAN_STRIP, VUSER_OFFLOAD_VLAN_STRIP },
    { RTE_ETH_RX_OFFLOAD_RSS_HASH, VUSER_OFFLOAD_HASH },
}, tx_offloads[] = {
    { RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM, VUSER_OFFLOAD_CSUM },
    { RTE_ETH_TX_OFFLOAD_TCP_TSO, VUSER_OFFLOAD_TSO },
    { RTE_ETH_TX_OFFLOAD_UDP_TSO, VUSER_OFFLOAD_USO },
};

/* What of the device does not change as long as we are connected. */
static int
learn(struct vuser_port *port)
{
    struct vuser_dev_info info = { .size = sizeof(info) };
    int ret = vuser_dev_get_info(port->dev, &info);
    unsigned int i;

    if (ret != 0)
        return ret;
    port->features = info.device_features;
    port->max_mtu = info.device_features & F_MTU && info.protocol_features & PROTOCOL_F_CONFIG ? info.mtu :
        VUSER_MAX_FRAME - RTE_ETHER_HDR_LEN - RTE_VLAN_HLEN - info.hdr_len;
    memcpy(port->config.mac, info.mac, sizeof(info.mac));
    port->config.has_mac = 1;
    port->rx_capa = RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
    port->tx_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
    if (info.mergeable)
        port->rx_capa |= RTE_ETH_RX_OFFLOAD_SCATTER;
    for (i = 0; i < RTE_DIM(rx_offloads); i++)
        if (info.offload_capa & rx_offloads[i].vuser)
            port->rx_capa |= rx_offloads[i].eth;
    for (i = 0; i < RTE_DIM(tx_offloads); i++)
        if (info.offload_capa & tx_offloads[i].vuser)
            port->tx_capa |= tx_offloads[i].eth;
    return 0;
}

int
vuser_port_open(struct vuser_port *port)
{
    int ret = vuser_dev_init(&port->config, &port->dev);

    if (ret == 0) {
        ret = learn(port);
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

/* Chooses what the application has configured, and what the devargs ask for in any case. */
static int
set_offloads(struct vuser_port *port)
{
    const struct rte_eth_conf *conf = &port->eth->data->dev_conf;
    uint64_t wanted = port->config.offloads;
    unsigned int i;
    int ret;

    for (i = 0; i < RTE_DIM(rx_offloads); i++)
        if (conf->rxmode.offloads & rx_offloads[i].eth)
            wanted |= rx_offloads[i].vuser;
    for (i = 0; i < RTE_DIM(tx_offloads); i++)
        if (conf->txmode.offloads & tx_offloads[i].eth)
            wanted |= tx_offloads[i].vuser;
    ret = vuser_dev_set_offloads(port->dev, wanted);
    if (ret != 0)
        return vuser_failed(port, "offloads", ret);
    port->filtering = conf->rxmode.offloads & RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
    port->strip = wanted & VUSER_OFFLOAD_VLAN_STRIP;
    port->strip_at_start = port->strip;
    return 0;
}

static int
check_modes(const struct rte_eth_dev *eth)
{
    const struct rte_eth_conf *conf = &eth->data->dev_conf;
    const uint64_t hashes = conf->rx_adv_conf.rss_conf.rss_hf;

    /* Programs ask for RSS of nothing when the device has none. */
    if (conf->rxmode.mq_mode != RTE_ETH_MQ_RX_NONE &&
        (conf->rxmode.mq_mode != RTE_ETH_MQ_RX_RSS || (hashes != 0 && eth->data->nb_rx_queues > 1))) {
        VUSER_LOG(ERR, "port %u: receive mode %d: the device has no RSS, and the library no control of it",
                  eth->data->port_id, conf->rxmode.mq_mode);
        return -ENOTSUP;
    }
    if (conf->txmode.mq_mode != RTE_ETH_MQ_TX_NONE) {
        VUSER_LOG(ERR, "port %u: transmit mode %d: there is only one", eth->data->port_id, conf->txmode.mq_mode);
        return -ENOTSUP;
    }
    return 0;
}

static int
configure(struct rte_eth_dev *eth)
{
    struct vuser_port *port = vuser_port(eth);
    int ret = check_modes(eth);

    if (ret != 0)
        return ret;
    if (port->dev == NULL) {
        ret = vuser_port_open(port);
        if (ret != 0)
            return ret;
    }
    ret = set_offloads(port);
    if (ret != 0)
        return ret;
    ret = vuser_dev_set_queue_pairs(port->dev, RTE_MAX(eth->data->nb_rx_queues, eth->data->nb_tx_queues));
    if (ret != 0)
        return vuser_failed(port, "queues", ret);
    eth->data->scattered_rx = (eth->data->dev_conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_SCATTER) != 0;
    vuser_set_bursts(eth);
    return 0;
}

static void
set_queue_states(struct rte_eth_dev *eth, bool started)
{
    const struct vuser_port *port = vuser_port(eth);
    uint16_t i;

    for (i = 0; i < eth->data->nb_rx_queues; i++)
        eth->data->rx_queue_state[i] = started && !port->rxq[i].deferred ?
            RTE_ETH_QUEUE_STATE_STARTED : RTE_ETH_QUEUE_STATE_STOPPED;
    for (i = 0; i < eth->data->nb_tx_queues; i++)
        eth->data->tx_queue_state[i] = started && !port->txq[i].deferred ?
            RTE_ETH_QUEUE_STATE_STARTED : RTE_ETH_QUEUE_STATE_STOPPED;
}

/* Whether the device can reach the buffers of all receive queues. */
static bool
holds_receive_buffers(struct vuser_port *port)
{
    uint16_t i;

    for (i = 0; i < port->eth->data->nb_rx_queues; i++)
        if (port->rxq[i].pool != NULL && !vuser_memory_holds(port, port->rxq[i].pool))
            return false;
    return true;
}

static int
run(struct vuser_port *port)
{
    int ret = vuser_queues_attach(port);

    return ret == 0 ? vuser_dev_start(port->dev) : ret;
}

/* Brings the device up on the application's own buffers. */
static int
start_direct(struct vuser_port *port)
{
    int ret = vuser_memory_share(port);

    if (ret != 0)
        return ret;
    if (!holds_receive_buffers(port))
        return -EBADF;
    port->bouncing = false;
    return run(port);
}

/* Brings the device up on buffers of ours, between which and the application's frames are copied. */
static int
start_bouncing(struct vuser_port *port)
{
    int ret;

    vuser_memory_unshare(port);
    ret = vuser_bounce_init(port);
    if (ret != 0)
        return ret;
    port->bouncing = true;
    return run(port);
}

/* Whether an error is about memory that can't be shared. */
static bool
is_unshareable(int error)
{
    return error == -E2BIG || error == -EBADF;
}

static const char *
cure(int error)
{
    return error == -E2BIG ?
        "the application's memory is of more files than the back-end takes; the EAL's option --single-file-segments "
        "makes it one" :
        "a mempool of the receive queues has no file that can be shared; the EAL's own memory has one with "
        "--single-file-segments and without --legacy-mem";
}

static int
start_device(struct vuser_port *port)
{
    int ret = -EBADF;

    if (port->bounce != VUSER_BOUNCE_ALWAYS) {
        vuser_log_attempt(port->bounce == VUSER_BOUNCE_AUTO);
        ret = start_direct(port);
        vuser_log_attempt(false);
        if (ret == 0)
            return 0;
        if (!is_unshareable(ret))
            return vuser_failed(port, "start", ret);
        if (port->bounce == VUSER_BOUNCE_NEVER) {
            VUSER_LOG(ERR, "port %u: %s (or leave bounce=0 out, and frames are copied)", port->id, cure(ret));
            return ret;
        }
        VUSER_LOG(NOTICE, "port %u: frames are copied: %s", port->id, cure(ret));
    }
    ret = start_bouncing(port);
    return ret == 0 ? 0 : vuser_failed(port, "start", ret);
}

static int
start(struct rte_eth_dev *eth)
{
    struct vuser_port *port = vuser_port(eth);
    int ret;

    if (port->dev == NULL)
        return -ENODEV;
    ret = set_offloads(port);
    if (ret != 0)
        return ret;
    ret = start_device(port);
    if (ret != 0)
        return ret;
    ret = vuser_intr_start(eth);
    if (ret != 0) {
        vuser_dev_stop(port->dev);
        return ret;
    }
    vuser_set_bursts(eth);
    set_queue_states(eth, true);
    vuser_link_update(eth, 0);
    return 0;
}

/* A device that does not answer is stopped, too: an error is for the log, since ethdev would take the port for started. */
static int
stop(struct rte_eth_dev *eth)
{
    struct vuser_port *port = vuser_port(eth);
    int ret;

    vuser_intr_stop(eth);
    eth->data->dev_started = 0;
    if (port->dev != NULL) {
        ret = vuser_dev_stop(port->dev);
        if (ret != 0)
            vuser_failed(port, "stop", ret);
    }
    set_queue_states(eth, false);
    eth->data->dev_link.link_status = RTE_ETH_LINK_DOWN;
    return 0;
}

static int
close_port(struct rte_eth_dev *eth)
{
    if (rte_eal_process_type() != RTE_PROC_PRIMARY)
        return 0;
    stop(eth);
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

    stop(eth);
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
    int ret = port->dev == NULL ? -ENODEV : vuser_dev_set_link(port->dev, up);

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

/* All frames come in any case; ethdev remembers what was asked for. */
static int
accept_mode(struct rte_eth_dev *eth)
{
    (void)eth;
    return 0;
}

static int
mtu_set(struct rte_eth_dev *eth, uint16_t mtu)
{
    struct vuser_port *port = vuser_port(eth);
    const uint32_t frame = mtu + RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN;
    uint16_t i;

    if (mtu < RTE_ETHER_MIN_MTU || mtu > port->max_mtu) {
        VUSER_LOG(ERR, "port %u: MTU %u: it is %u to %u", port->id, mtu, RTE_ETHER_MIN_MTU, port->max_mtu);
        return -EINVAL;
    }
    if (eth->data->dev_conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_SCATTER)
        return 0;
    for (i = 0; i < eth->data->nb_rx_queues; i++) {
        const struct rte_mempool *pool = port->rxq[i].pool;

        if (pool == NULL)
            continue;
        if (frame > (uint32_t)rte_pktmbuf_data_room_size((struct rte_mempool *)(uintptr_t)pool) - RTE_PKTMBUF_HEADROOM) {
            VUSER_LOG(ERR, "port %u: MTU %u: a frame does not fit a buffer of receive queue %u, and the offload SCATTER "
                      "is off", port->id, mtu, i);
            return -EINVAL;
        }
    }
    return 0;
}

/* vhost-user has no filter of addresses; ethdev keeps the list. */
static int
mac_addr_add(struct rte_eth_dev *eth, struct rte_ether_addr *addr, uint32_t index, uint32_t pool)
{
    (void)eth;
    (void)addr;
    (void)pool;
    return index < VUSER_MAX_MAC_ADDRS ? 0 : -EINVAL;
}

static void
mac_addr_remove(struct rte_eth_dev *eth, uint32_t index)
{
    (void)eth;
    (void)index;
}

static int
mac_addr_set(struct rte_eth_dev *eth, struct rte_ether_addr *addr)
{
    memcpy(vuser_port(eth)->config.mac, addr->addr_bytes, RTE_ETHER_ADDR_LEN);
    return 0;
}

static int
set_mc_addr_list(struct rte_eth_dev *eth, struct rte_ether_addr *addrs, uint32_t n)
{
    (void)eth;
    (void)addrs;
    (void)n;
    return 0;
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
    .dev_configure = configure, \
    .dev_start = start, \
    .dev_stop = stop, \
    .dev_close = close_port, \
    .dev_reset = reset, \
    .dev_set_link_up = set_link_up, \
    .dev_set_link_down = set_link_down, \
    .link_update = vuser_link_update, \
    .promiscuous_enable = accept_mode, \
    .promiscuous_disable = accept_mode, \
    .allmulticast_enable = accept_mode, \
    .allmulticast_disable = accept_mode, \
    .mac_addr_add = mac_addr_add, \
    .mac_addr_remove = mac_addr_remove, \
    .mac_addr_set = mac_addr_set, \
    .set_mc_addr_list = set_mc_addr_list, \
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
    .vlan_filter_set = vuser_vlan_filter_set, \
    .vlan_offload_set = vuser_vlan_offload_set, \
    .rx_queue_start = vuser_rx_start, \
    .rx_queue_stop = vuser_rx_stop, \
    .tx_queue_start = vuser_tx_start, \
    .tx_queue_stop = vuser_tx_stop, \
    .rx_queue_setup = vuser_rx_setup, \
    .rx_queue_release = vuser_rx_release, \
    .rx_queue_intr_enable = vuser_rx_intr_enable, \
    .rx_queue_intr_disable = vuser_rx_intr_disable, \
    .tx_queue_setup = vuser_tx_setup, \
    .tx_queue_release = vuser_tx_release, \
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
