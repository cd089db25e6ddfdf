/* Interrupts: a descriptor for each receive queue, and the device's for what happens to it.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#include <inttypes.h>
#include <unistd.h>

#include <rte_interrupts.h>

#include "vuser_pmd.h"

int
vuser_link_update(struct rte_eth_dev *eth, int wait)
{
    const struct vuser_port *port = vuser_port(eth);
    const struct rte_eth_link link = {
        .link_speed = port->config.speed,
        .link_duplex = RTE_ETH_LINK_FULL_DUPLEX,
        .link_autoneg = RTE_ETH_LINK_FIXED,
        .link_status = port->dev != NULL && vuser_dev_link(port->dev) > 0 ? RTE_ETH_LINK_UP : RTE_ETH_LINK_DOWN,
    };

    (void)wait;
    return rte_eth_linkstatus_set(eth, &link);
}

/* Says what the application is not told otherwise. */
static void
tell(const struct vuser_port *port, const struct vuser_event *event)
{
    switch (event->kind) {
    case VUSER_EVENT_REFUSED:
        VUSER_LOG(WARNING, "port %u: a back-end was sent away: %s", port->id, event->text);
        break;
    case VUSER_EVENT_QUEUE_ERROR:
        VUSER_LOG(ERR, "port %u: the back-end can't go on with ring %" PRIu64 ": %s", port->id, event->number, event->text);
        break;
    default:
        VUSER_LOG(INFO, "port %u: event %u: %s", port->id, event->kind, event->text);
        break;
    }
}

/* Something has happened to the device: the back-end has gone or come, or has said something. Who connects is the library's
 * business; the application is told what has become of the link. */
static void
connection_event(void *arg)
{
    struct rte_eth_dev *eth = arg;
    struct vuser_port *port = vuser_port(eth);
    struct vuser_event events[8] = { { .size = sizeof(events[0]) } };
    bool needs_reset = false;
    int n, i;

    do {
        n = vuser_dev_process(port->dev, events, RTE_DIM(events));
        for (i = 0; i < n; i++) {
            tell(port, &events[i]);
            needs_reset |= events[i].kind == VUSER_EVENT_NEEDS_RESET;
        }
    } while (n == RTE_DIM(events));
    if (vuser_link_update(eth, 0) == 0)
        rte_eth_dev_callback_process(eth, RTE_ETH_EVENT_INTR_LSC, NULL);
    /* With reconnect=1 the library does it. The port may be another when this comes back. */
    if (needs_reset && !port->config.reconnect)
        rte_eth_dev_callback_process(eth, RTE_ETH_EVENT_INTR_RESET, NULL);
}

static int
make_handle(struct rte_eth_dev *eth)
{
    const struct vuser_port *port = vuser_port(eth);
    struct rte_intr_handle *handle = eth->intr_handle;
    uint16_t i, n = eth->data->nb_rx_queues;

    if (handle == NULL)
        handle = eth->intr_handle = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);
    if (handle == NULL)
        return -ENOMEM;
    if (rte_intr_type_set(handle, RTE_INTR_HANDLE_VDEV) != 0 ||
        rte_intr_fd_set(handle, vuser_dev_fd(port->dev)) != 0)
        return -EIO;
    if (!eth->data->dev_conf.intr_conf.rxq)
        return 0;
    /* The EAL takes the eventfd's eight bytes, so that it is not readable any more. */
    if (rte_intr_efd_counter_size_set(handle, sizeof(uint64_t)) != 0 ||
        rte_intr_vec_list_alloc(handle, "vuser", n) != 0 || rte_intr_nb_efd_set(handle, n) != 0 ||
        rte_intr_max_intr_set(handle, n + 1) != 0)
        return -ENOMEM;
    for (i = 0; i < n; i++)
        if (rte_intr_vec_list_index_set(handle, i, RTE_INTR_VEC_RXTX_OFFSET + i) != 0 ||
            rte_intr_efds_index_set(handle, i, vuser_queue_fd(port->rxq[i].queue)) != 0)
            return -ENOSPC;
    return 0;
}

int
vuser_intr_start(struct rte_eth_dev *eth)
{
    const struct rte_eth_intr_conf *conf = &eth->data->dev_conf.intr_conf;
    int ret = make_handle(eth);

    if (ret == 0 && conf->lsc)
        ret = rte_intr_callback_register(eth->intr_handle, connection_event, eth);
    if (ret == 0)
        return 0;
    VUSER_LOG(ERR, "port %u: interrupts of %u queues can't be set up: %s", eth->data->port_id, eth->data->nb_rx_queues,
              rte_strerror(-ret));
    vuser_intr_stop(eth);
    return ret;
}

/* No callback runs when it returns, except one that the caller is called by. */
static void
unwatch(struct rte_eth_dev *eth)
{
    if (rte_thread_is_intr()) {
        rte_intr_callback_unregister_pending(eth->intr_handle, connection_event, eth, NULL);
        return;
    }
    while (rte_intr_callback_unregister(eth->intr_handle, connection_event, eth) == -EAGAIN)
        rte_pause();
}

void
vuser_intr_stop(struct rte_eth_dev *eth)
{
    struct rte_intr_handle *handle = eth->intr_handle;

    if (handle == NULL)
        return;
    if (eth->data->dev_conf.intr_conf.lsc)
        unwatch(eth);
    rte_intr_vec_list_free(handle);
    rte_intr_nb_efd_set(handle, 0);
}

int
vuser_rx_intr_enable(struct rte_eth_dev *eth, uint16_t id)
{
    struct vuser_queue *queue = vuser_port(eth)->rxq[id].queue;
    const uint64_t one = 1;
    int ret = queue == NULL ? -EINVAL : vuser_queue_call(queue, 1);

    if (ret < 0)
        return ret;
    /* Frames that came before the device was asked to call: whoever goes to sleep now is woken at once. */
    if (ret > 0 && write(vuser_queue_fd(queue), &one, sizeof(one)) < 0)
        return -errno;
    return 0;
}

int
vuser_rx_intr_disable(struct rte_eth_dev *eth, uint16_t id)
{
    struct vuser_queue *queue = vuser_port(eth)->rxq[id].queue;
    int ret = queue == NULL ? -EINVAL : vuser_queue_call(queue, 0);

    return ret < 0 ? ret : 0;
}
