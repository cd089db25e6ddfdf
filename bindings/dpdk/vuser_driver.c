/* The driver to the virtual device bus: registration, probe and remove.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vuser_layout.h"
#include "vuser_pmd.h"

#define PARAMS "path=<path> mac=<mac addr> cq=<int> queue_size=<int> queues=<int> iface=<string> server=<0|1> " \
    "mrg_rxbuf=<0|1> in_order=<0|1> packed_vq=<0|1> speed=<int> vectorized=<0|1> event_idx=<0|1> indirect=<0|1> " \
    "huge=<0|1> stats=<0|1> timeout_ms=<int> simd=<auto|scalar|avx2|avx512> server_wait_ms=<int> socket_mode=<octal> " \
    "reconnect=<0|1> reconnect_ms=<int> resend=<0|1> bounce=<0|1>"

/* Where dpdk-pmdinfo looks. */
static const char pmd_info[] =
    "PMD_INFO_STRING= {\"name\" : \"" VUSER_DRIVER "\", \"params\" : \"" PARAMS "\", \"pci_ids\" : []}";

static struct rte_vdev_driver vuser_vdev = {
    .driver = { .name = VUSER_DRIVER },
    .probe = vuser_probe,
    .remove = vuser_remove,
};

int
vuser_failed(const struct vuser_port *port, const char *what, int error)
{
    VUSER_LOG(ERR, "port %u: %s: %s", port->id, what, vuser_last_error());
    return error;
}

/* A port that is of no process yet. */
static struct rte_eth_dev *
allocate(struct rte_vdev_device *vdev)
{
    struct rte_eth_dev *eth = rte_eth_vdev_allocate(vdev, sizeof(struct vuser_port));
    struct vuser_port *port;

    if (eth == NULL) {
        VUSER_LOG(ERR, "%s: ethdev has no port left, or one of this name", rte_vdev_device_name(vdev));
        return NULL;
    }
    port = vuser_port(eth);
    port->eth = eth;
    port->id = eth->data->port_id;
    eth->data->mac_addrs = rte_zmalloc("vuser", VUSER_MAX_MAC_ADDRS * sizeof(struct rte_ether_addr), 0);
    if (eth->data->mac_addrs == NULL) {
        rte_eth_dev_release_port(eth);
        return NULL;
    }
    return eth;
}

static int
bring_up(struct rte_eth_dev *eth, const char *args)
{
    struct vuser_port *port = vuser_port(eth);
    int ret = vuser_devargs_parse(port, args);

    if (ret == 0)
        ret = vuser_port_open(port);
    if (ret != 0)
        return ret;
    memcpy(eth->data->mac_addrs[0].addr_bytes, port->config.mac, RTE_ETHER_ADDR_LEN);
    if (vuser_gives_all(port)) {
        eth->data->promiscuous = 1;
        eth->data->all_multicast = 1;
    }
    eth->data->dev_flags |= RTE_ETH_DEV_INTR_LSC;
    eth->data->dev_link.link_speed = port->config.speed;
    eth->data->dev_link.link_duplex = RTE_ETH_LINK_FULL_DUPLEX;
    eth->data->dev_link.link_autoneg = RTE_ETH_LINK_FIXED;
    eth->data->dev_link.link_status = RTE_ETH_LINK_DOWN;
    eth->dev_ops = &vuser_ops;
    vuser_set_bursts(eth);
    return 0;
}

int
vuser_probe(struct rte_vdev_device *vdev)
{
    const char *name = rte_vdev_device_name(vdev);
    const char *args = rte_vdev_device_args(vdev);
    struct rte_eth_dev *eth;
    int ret;

    vuser_log_follow();
    if (rte_eal_process_type() != RTE_PROC_PRIMARY) {
        VUSER_LOG(ERR, "%s: its connection and its rings are the primary process's; a secondary process can't use it",
                  name);
        return -ENOTSUP;
    }
    if (vuser_is_claimed(name))
        VUSER_LOG(NOTICE, "%s is served by %s, as VUSER_CLAIM_VIRTIO_USER has it", name, VUSER_DRIVER);
    eth = allocate(vdev);
    if (eth == NULL)
        return -ENOMEM;
    ret = bring_up(eth, args == NULL ? "" : args);
    if (ret != 0) {
        rte_eth_dev_release_port(eth);
        return ret;
    }
    rte_eth_dev_probing_finish(eth);
    return 0;
}

int
vuser_remove(struct rte_vdev_device *vdev)
{
    struct rte_eth_dev *eth = rte_eth_dev_allocated(rte_vdev_device_name(vdev));

    /* Closing the port has released it already. */
    if (eth == NULL || rte_eal_process_type() != RTE_PROC_PRIMARY)
        return 0;
    return rte_eth_dev_close(eth->data->port_id);
}

/* Whether this is the release that the driver was built for. The interface between DPDK and its drivers changes from one
 * release to the next without a change of the libraries' names. */
static bool
is_our_release(void)
{
    unsigned int year = 0, month = 0;

    if (sscanf(rte_version(), "%*[^0-9]%u.%u", &year, &month) == 2 && year == RTE_VER_YEAR && month == RTE_VER_MONTH)
        return true;
    fprintf(stderr, VUSER_DRIVER ": built for DPDK %u.%02u, loaded into %s: not registered; rebuild it (make pmd)\n",
            RTE_VER_YEAR, RTE_VER_MONTH, rte_version());
    return false;
}

/* Whatever happens here, the program that loads us goes on. */
RTE_INIT(vuser_init)
{
    /* Nobody reads it here, and the linker must keep it. */
    __asm__ volatile("" : : "r"(pmd_info));
    if (!is_our_release())
        return;
    vuser_log_init();
    rte_vdev_register(&vuser_vdev);
    vuser_claim_init();
    vuser_telemetry_init();
}
