/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* Life of a port, and what it says of itself. */
#include "port.h"

#include <stdlib.h>
#include <string.h>

#include <rte_dev.h>
#include <rte_errno.h>

uint16_t port_of(struct args *args)
{
    return (uint16_t)number(args, "port", RTE_MAX_ETHPORTS);
}

static bool said(int rc, const char *what)
{
    return rc == 0 || fail("%s: %d %s", what, rc, rte_strerror(-rc));
}

static bool attach(struct args *args)
{
    const char *name = text(args, "name", ""), *devargs = text(args, "args", "");
    int rc = rte_eal_hotplug_add("vdev", name, devargs);
    uint16_t port;

    if (!said(rc, "rte_eal_hotplug_add") || !said(rte_eth_dev_get_port_by_name(name, &port), "no port of that name"))
        return false;
    field("port", "%u", port);
    return true;
}

static bool close_port(struct args *args)
{
    return said(rte_eth_dev_close(port_of(args)), "rte_eth_dev_close");
}

static bool detach(struct args *args)
{
    const char *name = text(args, "name", "");

    return said(rte_eal_hotplug_remove("vdev", name), "rte_eal_hotplug_remove");
}

static struct rte_eth_conf configuration(struct args *args)
{
    struct rte_eth_conf conf = {0};

    conf.rxmode.offloads = number(args, "rxo", 0);
    conf.txmode.offloads = number(args, "txo", 0);
    conf.rxmode.mtu = (uint32_t)number(args, "mtu", 0);
    conf.rx_adv_conf.rss_conf.rss_hf = number(args, "rss", 0);
    conf.rxmode.mq_mode = conf.rx_adv_conf.rss_conf.rss_hf != 0 ? RTE_ETH_MQ_RX_RSS : RTE_ETH_MQ_RX_NONE;
    conf.intr_conf.lsc = number(args, "lsc", 0) != 0;
    conf.intr_conf.rxq = number(args, "rxi", 0) != 0;
    return conf;
}

/* Queues too, so that what follows is a start. */
static bool configure(struct args *args)
{
    uint16_t port = port_of(args);
    uint16_t rxq = (uint16_t)number(args, "rxq", 1), txq = (uint16_t)number(args, "txq", rxq);
    uint16_t rxd = (uint16_t)number(args, "rxd", 256), txd = (uint16_t)number(args, "txd", 256);
    struct rte_eth_conf conf = configuration(args);
    struct rte_mempool *pool = pool_named(text(args, "pool", "port"));
    uint64_t deferred = number(args, "deferred", 0);
    struct rte_eth_dev_info info;
    struct rte_eth_rxconf rx;
    struct rte_eth_txconf tx;

    if (pool == NULL || !said(rte_eth_dev_configure(port, rxq, txq, &conf), "rte_eth_dev_configure") ||
        !said(rte_eth_dev_adjust_nb_rx_tx_desc(port, &rxd, &txd), "rte_eth_dev_adjust_nb_rx_tx_desc") ||
        !said(rte_eth_dev_info_get(port, &info), "rte_eth_dev_info_get"))
        return false;
    rx = info.default_rxconf;
    rx.offloads = conf.rxmode.offloads;
    rx.rx_deferred_start = deferred != 0;
    tx = info.default_txconf;
    tx.offloads = conf.txmode.offloads;
    tx.tx_deferred_start = deferred != 0;
    tx.tx_free_thresh = (uint16_t)number(args, "free_thresh", tx.tx_free_thresh);
    for (uint16_t q = 0; q < rxq; q++)
        if (!said(rte_eth_rx_queue_setup(port, q, rxd, SOCKET_ID_ANY, &rx, pool), "rte_eth_rx_queue_setup"))
            return false;
    for (uint16_t q = 0; q < txq; q++)
        if (!said(rte_eth_tx_queue_setup(port, q, txd, SOCKET_ID_ANY, &tx), "rte_eth_tx_queue_setup"))
            return false;
    field("rxd", "%u", rxd);
    field("txd", "%u", txd);
    return true;
}

static bool start(struct args *args)
{
    return said(rte_eth_dev_start(port_of(args)), "rte_eth_dev_start");
}

static bool stop(struct args *args)
{
    return said(rte_eth_dev_stop(port_of(args)), "rte_eth_dev_stop");
}

static bool reset(struct args *args)
{
    return said(rte_eth_dev_reset(port_of(args)), "rte_eth_dev_reset");
}

static bool queue(struct args *args)
{
    uint16_t port = port_of(args), q = (uint16_t)number(args, "queue", 0);
    bool rx = strcmp(text(args, "side", "rx"), "rx") == 0, up = number(args, "up", 1) != 0;

    if (rx)
        return said(up ? rte_eth_dev_rx_queue_start(port, q) : rte_eth_dev_rx_queue_stop(port, q), "rx queue");
    return said(up ? rte_eth_dev_tx_queue_start(port, q) : rte_eth_dev_tx_queue_stop(port, q), "tx queue");
}

/* The link, after `up=` 0 or 1 was asked for, if it was, and `wait` milliseconds at most for `until`. */
static bool link_of(struct args *args)
{
    uint16_t port = port_of(args);
    const char *up = text(args, "up", NULL), *until = text(args, "until", NULL);
    double end = now() + (double)number(args, "wait", 0) / 1e3;
    struct rte_eth_link link;

    if (up != NULL &&
        !said(up[0] == '1' ? rte_eth_dev_set_link_up(port) : rte_eth_dev_set_link_down(port), "set link"))
        return false;
    do {
        if (!said(rte_eth_link_get_nowait(port, &link), "rte_eth_link_get_nowait"))
            return false;
    } while (until != NULL && link.link_status != (until[0] == '1') && now() < end);
    field("up", "%u", link.link_status);
    field("speed", "%u", link.link_speed);
    return true;
}

static bool info(struct args *args)
{
    uint16_t port = port_of(args), mtu = 0;
    struct rte_eth_dev_info info;
    char name[RTE_ETH_NAME_MAX_LEN], firmware[64] = "";
    struct rte_ether_addr mac;

    if (!said(rte_eth_dev_info_get(port, &info), "rte_eth_dev_info_get") ||
        !said(rte_eth_dev_get_name_by_port(port, name), "rte_eth_dev_get_name_by_port"))
        return false;
    rte_eth_dev_get_mtu(port, &mtu);
    rte_eth_macaddr_get(port, &mac);
    rte_eth_dev_fw_version_get(port, firmware, sizeof(firmware));
    field("name", "%s", name);
    field("driver", "%s", info.driver_name);
    field("max_rxq", "%u", info.max_rx_queues);
    field("max_txq", "%u", info.max_tx_queues);
    field("rx_capa", "0x%" PRIx64, info.rx_offload_capa);
    field("tx_capa", "0x%" PRIx64, info.tx_offload_capa);
    field("rx_desc", "%u..%u/%u", info.rx_desc_lim.nb_min, info.rx_desc_lim.nb_max, info.rx_desc_lim.nb_align);
    field("segments", "%u", info.tx_desc_lim.nb_seg_max);
    field("mtu", "%u", mtu);
    field("mac", RTE_ETHER_ADDR_PRT_FMT, RTE_ETHER_ADDR_BYTES(&mac));
    field("firmware", "%s", firmware);
    return true;
}

static bool mode(struct args *args)
{
    uint16_t port = port_of(args), q = (uint16_t)number(args, "queue", 0);
    struct rte_eth_burst_mode rx, tx;

    if (!said(rte_eth_rx_burst_mode_get(port, q, &rx), "rte_eth_rx_burst_mode_get") ||
        !said(rte_eth_tx_burst_mode_get(port, q, &tx), "rte_eth_tx_burst_mode_get"))
        return false;
    field("rx", "%s", rx.info);
    field("tx", "%s", tx.info);
    return true;
}

static bool dump(struct args *args)
{
    uint16_t port = port_of(args);
    char *dumped = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&dumped, &length);
    int rc = rte_eth_dev_priv_dump(port, file);

    fclose(file);
    for (char *c = dumped; *c != '\0'; c++)
        if (*c == '\n' || *c == '\t')
            *c = ';';
    field("text", "%s", dumped);
    free(dumped);
    return said(rc, "rte_eth_dev_priv_dump");
}

static bool stats(struct args *args)
{
    struct rte_eth_stats stats;

    if (!said(rte_eth_stats_get(port_of(args), &stats), "rte_eth_stats_get"))
        return false;
    field("ipackets", "%" PRIu64, stats.ipackets);
    field("opackets", "%" PRIu64, stats.opackets);
    field("ibytes", "%" PRIu64, stats.ibytes);
    field("obytes", "%" PRIu64, stats.obytes);
    field("imissed", "%" PRIu64, stats.imissed);
    field("ierrors", "%" PRIu64, stats.ierrors);
    field("oerrors", "%" PRIu64, stats.oerrors);
    field("rx_nombuf", "%" PRIu64, stats.rx_nombuf);
    return true;
}

static bool xstats(struct args *args)
{
    uint16_t port = port_of(args);
    int count = rte_eth_xstats_get_names(port, NULL, 0);
    struct rte_eth_xstat_name *names = calloc((size_t)count + 1, sizeof(*names));
    struct rte_eth_xstat *values = calloc((size_t)count + 1, sizeof(*values));
    bool good = count >= 0 && rte_eth_xstats_get_names(port, names, (unsigned)count) == count &&
                rte_eth_xstats_get(port, values, (unsigned)count) == count;

    for (int i = 0; good && i < count; i++)
        field(names[values[i].id].name, "%" PRIu64, values[i].value);
    free(names);
    free(values);
    return good || fail("xstats: there are %d by one call and not by another", count);
}

static bool clear(struct args *args)
{
    uint16_t port = port_of(args);

    return said(rte_eth_stats_reset(port), "rte_eth_stats_reset") &&
           said(rte_eth_xstats_reset(port), "rte_eth_xstats_reset");
}

/* State of a descriptor, as DPDK numbers it, and how many are done. */
static bool status(struct args *args)
{
    uint16_t port = port_of(args), q = (uint16_t)number(args, "queue", 0), at = (uint16_t)number(args, "at", 0);

    field("rx", "%d", rte_eth_rx_descriptor_status(port, q, at));
    field("tx", "%d", rte_eth_tx_descriptor_status(port, q, at));
    field("count", "%d", rte_eth_rx_queue_count(port, q));
    return true;
}

static bool cleanup(struct args *args)
{
    uint16_t port = port_of(args), q = (uint16_t)number(args, "queue", 0);
    int freed = rte_eth_tx_done_cleanup(port, q, (uint32_t)number(args, "most", 0));

    field("freed", "%d", freed);
    return freed >= 0 || said(freed, "rte_eth_tx_done_cleanup");
}

static bool vlan(struct args *args)
{
    uint16_t port = port_of(args);

    return said(rte_eth_dev_vlan_filter(port, (uint16_t)number(args, "id", 0), number(args, "on", 1) != 0),
                "rte_eth_dev_vlan_filter");
}

/* The calls of a port's life that change nothing on the way to the device, one after the other. */
static bool small_calls(struct args *args)
{
    uint16_t port = port_of(args);
    struct rte_ether_addr mac = {{2, 0, 0, 0, 0, 0x77}}, second = {{2, 0, 0, 0, 0, 0x78}};

    return said(rte_eth_promiscuous_enable(port), "promiscuous on") &&
           said(rte_eth_promiscuous_disable(port), "promiscuous off") &&
           said(rte_eth_allmulticast_enable(port), "allmulticast on") &&
           said(rte_eth_allmulticast_disable(port), "allmulticast off") &&
           said(rte_eth_dev_default_mac_addr_set(port, &mac), "MAC set") &&
           said(rte_eth_dev_mac_addr_add(port, &second, 0), "MAC add") &&
           said(rte_eth_dev_mac_addr_remove(port, &second), "MAC remove") &&
           said(rte_eth_dev_set_mtu(port, (uint16_t)number(args, "mtu", 1400)), "MTU");
}

const struct command port_commands[] = {
    {"attach", attach}, {"detach", detach}, {"close", close_port}, {"configure", configure},
    {"start", start},   {"stop", stop},     {"reset", reset},      {"queue", queue},
    {"link", link_of},  {"info", info},     {"mode", mode},        {"dump", dump},
    {"stats", stats},   {"xstats", xstats}, {"clear", clear},      {"status", status},
    {"cleanup", cleanup}, {"vlan", vlan},   {"small_calls", small_calls}, {NULL, NULL},
};
