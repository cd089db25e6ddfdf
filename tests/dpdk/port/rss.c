/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The hash of received frames, beside DPDK's own. */
#include "port.h"

#include <string.h>

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_thash.h>
#include <rte_udp.h>

#define KEY_LEN 40

/* Chooses what is hashed; with seed, by a key that is made of it. What the port then says. */
static bool rss(struct args *args)
{
    uint16_t port = port_of(args);
    uint64_t seed = number(args, "seed", 0);
    uint8_t key[KEY_LEN];
    struct rte_eth_rss_conf conf = {.rss_hf = number(args, "hf", 0)};
    int rc;

    for (unsigned k = 0; k < KEY_LEN; k++)
        key[k] = (uint8_t)((seed + k) * 0x9d >> 3);
    if (seed != 0) {
        conf.rss_key = key;
        conf.rss_key_len = KEY_LEN;
    }
    rc = rte_eth_dev_rss_hash_update(port, &conf);
    if (rc != 0)
        return fail("rte_eth_dev_rss_hash_update: %d", rc);
    conf = (struct rte_eth_rss_conf){.rss_key = key, .rss_key_len = KEY_LEN};
    rc = rte_eth_dev_rss_hash_conf_get(port, &conf);
    if (rc != 0)
        return fail("rte_eth_dev_rss_hash_conf_get: %d", rc);
    field("hf", "%#lx", (unsigned long)conf.rss_hf);
    return true;
}

/* Has frames come by the queues `from`, `from` + 1, ... of `queues` by turns of the table's entries; what the port then says. */
static bool reta(struct args *args)
{
    uint16_t port = port_of(args), queues = (uint16_t)number(args, "queues", 1), from = (uint16_t)number(args, "from", 0);
    struct rte_eth_rss_reta_entry64 entries[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE];
    struct rte_eth_dev_info info;
    unsigned wrong = 0;
    int rc;

    if (rte_eth_dev_info_get(port, &info) != 0 || info.reta_size == 0 || info.reta_size > RTE_ETH_RSS_RETA_SIZE_512)
        return fail("the port has no table");
    memset(entries, 0, sizeof(entries));
    for (uint16_t i = 0; i < info.reta_size; i++) {
        entries[i / RTE_ETH_RETA_GROUP_SIZE].mask = UINT64_MAX;
        entries[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] = from + i % queues;
    }
    rc = rte_eth_dev_rss_reta_update(port, entries, info.reta_size);
    if (rc != 0)
        return fail("rte_eth_dev_rss_reta_update: %d", rc);
    for (unsigned k = 0; k < RTE_DIM(entries); k++)
        memset(entries[k].reta, 0xff, sizeof(entries[k].reta));
    rc = rte_eth_dev_rss_reta_query(port, entries, info.reta_size);
    if (rc != 0)
        return fail("rte_eth_dev_rss_reta_query: %d", rc);
    for (uint16_t i = 0; i < info.reta_size; i++)
        wrong += entries[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] != from + i % queues;
    field("size", "%u", info.reta_size);
    field("wrong", "%u", wrong);
    return true;
}

/* DPDK's hash of a UDP or TCP frame over IPv4, with ports or without. */
static uint32_t expected(const struct rte_mbuf *m, const uint8_t *key, bool ports)
{
    const struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, sizeof(struct rte_ether_hdr));
    const struct rte_udp_hdr *udp = (const struct rte_udp_hdr *)(ip + 1);
    uint32_t words[3] = {rte_be_to_cpu_32(ip->src_addr), rte_be_to_cpu_32(ip->dst_addr),
                         (uint32_t)rte_be_to_cpu_16(udp->src_port) << 16 | rte_be_to_cpu_16(udp->dst_port)};

    return rte_softrss(words, ports ? 3 : 2, key);
}

/* Takes frames of IPv4; how many have the hash of addresses and ports, of addresses, another, none. */
static bool hashes(struct args *args)
{
    uint16_t port = port_of(args), queue = (uint16_t)number(args, "queue", 0), n;
    uint8_t key[KEY_LEN];
    struct rte_eth_rss_conf conf = {.rss_key = key, .rss_key_len = KEY_LEN};
    unsigned with_ports = 0, addresses = 0, wrong = 0, none = 0;
    struct rte_mbuf *got[MAX_BURST];

    if (rte_eth_dev_rss_hash_conf_get(port, &conf) != 0)
        return fail("rte_eth_dev_rss_hash_conf_get");
    while ((n = rte_eth_rx_burst(port, queue, got, MAX_BURST)) > 0) {
        for (uint16_t i = 0; i < n; i++) {
            if ((got[i]->ol_flags & RTE_MBUF_F_RX_RSS_HASH) == 0)
                none++;
            else if (got[i]->hash.rss == expected(got[i], key, true))
                with_ports++;
            else if (got[i]->hash.rss == expected(got[i], key, false))
                addresses++;
            else
                wrong++;
        }
        rte_pktmbuf_free_bulk(got, n);
    }
    field("ports", "%u", with_ports);
    field("addresses", "%u", addresses);
    field("wrong", "%u", wrong);
    field("none", "%u", none);
    return true;
}

const struct command rss_commands[] = {{"rss", rss}, {"reta", reta}, {"hashes", hashes}, {NULL, NULL}};
