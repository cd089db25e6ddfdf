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

const struct command rss_commands[] = {{"rss", rss}, {"hashes", hashes}, {NULL, NULL}};
