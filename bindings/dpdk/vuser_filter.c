/* Which frames a port asks for: modes and addresses.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 *
 * A device with a control queue filters by address; any other gives all that comes, which is as much as was asked for and
 * more: for it ethdev only remembers.
 */
#include <errno.h>
#include <string.h>

#include "vuser_pmd.h"

/* A device that can't filter has done what it was asked for. */
static int
outcome(const struct vuser_port *port, const char *what, int ret)
{
    return ret == 0 || ret == -ENOTSUP ? 0 : vuser_failed(port, what, ret);
}

/* Whether all frames come, whatever is asked for. */
bool
vuser_gives_all(struct vuser_port *port)
{
    return vuser_dev_set_promiscuous(port->dev, 0) == -ENOTSUP;
}

static int
set_promiscuous(struct rte_eth_dev *eth, int on)
{
    struct vuser_port *port = vuser_port(eth);

    return port->dev == NULL ? -ENODEV : outcome(port, "promiscuous", vuser_dev_set_promiscuous(port->dev, on));
}

static int
set_allmulticast(struct rte_eth_dev *eth, int on)
{
    struct vuser_port *port = vuser_port(eth);

    return port->dev == NULL ? -ENODEV : outcome(port, "allmulticast", vuser_dev_set_allmulticast(port->dev, on));
}

int
vuser_promiscuous_enable(struct rte_eth_dev *eth)
{
    return set_promiscuous(eth, 1);
}

int
vuser_promiscuous_disable(struct rte_eth_dev *eth)
{
    return set_promiscuous(eth, 0);
}

int
vuser_allmulticast_enable(struct rte_eth_dev *eth)
{
    return set_allmulticast(eth, 1);
}

int
vuser_allmulticast_disable(struct rte_eth_dev *eth)
{
    return set_allmulticast(eth, 0);
}

/* Tells the device all addresses but the first, which is the port's own. */
static int
tell_addresses(struct vuser_port *port)
{
    struct rte_ether_addr all[VUSER_MAX_MAC_ADDRS + VUSER_MAX_MULTICAST];
    uint16_t i, n = 0;

    if (port->dev == NULL)
        return -ENODEV;
    for (i = 1; i < VUSER_MAX_MAC_ADDRS; i++)
        if (!rte_is_zero_ether_addr(&port->unicast[i]))
            all[n++] = port->unicast[i];
    memcpy(&all[n], port->multicast, port->n_multicast * sizeof(all[0]));
    n += port->n_multicast;
    return outcome(port, "addresses", vuser_dev_set_addresses(port->dev, all[0].addr_bytes, n));
}

int
vuser_mac_addr_add(struct rte_eth_dev *eth, struct rte_ether_addr *addr, uint32_t index, uint32_t pool)
{
    struct vuser_port *port = vuser_port(eth);
    struct rte_ether_addr before;
    int ret;

    (void)pool;
    if (index >= VUSER_MAX_MAC_ADDRS)
        return -EINVAL;
    before = port->unicast[index];
    port->unicast[index] = *addr;
    ret = tell_addresses(port);
    if (ret != 0)
        port->unicast[index] = before;
    return ret;
}

void
vuser_mac_addr_remove(struct rte_eth_dev *eth, uint32_t index)
{
    struct vuser_port *port = vuser_port(eth);

    if (index >= VUSER_MAX_MAC_ADDRS)
        return;
    memset(&port->unicast[index], 0, sizeof(port->unicast[index]));
    tell_addresses(port);
}

int
vuser_mac_addr_set(struct rte_eth_dev *eth, struct rte_ether_addr *addr)
{
    struct vuser_port *port = vuser_port(eth);
    int ret = port->dev == NULL ? -ENODEV : vuser_dev_set_mac(port->dev, addr->addr_bytes);

    if (ret != 0)
        return vuser_failed(port, "MAC address", ret);
    memcpy(port->config.mac, addr->addr_bytes, RTE_ETHER_ADDR_LEN);
    return 0;
}

int
vuser_set_mc_addr_list(struct rte_eth_dev *eth, struct rte_ether_addr *addrs, uint32_t n)
{
    struct vuser_port *port = vuser_port(eth);

    if (n > VUSER_MAX_MULTICAST)
        return -ENOSPC;
    if (n > 0)
        memcpy(port->multicast, addrs, n * sizeof(addrs[0]));
    port->n_multicast = n;
    return tell_addresses(port);
}
