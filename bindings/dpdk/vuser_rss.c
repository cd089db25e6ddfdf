/* The hash of received frames, and how they are spread over queues by it.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 *
 * Every port can have the hash (by the device, or by the library in the burst). Frames are spread by it only by a device with
 * a control queue; a vhost-user back-end chooses queues as it likes.
 */
#include <errno.h>
#include <string.h>

#include "vuser_pmd.h"

#define KEY_LEN 40

/* Microsoft's, which nearly everybody uses, and the library too unless it is given another. */
static const uint8_t default_key[KEY_LEN] = {
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
    0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

static const struct {
    uint64_t eth;
    uint32_t vuser;
} types[] = {
    { RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_OTHER, VUSER_HASH_IPV4 },
    { RTE_ETH_RSS_NONFRAG_IPV4_TCP, VUSER_HASH_TCPV4 },
    { RTE_ETH_RSS_NONFRAG_IPV4_UDP, VUSER_HASH_UDPV4 },
    { RTE_ETH_RSS_IPV6 | RTE_ETH_RSS_FRAG_IPV6 | RTE_ETH_RSS_NONFRAG_IPV6_OTHER, VUSER_HASH_IPV6 },
    { RTE_ETH_RSS_NONFRAG_IPV6_TCP, VUSER_HASH_TCPV6 },
    { RTE_ETH_RSS_NONFRAG_IPV6_UDP, VUSER_HASH_UDPV6 },
    { RTE_ETH_RSS_IPV6_EX, VUSER_HASH_IP_EX },
    { RTE_ETH_RSS_IPV6_TCP_EX, VUSER_HASH_TCP_EX },
    { RTE_ETH_RSS_IPV6_UDP_EX, VUSER_HASH_UDP_EX },
};

static uint64_t
to_eth(uint32_t vuser)
{
    uint64_t eth = 0;
    unsigned int i;

    for (i = 0; i < RTE_DIM(types); i++)
        if (vuser & types[i].vuser)
            eth |= types[i].eth;
    return eth;
}

static uint32_t
to_vuser(uint64_t eth)
{
    uint32_t vuser = 0;
    unsigned int i;

    for (i = 0; i < RTE_DIM(types); i++)
        if (eth & types[i].eth)
            vuser |= types[i].vuser;
    return vuser;
}

/* What the device makes possible. */
void
vuser_rss_learn(struct vuser_port *port)
{
    struct vuser_rss_limits limits = { .size = sizeof(limits) };
    struct vuser_rss_state *rss = &port->rss;

    memset(rss, 0, sizeof(*rss));
    memcpy(rss->key, default_key, sizeof(rss->key));
    if (vuser_dev_rss_limits(port->dev, &limits) != 0 || limits.key_len < KEY_LEN)
        return;
    rss->possible = to_eth(limits.types);
    /* ethdev knows tables by the 64 entries, to 512. */
    if (limits.table_len >= RTE_ETH_RETA_GROUP_SIZE)
        rss->table_len = (uint16_t)RTE_MIN(rte_align32prevpow2(limits.table_len), (uint32_t)VUSER_MAX_RETA);
}

void
vuser_rss_info(const struct vuser_port *port, struct rte_eth_dev_info *info)
{
    info->flow_type_rss_offloads = port->rss.possible;
    info->hash_key_size = port->rss.possible != 0 ? KEY_LEN : 0;
    info->reta_size = port->rss.table_len;
}

static int
apply(struct vuser_port *port)
{
    const struct vuser_rss_state *state = &port->rss;
    const struct vuser_rss rss = {
        .size = sizeof(rss),
        .types = to_vuser(state->wanted),
        .key = state->key,
        .key_len = KEY_LEN,
        .table = state->table_len != 0 ? state->table : NULL,
        .table_len = state->table_len,
    };
    int ret;

    if (port->dev == NULL)
        return -ENODEV;
    ret = vuser_dev_set_rss(port->dev, &rss);
    return ret == 0 ? 0 : vuser_failed(port, "RSS", ret);
}

static int
take(struct vuser_port *port, const struct rte_eth_rss_conf *conf)
{
    if (conf->rss_key != NULL && conf->rss_key_len != 0 && conf->rss_key_len != KEY_LEN) {
        VUSER_LOG(ERR, "port %u: an RSS key of %u bytes: it has %u", port->id, conf->rss_key_len, KEY_LEN);
        return -EINVAL;
    }
    if (conf->rss_key != NULL && conf->rss_key_len != 0)
        memcpy(port->rss.key, conf->rss_key, KEY_LEN);
    port->rss.wanted = conf->rss_hf & port->rss.possible;
    return 0;
}

/* What the configuration asks for. Without a word of RSS, now or before, nothing is told. */
int
vuser_rss_configure(struct rte_eth_dev *eth)
{
    struct vuser_port *port = vuser_port(eth);
    const struct rte_eth_rss_conf *conf = &eth->data->dev_conf.rx_adv_conf.rss_conf;
    const uint16_t queues = RTE_MAX(eth->data->nb_rx_queues, 1);
    const struct vuser_rss_state before = port->rss;
    uint16_t i;
    int ret;

    /* Also without a word of RSS: hash types alone may come later, by vuser_rss_hash_update. */
    for (i = 0; i < port->rss.table_len; i++)
        port->rss.table[i] = i % queues;
    if (!(eth->data->dev_conf.rxmode.mq_mode & RTE_ETH_MQ_RX_RSS_FLAG) || conf->rss_hf == 0) {
        if (before.wanted == 0)
            return 0;
        /* The library keeps what an earlier configuration asked for. */
        port->rss.wanted = 0;
        ret = apply(port);
        if (ret != 0)
            port->rss = before;
        return ret;
    }
    if (eth->data->nb_rx_queues > 1 && port->rss.table_len == 0)
        VUSER_LOG(NOTICE, "port %u: frames have their hash, but which of the queues they come by is the back-end's choice",
                  port->id);
    ret = take(port, conf);
    return ret == 0 ? apply(port) : ret;
}

int
vuser_rss_hash_update(struct rte_eth_dev *eth, struct rte_eth_rss_conf *conf)
{
    struct vuser_port *port = vuser_port(eth);
    const struct vuser_rss_state before = port->rss;
    int ret = take(port, conf);

    if (ret == 0)
        ret = apply(port);
    if (ret != 0)
        port->rss = before;
    return ret;
}

int
vuser_rss_hash_conf_get(struct rte_eth_dev *eth, struct rte_eth_rss_conf *conf)
{
    const struct vuser_port *port = vuser_port(eth);

    conf->rss_hf = port->rss.wanted;
    if (conf->rss_key != NULL && conf->rss_key_len >= KEY_LEN)
        memcpy(conf->rss_key, port->rss.key, KEY_LEN);
    conf->rss_key_len = KEY_LEN;
    return 0;
}

int
vuser_reta_update(struct rte_eth_dev *eth, struct rte_eth_rss_reta_entry64 *entries, uint16_t size)
{
    struct vuser_port *port = vuser_port(eth);
    const struct vuser_rss_state before = port->rss;
    uint16_t i;
    int ret;

    if (port->rss.table_len == 0)
        return -ENOTSUP;
    if (size != port->rss.table_len)
        return -EINVAL;
    for (i = 0; i < size; i++)
        if (entries[i / RTE_ETH_RETA_GROUP_SIZE].mask >> (i % RTE_ETH_RETA_GROUP_SIZE) & 1)
            port->rss.table[i] = entries[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
    ret = apply(port);
    if (ret != 0)
        port->rss = before;
    return ret;
}

int
vuser_reta_query(struct rte_eth_dev *eth, struct rte_eth_rss_reta_entry64 *entries, uint16_t size)
{
    const struct vuser_port *port = vuser_port(eth);
    uint16_t i;

    if (port->rss.table_len == 0)
        return -ENOTSUP;
    if (size != port->rss.table_len)
        return -EINVAL;
    for (i = 0; i < size; i++)
        if (entries[i / RTE_ETH_RETA_GROUP_SIZE].mask >> (i % RTE_ETH_RETA_GROUP_SIZE) & 1)
            entries[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] = port->rss.table[i];
    return 0;
}
