/* The DPDK driver over libvuser: what its files share.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 *
 * The receive and the transmit burst are the library's: a `struct vuser_mbuf` is laid out as a `struct rte_mbuf`
 * (vuser_layout.h has it proved), and ethdev's queue pointer is the library's queue. All that is here is control.
 */
#ifndef VUSER_PMD_H
#define VUSER_PMD_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_version.h>
#include <rte_ethdev.h>
#include <rte_mempool.h>
#include <ethdev_driver.h>
#include <ethdev_vdev.h>
#include <bus_vdev_driver.h>

#include <vuser.h>

#define VUSER_DRIVER "net_vuser"
/* What VUSER_CLAIM_VIRTIO_USER=1 serves beside it. */
#define VUSER_CLAIMED "net_virtio_user"
#define VUSER_CLAIMED_ALIAS "virtio_user"

#define VUSER_MAX_PAIRS 128
#define VUSER_MAX_MAC_ADDRS 64
#define VUSER_MAX_MULTICAST 64
/* Largest frame, as DPDK's virtio has it. */
#define VUSER_MAX_FRAME 9728
/* Segments of a packet that is sent, as the library has it. */
#define VUSER_MAX_SEGMENTS 64

/* Regions that every vhost-user back-end takes, one of which are the rings. */
#define VUSER_REGIONS_OF_ANY 8

/* What ethdev counts the used descriptors of a queue in. */
#if RTE_VERSION >= RTE_VERSION_NUM(25, 11, 0, 0)
typedef int vuser_count;
#else
typedef uint32_t vuser_count;
#endif

extern int vuser_logtype;

#define VUSER_LOG(level, fmt, ...) \
    rte_log(RTE_LOG_ ## level, vuser_logtype, "vuser: " fmt "\n", ##__VA_ARGS__)

struct vuser_port;

/* A receive queue. The library's queue calls back with it, so that it stays until the device has gone. */
struct vuser_rxq {
    struct vuser_queue *queue;
    struct vuser_port *port;
    struct rte_mempool *pool;      /* NULL: not set up, or released. */
    uint16_t id;
    uint16_t nb_desc;
    bool deferred;
    uint64_t no_mbuf;              /* Bounced frames for which the application's pool had no buffer. */
};

/* A transmit queue. */
struct vuser_txq {
    struct vuser_queue *queue;
    struct vuser_port *port;
    uint16_t id;
    uint16_t nb_desc;
    bool set_up;
    bool deferred;
    bool refused;                  /* A pool was refused, and that was said. */
};

/* Whether frames are copied between the application's buffers and buffers of ours. */
enum vuser_bounce {
    VUSER_BOUNCE_AUTO,             /* When the application's memory can't be shared. */
    VUSER_BOUNCE_NEVER,
    VUSER_BOUNCE_ALWAYS,
};

/* A run of the application's memory that the device is told of. */
struct vuser_run {
    uintptr_t addr;
    size_t len;
    size_t gone;                   /* Bytes that have been freed. */
};

struct vuser_memory {
    struct vuser_run *runs;
    unsigned int n;
    unsigned int room;
    bool following;                /* The EAL tells us of allocations and frees. */
    int error;                     /* The first error of the library's while runs were added. */
};

/* Entries of the longest table of queues, as ethdev has it. */
#define VUSER_MAX_RETA 512

/* The hash of received frames. */
struct vuser_rss_state {
    uint64_t possible;             /* RTE_ETH_RSS_*; 0: nothing can be chosen. */
    uint64_t wanted;
    uint8_t key[40];
    uint16_t table_len;            /* 0: the device does not spread frames. */
    uint16_t table[VUSER_MAX_RETA];
};

/* A port. It is ethdev's dev_private. */
struct vuser_port {
    struct vuser_dev *dev;         /* NULL: a reset found no back-end. */
    struct rte_eth_dev *eth;
    struct vuser_config config;
    uint16_t id;
    uint64_t features;             /* What the back-end offers. */
    uint64_t rx_capa;
    uint64_t tx_capa;
    uint16_t max_mtu;
    enum vuser_bounce bounce;      /* As the devargs have it. */
    bool bouncing;                 /* As it is since the last start. */
    bool filtering;                /* VLAN filter. */
    bool strip;                    /* VLAN tags are to be taken out ... */
    bool strip_at_start;           /* ... and whether the library does it. */
    bool link_down;                /* Set down by the application. */
    struct rte_ether_addr unicast[VUSER_MAX_MAC_ADDRS]; /* Further addresses; zero: none. */
    struct rte_ether_addr multicast[VUSER_MAX_MULTICAST];
    uint16_t n_multicast;
    struct vuser_rss_state rss;
    struct vuser_pool *pool;       /* Buffers to bounce through. */
    struct vuser_memory memory;
    struct vuser_rxq rxq[VUSER_MAX_PAIRS];
    struct vuser_txq txq[VUSER_MAX_PAIRS];
};

static inline struct vuser_port *
vuser_port(const struct rte_eth_dev *eth)
{
    return eth->data->dev_private;
}

/* Logs what the library has to say about its last error, and returns the error. */
int vuser_failed(const struct vuser_port *port, const char *what, int error);

/* vuser_driver.c */
int vuser_probe(struct rte_vdev_device *vdev);
int vuser_remove(struct rte_vdev_device *vdev);

/* vuser_devargs.c */
int vuser_devargs_parse(struct vuser_port *port, const char *args);

/* vuser_log.c */
void vuser_log_init(void);
void vuser_log_follow(void);
void vuser_log_attempt(bool on);

/* vuser_claim.c */
void vuser_claim_init(void);
bool vuser_is_claimed(const char *name);

/* vuser_ethdev.c */
extern const struct eth_dev_ops vuser_ops;
extern const struct eth_dev_ops vuser_bounce_ops;
int vuser_port_open(struct vuser_port *port);
void vuser_port_close(struct vuser_port *port);
void vuser_set_bursts(struct rte_eth_dev *eth);

/* vuser_configure.c */
int vuser_learn(struct vuser_port *port);
int vuser_set_offloads(struct vuser_port *port);
int vuser_configure(struct rte_eth_dev *eth);

/* vuser_start.c */
int vuser_start(struct rte_eth_dev *eth);
int vuser_stop(struct rte_eth_dev *eth);

/* vuser_info.c */
int vuser_infos_get(struct rte_eth_dev *eth, struct rte_eth_dev_info *info);
int vuser_fw_version_get(struct rte_eth_dev *eth, char *text, size_t size);
int vuser_priv_dump(struct rte_eth_dev *eth, FILE *file);
void vuser_rxq_info_get(struct rte_eth_dev *eth, uint16_t id, struct rte_eth_rxq_info *info);
void vuser_txq_info_get(struct rte_eth_dev *eth, uint16_t id, struct rte_eth_txq_info *info);
int vuser_rx_burst_mode_get(struct rte_eth_dev *eth, uint16_t id, struct rte_eth_burst_mode *mode);
int vuser_tx_burst_mode_get(struct rte_eth_dev *eth, uint16_t id, struct rte_eth_burst_mode *mode);
void vuser_path_name(struct vuser_port *port, char *text, size_t size);

/* vuser_queue.c */
int vuser_rx_setup(struct rte_eth_dev *eth, uint16_t id, uint16_t nb_desc, unsigned int socket,
                   const struct rte_eth_rxconf *conf, struct rte_mempool *pool);
int vuser_tx_setup(struct rte_eth_dev *eth, uint16_t id, uint16_t nb_desc, unsigned int socket,
                   const struct rte_eth_txconf *conf);
void vuser_rx_give_up(struct rte_eth_dev *eth, uint16_t id);
void vuser_tx_give_up(struct rte_eth_dev *eth, uint16_t id);
int vuser_queues_attach(struct vuser_port *port);
void vuser_queues_forget(struct vuser_port *port);
int vuser_rx_start(struct rte_eth_dev *eth, uint16_t id);
int vuser_rx_stop(struct rte_eth_dev *eth, uint16_t id);
int vuser_tx_start(struct rte_eth_dev *eth, uint16_t id);
int vuser_tx_stop(struct rte_eth_dev *eth, uint16_t id);
vuser_count vuser_rx_count(void *queue);
int vuser_rx_status(void *queue, uint16_t offset);
int vuser_tx_status(void *queue, uint16_t offset);
int vuser_tx_cleanup(void *queue, uint32_t n);
int vuser_monitor_addr(void *queue, struct rte_power_monitor_cond *cond);

/* vuser_source.c */
void vuser_rx_source(struct vuser_rxq *rxq, struct vuser_mbuf_source *source);
void vuser_tx_source(struct vuser_txq *txq, struct vuser_mbuf_source *source);

/* vuser_memory.c */
int vuser_memory_share(struct vuser_port *port);
void vuser_memory_unshare(struct vuser_port *port);
bool vuser_memory_holds(struct vuser_port *port, struct rte_mempool *pool);

/* vuser_bounce.c */
int vuser_bounce_init(struct vuser_port *port);
void vuser_bounce_fini(struct vuser_port *port);
uint16_t vuser_bounce_rx(void *rxq, struct rte_mbuf **mbufs, uint16_t n);
uint16_t vuser_bounce_tx(void *txq, struct rte_mbuf **mbufs, uint16_t n);
uint16_t vuser_bounce_prepare(void *txq, struct rte_mbuf **mbufs, uint16_t n);
vuser_count vuser_bounce_count(void *rxq);
int vuser_bounce_rx_status(void *rxq, uint16_t offset);
int vuser_bounce_tx_status(void *txq, uint16_t offset);
int vuser_bounce_cleanup(void *txq, uint32_t n);
int vuser_bounce_monitor(void *rxq, struct rte_power_monitor_cond *cond);

/* vuser_filter.c */
bool vuser_gives_all(struct vuser_port *port);
int vuser_promiscuous_enable(struct rte_eth_dev *eth);
int vuser_promiscuous_disable(struct rte_eth_dev *eth);
int vuser_allmulticast_enable(struct rte_eth_dev *eth);
int vuser_allmulticast_disable(struct rte_eth_dev *eth);
int vuser_mac_addr_add(struct rte_eth_dev *eth, struct rte_ether_addr *addr, uint32_t index, uint32_t pool);
void vuser_mac_addr_remove(struct rte_eth_dev *eth, uint32_t index);
int vuser_mac_addr_set(struct rte_eth_dev *eth, struct rte_ether_addr *addr);
int vuser_set_mc_addr_list(struct rte_eth_dev *eth, struct rte_ether_addr *addrs, uint32_t n);

/* vuser_rss.c */
void vuser_rss_learn(struct vuser_port *port);
void vuser_rss_info(const struct vuser_port *port, struct rte_eth_dev_info *info);
int vuser_rss_configure(struct rte_eth_dev *eth);
int vuser_rss_hash_update(struct rte_eth_dev *eth, struct rte_eth_rss_conf *conf);
int vuser_rss_hash_conf_get(struct rte_eth_dev *eth, struct rte_eth_rss_conf *conf);
int vuser_reta_update(struct rte_eth_dev *eth, struct rte_eth_rss_reta_entry64 *entries, uint16_t size);
int vuser_reta_query(struct rte_eth_dev *eth, struct rte_eth_rss_reta_entry64 *entries, uint16_t size);

/* vuser_vlan.c */
bool vuser_revises(const struct vuser_port *port);
uint16_t vuser_revise(const struct vuser_port *port, struct rte_mbuf **mbufs, uint16_t n);
uint16_t vuser_revised_rx(void *queue, struct rte_mbuf **mbufs, uint16_t n);
int vuser_vlan_filter_set(struct rte_eth_dev *eth, uint16_t id, int on);
int vuser_vlan_offload_set(struct rte_eth_dev *eth, int mask);

/* vuser_stats.c */
#if RTE_VERSION >= RTE_VERSION_NUM(25, 11, 0, 0)
int vuser_stats_get(struct rte_eth_dev *eth, struct rte_eth_stats *stats, struct eth_queue_stats *queues);
#else
int vuser_stats_get(struct rte_eth_dev *eth, struct rte_eth_stats *stats);
#endif
int vuser_stats_reset(struct rte_eth_dev *eth);
int vuser_xstats_get(struct rte_eth_dev *eth, struct rte_eth_xstat *stats, unsigned int n);
int vuser_xstats_names(struct rte_eth_dev *eth, struct rte_eth_xstat_name *names, unsigned int n);

/* vuser_intr.c */
int vuser_intr_start(struct rte_eth_dev *eth);
void vuser_intr_stop(struct rte_eth_dev *eth);
int vuser_rx_intr_enable(struct rte_eth_dev *eth, uint16_t id);
int vuser_rx_intr_disable(struct rte_eth_dev *eth, uint16_t id);
int vuser_link_update(struct rte_eth_dev *eth, int wait);

/* vuser_telemetry.c */
void vuser_telemetry_init(void);

#endif
