/* Receiving with a second look: VLAN filter, and stripping that has been changed while the port runs. In software, and only
 * as long as one of them is wanted.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#include <rte_ether.h>
#include <rte_mbuf.h>

#include "vuser_pmd.h"

/* The VLAN of a frame; -1 for none. */
static int
vlan_of(const struct rte_mbuf *m)
{
    const struct rte_ether_hdr *ether = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
    const struct rte_vlan_hdr *vlan = (const struct rte_vlan_hdr *)(ether + 1);

    if (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED)
        return m->vlan_tci & 0xfff;
    if (ether->ether_type != RTE_BE16(RTE_ETHER_TYPE_VLAN) || m->data_len < sizeof(*ether) + sizeof(*vlan))
        return -1;
    return rte_be_to_cpu_16(vlan->vlan_tci) & 0xfff;
}

/* Untagged frames pass, as they do in hardware. */
static bool
passes(const struct rte_eth_dev_data *data, const struct rte_mbuf *m)
{
    int vlan = vlan_of(m);

    return vlan < 0 || data->vlan_filter_conf.ids[vlan / 64] & (UINT64_C(1) << (vlan % 64));
}

/* Frees what the filter does not let through; how many are left. */
static uint16_t
filter(const struct rte_eth_dev_data *data, struct rte_mbuf **mbufs, uint16_t n)
{
    uint16_t i, kept = 0;

    for (i = 0; i < n; i++) {
        if (passes(data, mbufs[i]))
            mbufs[kept++] = mbufs[i];
        else
            rte_pktmbuf_free(mbufs[i]);
    }
    return kept;
}

/* Tags are taken out by the library, or not, as it was at the start; when that has changed since, it is made good here. */
static void
change_tags(struct rte_mbuf **mbufs, uint16_t n, bool strip)
{
    uint16_t i;

    for (i = 0; i < n; i++) {
        if (strip) {
            rte_vlan_strip(mbufs[i]);
        } else if (mbufs[i]->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED && rte_vlan_insert(&mbufs[i]) == 0) {
            mbufs[i]->ol_flags &= ~(RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED);
            mbufs[i]->vlan_tci = 0;
        }
    }
}

/* Whether received frames must be looked at again. */
bool
vuser_revises(const struct vuser_port *port)
{
    return port->filtering || port->strip != port->strip_at_start;
}

/* Looks at received frames again; how many are left. */
uint16_t
vuser_revise(const struct vuser_port *port, struct rte_mbuf **mbufs, uint16_t n)
{
    if (port->strip != port->strip_at_start)
        change_tags(mbufs, n, port->strip);
    return port->filtering ? filter(port->eth->data, mbufs, n) : n;
}

uint16_t
vuser_revised_rx(void *queue, struct rte_mbuf **mbufs, uint16_t n)
{
    n = vuser_rx_burst(queue, (struct vuser_mbuf **)mbufs, n);
    /* The queue is the library's, and says nothing of us; its frames say which port they came in by. */
    return n == 0 ? 0 : vuser_revise(vuser_port(&rte_eth_devices[mbufs[0]->port]), mbufs, n);
}

/* ethdev keeps the table, which is what the burst looks at. */
int
vuser_vlan_filter_set(struct rte_eth_dev *eth, uint16_t id, int on)
{
    (void)eth;
    (void)id;
    (void)on;
    return 0;
}

int
vuser_vlan_offload_set(struct rte_eth_dev *eth, int mask)
{
    struct vuser_port *port = vuser_port(eth);
    const uint64_t offloads = eth->data->dev_conf.rxmode.offloads;

    (void)mask;
    port->filtering = offloads & RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
    port->strip = offloads & RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
    if (!eth->data->dev_started)
        return 0;
    vuser_set_bursts(eth);
    rte_eth_fp_ops[port->id].rx_pkt_burst = eth->rx_pkt_burst;
    return 0;
}
