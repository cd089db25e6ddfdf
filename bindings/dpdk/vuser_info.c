/* What a port says about itself.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vuser_pmd.h"

int
vuser_infos_get(struct rte_eth_dev *eth, struct rte_eth_dev_info *info)
{
    const struct vuser_port *port = vuser_port(eth);
    const uint16_t size = port->config.queue_size;

    info->speed_capa = rte_eth_speed_bitflag(port->config.speed, RTE_ETH_LINK_FULL_DUPLEX);
    info->max_rx_queues = port->config.queues;
    info->max_tx_queues = port->config.queues;
    info->min_rx_bufsize = 64;
    info->max_rx_pktlen = VUSER_MAX_FRAME;
    info->max_mac_addrs = VUSER_MAX_MAC_ADDRS;
    info->min_mtu = RTE_ETHER_MIN_MTU;
    info->max_mtu = port->max_mtu;
    info->max_lro_pkt_size = UINT16_MAX;
    info->rx_offload_capa = port->rx_capa;
    info->tx_offload_capa = port->tx_capa;
    /* More than queue_size is taken for queue_size, as DPDK's virtio does. */
    info->rx_desc_lim = (struct rte_eth_desc_lim){ .nb_max = 32768, .nb_min = 2, .nb_align = 1 };
    info->tx_desc_lim = info->rx_desc_lim;
    info->tx_desc_lim.nb_seg_max = VUSER_MAX_SEGMENTS;
    info->tx_desc_lim.nb_mtu_seg_max = VUSER_MAX_SEGMENTS;
    vuser_rss_info(port, info);
    info->default_rxportconf = (struct rte_eth_dev_portconf){ .burst_size = 32, .ring_size = size, .nb_queues = 1 };
    info->default_txportconf = info->default_rxportconf;
    return 0;
}

int
vuser_fw_version_get(struct rte_eth_dev *eth, char *text, size_t size)
{
    int n = snprintf(text, size, "libvuser %s", vuser_version());

    (void)eth;
    return n < (int)size ? 0 : n + 1;
}

void
vuser_path_name(struct vuser_port *port, char *text, size_t size)
{
    struct vuser_dev_info info = { .size = sizeof(info) };

    if (port->dev == NULL || vuser_dev_get_info(port->dev, &info) != 0) {
        snprintf(text, size, "no device");
        return;
    }
    snprintf(text, size, "%s%s%s%s", info.path, info.in_order ? " in-order" : "", info.mergeable ? " mergeable" : "",
             port->bouncing ? " bounce" : "");
}

static int
burst_mode(struct rte_eth_dev *eth, struct rte_eth_burst_mode *mode)
{
    mode->flags = 0;
    vuser_path_name(vuser_port(eth), mode->info, sizeof(mode->info));
    return 0;
}

int
vuser_rx_burst_mode_get(struct rte_eth_dev *eth, uint16_t id, struct rte_eth_burst_mode *mode)
{
    (void)id;
    return burst_mode(eth, mode);
}

int
vuser_tx_burst_mode_get(struct rte_eth_dev *eth, uint16_t id, struct rte_eth_burst_mode *mode)
{
    (void)id;
    return burst_mode(eth, mode);
}

void
vuser_rxq_info_get(struct rte_eth_dev *eth, uint16_t id, struct rte_eth_rxq_info *info)
{
    const struct vuser_rxq *rxq = &vuser_port(eth)->rxq[id];

    info->mp = rxq->pool;
    info->nb_desc = rxq->nb_desc;
    info->scattered_rx = eth->data->scattered_rx;
    info->conf.rx_deferred_start = rxq->deferred;
    info->conf.offloads = eth->data->dev_conf.rxmode.offloads;
    if (rxq->pool != NULL)
        info->rx_buf_size = rte_pktmbuf_data_room_size(rxq->pool) - RTE_PKTMBUF_HEADROOM;
}

void
vuser_txq_info_get(struct rte_eth_dev *eth, uint16_t id, struct rte_eth_txq_info *info)
{
    const struct vuser_txq *txq = &vuser_port(eth)->txq[id];

    info->nb_desc = txq->nb_desc;
    info->conf.tx_deferred_start = txq->deferred;
    info->conf.offloads = eth->data->dev_conf.txmode.offloads;
}

int
vuser_priv_dump(struct rte_eth_dev *eth, FILE *file)
{
    struct vuser_dev_info info = { .size = sizeof(info) };
    struct vuser_port *port = vuser_port(eth);
    char path[64];

    if (port->dev == NULL || vuser_dev_get_info(port->dev, &info) != 0) {
        fprintf(file, "no device: %s\n", vuser_last_error());
        return 0;
    }
    vuser_path_name(port, path, sizeof(path));
    fprintf(file, "libvuser: %s\n", vuser_version());
    fprintf(file, "backend: %s\n", info.backend);
    fprintf(file, "attached: %u\n", info.attached);
    fprintf(file, "reconnects: %" PRIu64 "\n", info.reconnects);
    fprintf(file, "path: %s\n", path);
    fprintf(file, "device_features: 0x%" PRIx64 "\n", info.device_features);
    fprintf(file, "features: 0x%" PRIx64 "\n", info.features);
    fprintf(file, "protocol_features: 0x%" PRIx64 "\n", info.protocol_features);
    fprintf(file, "offloads: 0x%" PRIx64 "\n", info.offloads);
    fprintf(file, "status: 0x%x\n", info.status);
    fprintf(file, "vtnet_hdr_size: %u\n", info.hdr_len);
    fprintf(file, "max_mtu: %u\n", port->max_mtu);
    fprintf(file, "max_queue_pairs: %u\n", info.max_queue_pairs);
    fprintf(file, "queue_pairs: %u of %u\n", info.queue_pairs_used, info.queue_pairs);
    fprintf(file, "queue_size: %u\n", info.queue_size);
    fprintf(file, "bounce: %d\n", port->bouncing);
    fprintf(file, "vlan_filter: %d\n", port->filtering);
    fprintf(file, "memory_runs: %u\n", port->memory.n);
    return 0;
}
