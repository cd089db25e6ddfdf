/* What a port can do, and what of it is wanted.
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
int
vuser_learn(struct vuser_port *port)
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
    vuser_rss_learn(port);
    return 0;
}

/* Chooses what the application has configured, and what the devargs ask for in any case. */
int
vuser_set_offloads(struct vuser_port *port)
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

    if (conf->rxmode.mq_mode != RTE_ETH_MQ_RX_NONE && conf->rxmode.mq_mode != RTE_ETH_MQ_RX_RSS) {
        VUSER_LOG(ERR, "port %u: receive mode %d: there are none and RSS", eth->data->port_id, conf->rxmode.mq_mode);
        return -ENOTSUP;
    }
    if (conf->txmode.mq_mode != RTE_ETH_MQ_TX_NONE) {
        VUSER_LOG(ERR, "port %u: transmit mode %d: there is only one", eth->data->port_id, conf->txmode.mq_mode);
        return -ENOTSUP;
    }
    return 0;
}

int
vuser_configure(struct rte_eth_dev *eth)
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
    ret = vuser_set_offloads(port);
    if (ret != 0)
        return ret;
    ret = vuser_dev_set_queue_pairs(port->dev, RTE_MAX(eth->data->nb_rx_queues, eth->data->nb_tx_queues));
    if (ret != 0)
        return vuser_failed(port, "queues", ret);
    ret = vuser_rss_configure(eth);
    if (ret != 0)
        return ret;
    eth->data->scattered_rx = (eth->data->dev_conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_SCATTER) != 0;
    vuser_set_bursts(eth);
    return 0;
}
