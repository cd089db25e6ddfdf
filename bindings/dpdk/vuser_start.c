/* How a port starts, on the application's own buffers if these can be shared, and how it stops.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#include <errno.h>

#include "vuser_pmd.h"

static void
set_queue_states(struct rte_eth_dev *eth, bool started)
{
    const struct vuser_port *port = vuser_port(eth);
    uint16_t i;

    for (i = 0; i < eth->data->nb_rx_queues; i++)
        eth->data->rx_queue_state[i] = started && !port->rxq[i].deferred ?
            RTE_ETH_QUEUE_STATE_STARTED : RTE_ETH_QUEUE_STATE_STOPPED;
    for (i = 0; i < eth->data->nb_tx_queues; i++)
        eth->data->tx_queue_state[i] = started && !port->txq[i].deferred ?
            RTE_ETH_QUEUE_STATE_STARTED : RTE_ETH_QUEUE_STATE_STOPPED;
}

/* Whether the device can reach the buffers of all receive queues. */
static bool
holds_receive_buffers(struct vuser_port *port)
{
    uint16_t i;

    for (i = 0; i < port->eth->data->nb_rx_queues; i++)
        if (port->rxq[i].pool != NULL && !vuser_memory_holds(port, port->rxq[i].pool))
            return false;
    return true;
}

static int
run(struct vuser_port *port)
{
    int ret = vuser_queues_attach(port);

    return ret == 0 ? vuser_dev_start(port->dev) : ret;
}

/* Whether memory of so many files suits the back-end that is there, which says so itself, or any that may come. */
static bool
suits_all(const struct vuser_port *port)
{
    struct vuser_dev_info info = { .size = sizeof(info) };

    if (port->memory.n < VUSER_REGIONS_OF_ANY)
        return true;
    return vuser_dev_get_info(port->dev, &info) == 0 && info.attached;
}

/* Brings the device up on the application's own buffers. */
static int
start_direct(struct vuser_port *port)
{
    int ret = vuser_memory_share(port);

    if (ret != 0)
        return ret;
    if (!holds_receive_buffers(port))
        return -EBADF;
    if (!suits_all(port))
        return -E2BIG;
    port->bouncing = false;
    return run(port);
}

/* Brings the device up on buffers of ours, between which and the application's frames are copied. */
static int
start_bouncing(struct vuser_port *port)
{
    int ret;

    vuser_memory_unshare(port);
    ret = vuser_bounce_init(port);
    if (ret != 0)
        return ret;
    port->bouncing = true;
    return run(port);
}

/* Whether an error is about memory that can't be shared. */
static bool
is_unshareable(int error)
{
    return error == -E2BIG || error == -EBADF;
}

static const char *
cure(int error)
{
    return error == -E2BIG ?
        "the application's memory is of more files than the back-end takes; the EAL's option --single-file-segments "
        "makes it one" :
        "a mempool of the receive queues has no file that can be shared; the EAL's own memory has one with "
        "--single-file-segments and without --legacy-mem";
}

static int
start_device(struct vuser_port *port)
{
    int ret = -EBADF;

    if (port->bounce != VUSER_BOUNCE_ALWAYS) {
        vuser_log_attempt(port->bounce == VUSER_BOUNCE_AUTO);
        ret = start_direct(port);
        vuser_log_attempt(false);
        if (ret == 0)
            return 0;
        if (!is_unshareable(ret))
            return vuser_failed(port, "start", ret);
        if (port->bounce == VUSER_BOUNCE_NEVER) {
            VUSER_LOG(ERR, "port %u: %s (or leave bounce=0 out, and frames are copied)", port->id, cure(ret));
            return ret;
        }
        VUSER_LOG(NOTICE, "port %u: frames are copied: %s", port->id, cure(ret));
    }
    ret = start_bouncing(port);
    return ret == 0 ? 0 : vuser_failed(port, "start", ret);
}

int
vuser_start(struct rte_eth_dev *eth)
{
    struct vuser_port *port = vuser_port(eth);
    int ret;

    if (port->dev == NULL)
        return -ENODEV;
    ret = vuser_set_offloads(port);
    if (ret != 0)
        return ret;
    ret = start_device(port);
    if (ret != 0)
        return ret;
    ret = vuser_intr_start(eth);
    if (ret != 0) {
        vuser_dev_stop(port->dev);
        return ret;
    }
    vuser_set_bursts(eth);
    set_queue_states(eth, true);
    vuser_link_update(eth, 0);
    return 0;
}

/* A burst has no word for it, and when the device is stopped nobody can ask any more. */
static void
tell_if_broken(const struct vuser_port *port, const char *kind, uint16_t id, const struct vuser_queue *queue)
{
    if (queue != NULL && vuser_queue_status(queue) == -EIO)
        VUSER_LOG(ERR, "port %u: %s queue %u: %s", port->id, kind, id, vuser_last_error());
}

/* A device that does not answer is stopped, too: an error is for the log, since ethdev would take the port for started. */
int
vuser_stop(struct rte_eth_dev *eth)
{
    struct vuser_port *port = vuser_port(eth);
    uint16_t i;
    int ret;

    vuser_intr_stop(eth);
    eth->data->dev_started = 0;
    if (port->dev != NULL) {
        for (i = 0; i < eth->data->nb_rx_queues; i++)
            tell_if_broken(port, "Rx", i, port->rxq[i].queue);
        for (i = 0; i < eth->data->nb_tx_queues; i++)
            tell_if_broken(port, "Tx", i, port->txq[i].queue);
        ret = vuser_dev_stop(port->dev);
        if (ret != 0)
            vuser_failed(port, "stop", ret);
    }
    set_queue_states(eth, false);
    eth->data->dev_link.link_status = RTE_ETH_LINK_DOWN;
    return 0;
}
