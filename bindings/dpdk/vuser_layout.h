/* What the library takes for granted about DPDK's packet buffers. With another layout the driver does not compile.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#ifndef VUSER_LAYOUT_H
#define VUSER_LAYOUT_H

#include <assert.h>
#include <stddef.h>

#include <rte_mbuf.h>
#include <vuser.h>

#define SAME(theirs, ours) \
    static_assert(offsetof(struct rte_mbuf, theirs) == offsetof(struct vuser_mbuf, ours) && \
                  sizeof(((struct rte_mbuf *)0)->theirs) == sizeof(((struct vuser_mbuf *)0)->ours), \
                  "struct rte_mbuf is not laid out as libvuser knows it, beginning with " #theirs)

static_assert(sizeof(struct rte_mbuf) == sizeof(struct vuser_mbuf), "struct rte_mbuf has another size");
SAME(buf_addr, buf_addr);
SAME(buf_iova, buf_iova);
SAME(data_off, data_off);
SAME(refcnt, refcnt);
SAME(nb_segs, nb_segs);
SAME(port, port);
SAME(ol_flags, ol_flags);
SAME(packet_type, packet_type);
SAME(pkt_len, pkt_len);
SAME(data_len, data_len);
SAME(vlan_tci, vlan_tci);
SAME(hash.rss, hash_rss);
SAME(vlan_tci_outer, vlan_tci_outer);
SAME(buf_len, buf_len);
SAME(pool, pool);
SAME(next, next);
SAME(tx_offload, tx_offload);
SAME(shinfo, shinfo);
SAME(priv_size, priv_size);
#undef SAME

/* The words that are written at once: from rearm_data, and from rx_descriptor_fields1. */
static_assert(offsetof(struct rte_mbuf, rearm_data) == 16 && offsetof(struct rte_mbuf, data_off) == 16 &&
              offsetof(struct rte_mbuf, refcnt) == 18 && offsetof(struct rte_mbuf, nb_segs) == 20 &&
              offsetof(struct rte_mbuf, port) == 22 && offsetof(struct rte_mbuf, ol_flags) == 24,
              "the rearm words of struct rte_mbuf are others");
static_assert(offsetof(struct rte_mbuf, rx_descriptor_fields1) == 32 && offsetof(struct rte_mbuf, pkt_len) == 36 &&
              offsetof(struct rte_mbuf, data_len) == 40 && offsetof(struct rte_mbuf, vlan_tci) == 42 &&
              offsetof(struct rte_mbuf, hash) == 44, "the receive words of struct rte_mbuf are others");

static_assert(VUSER_MBUF_F_RX_VLAN == RTE_MBUF_F_RX_VLAN && VUSER_MBUF_F_RX_RSS_HASH == RTE_MBUF_F_RX_RSS_HASH &&
              VUSER_MBUF_F_RX_L4_CKSUM_BAD == RTE_MBUF_F_RX_L4_CKSUM_BAD &&
              VUSER_MBUF_F_RX_VLAN_STRIPPED == RTE_MBUF_F_RX_VLAN_STRIPPED &&
              VUSER_MBUF_F_RX_L4_CKSUM_GOOD == RTE_MBUF_F_RX_L4_CKSUM_GOOD &&
              VUSER_MBUF_F_RX_L4_CKSUM_NONE == RTE_MBUF_F_RX_L4_CKSUM_NONE &&
              VUSER_MBUF_F_RX_LRO == RTE_MBUF_F_RX_LRO, "receive flags are others");
static_assert(VUSER_MBUF_F_TX_UDP_SEG == RTE_MBUF_F_TX_UDP_SEG && VUSER_MBUF_F_TX_TCP_SEG == RTE_MBUF_F_TX_TCP_SEG &&
              VUSER_MBUF_F_TX_TCP_CKSUM == RTE_MBUF_F_TX_TCP_CKSUM &&
              VUSER_MBUF_F_TX_UDP_CKSUM == RTE_MBUF_F_TX_UDP_CKSUM &&
              VUSER_MBUF_F_TX_IP_CKSUM == RTE_MBUF_F_TX_IP_CKSUM && VUSER_MBUF_F_TX_IPV4 == RTE_MBUF_F_TX_IPV4 &&
              VUSER_MBUF_F_TX_IPV6 == RTE_MBUF_F_TX_IPV6 && VUSER_MBUF_F_TX_VLAN == RTE_MBUF_F_TX_VLAN,
              "transmit flags are others");
/* The library takes a packet with one of these for one whose data are not its own. */
static_assert(RTE_MBUF_F_EXTERNAL == UINT64_C(1) << 61 && RTE_MBUF_F_INDIRECT == UINT64_C(1) << 62,
              "the flags of borrowed buffers are others");
/* In tx_offload: from bit 0 l2_len 7 bits, l3_len 9, l4_len 8, tso_segsz 16. */
static_assert(RTE_MBUF_L2_LEN_BITS == 7 && RTE_MBUF_L3_LEN_BITS == 9 && RTE_MBUF_L4_LEN_BITS == 8 &&
              RTE_MBUF_TSO_SEGSZ_BITS == 16 && RTE_MBUF_L2_LEN_OFS == 0 && RTE_MBUF_L3_LEN_OFS == 7 &&
              RTE_MBUF_L4_LEN_OFS == 16 && RTE_MBUF_TSO_SEGSZ_OFS == 24, "tx_offload is laid out otherwise");

#endif
