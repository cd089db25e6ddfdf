/* Telemetry: /vuser/list, /vuser/info,<port>, /vuser/queues,<port>.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_telemetry.h>

#include "vuser_pmd.h"

#if RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)
#define ADD_NUMBER rte_tel_data_add_dict_uint
#else
#define ADD_NUMBER rte_tel_data_add_dict_u64
#endif

static bool
is_ours(uint16_t id)
{
    const struct rte_eth_dev *eth = &rte_eth_devices[id];

    return rte_eth_dev_is_valid_port(id) && (eth->dev_ops == &vuser_ops || eth->dev_ops == &vuser_bounce_ops);
}

static int
list(const char *cmd, const char *params, struct rte_tel_data *d)
{
    uint16_t id;

    (void)cmd;
    (void)params;
    rte_tel_data_start_array(d, RTE_TEL_INT_VAL);
    for (id = 0; id < RTE_MAX_ETHPORTS; id++)
        if (is_ours(id))
            rte_tel_data_add_array_int(d, id);
    return 0;
}

/* The port that is asked about; NULL when there is none, or it is of another driver. */
static struct rte_eth_dev *
port_of(const char *params)
{
    char *end;
    unsigned long id;

    if (params == NULL || *params == '\0')
        return NULL;
    id = strtoul(params, &end, 10);
    return *end == '\0' && id < RTE_MAX_ETHPORTS && is_ours(id) ? &rte_eth_devices[id] : NULL;
}

static void
add_hex(struct rte_tel_data *d, const char *name, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "0x%" PRIx64, value);
    rte_tel_data_add_dict_string(d, name, text);
}

static int
info(const char *cmd, const char *params, struct rte_tel_data *d)
{
    struct vuser_dev_info info = { .size = sizeof(info) };
    struct rte_eth_dev *eth = port_of(params);
    struct vuser_port *port;
    char path[64];

    (void)cmd;
    if (eth == NULL)
        return -EINVAL;
    port = vuser_port(eth);
    if (port->dev == NULL || vuser_dev_get_info(port->dev, &info) != 0)
        return -ENODEV;
    vuser_path_name(port, path, sizeof(path));
    rte_tel_data_start_dict(d);
    rte_tel_data_add_dict_string(d, "name", eth->data->name);
    rte_tel_data_add_dict_string(d, "library", vuser_version());
    rte_tel_data_add_dict_string(d, "backend", info.backend);
    rte_tel_data_add_dict_string(d, "path", path);
    add_hex(d, "device_features", info.device_features);
    add_hex(d, "features", info.features);
    add_hex(d, "protocol_features", info.protocol_features);
    ADD_NUMBER(d, "status", info.status);
    ADD_NUMBER(d, "header_length", info.hdr_len);
    ADD_NUMBER(d, "queue_pairs", info.queue_pairs_used);
    ADD_NUMBER(d, "max_queue_pairs", info.max_queue_pairs);
    ADD_NUMBER(d, "link_up", info.link_up);
    ADD_NUMBER(d, "bounce", port->bouncing);
    return 0;
}

static struct rte_tel_data *
queue_data(struct vuser_queue *queue, uint16_t size)
{
    struct vuser_queue_stats stats = { .size = sizeof(stats) };
    struct rte_tel_data *d = rte_tel_data_alloc();

    if (d == NULL)
        return NULL;
    rte_tel_data_start_dict(d);
    ADD_NUMBER(d, "size", size);
    if (queue == NULL || vuser_queue_get_stats(queue, &stats) != 0)
        return d;
    rte_tel_data_add_dict_int(d, "status", vuser_queue_status(queue));
    ADD_NUMBER(d, "packets", stats.packets);
    ADD_NUMBER(d, "bytes", stats.bytes);
    ADD_NUMBER(d, "kicks", stats.kicks);
    ADD_NUMBER(d, "no_buffer", stats.no_buffer);
    ADD_NUMBER(d, "runt", stats.runt);
    ADD_NUMBER(d, "bad_header", stats.bad_header);
    ADD_NUMBER(d, "ring_full", stats.ring_full);
    ADD_NUMBER(d, "bad_packet", stats.bad_packet);
    ADD_NUMBER(d, "bad_offload", stats.bad_offload);
    ADD_NUMBER(d, "bad_address", stats.bad_address);
    ADD_NUMBER(d, "too_many_segments", stats.too_many_segments);
    ADD_NUMBER(d, "lost", stats.lost);
    ADD_NUMBER(d, "tx_resent", stats.tx_resent);
    ADD_NUMBER(d, "tx_dropped_on_reconnect", stats.tx_dropped_on_reconnect);
    return d;
}

static void
add_queue(struct rte_tel_data *d, const char *direction, uint16_t id, struct rte_tel_data *queue)
{
    char name[16];

    snprintf(name, sizeof(name), "%s_q%u", direction, id);
    if (queue != NULL && rte_tel_data_add_dict_container(d, name, queue, 0) != 0)
        rte_tel_data_free(queue);
}

static int
queues(const char *cmd, const char *params, struct rte_tel_data *d)
{
    struct rte_eth_dev *eth = port_of(params);
    const struct vuser_port *port;
    uint16_t i;

    (void)cmd;
    if (eth == NULL)
        return -EINVAL;
    port = vuser_port(eth);
    rte_tel_data_start_dict(d);
    for (i = 0; i < eth->data->nb_rx_queues; i++)
        add_queue(d, "rx", i, queue_data(port->rxq[i].queue, port->rxq[i].nb_desc));
    for (i = 0; i < eth->data->nb_tx_queues; i++)
        add_queue(d, "tx", i, queue_data(port->txq[i].queue, port->txq[i].nb_desc));
    return 0;
}

void
vuser_telemetry_init(void)
{
    rte_telemetry_register_cmd("/vuser/list", list, "Ports of the driver net_vuser. Takes no parameters.");
    rte_telemetry_register_cmd("/vuser/info", info, "What a port's device is and has agreed on. Parameter: port id.");
    rte_telemetry_register_cmd("/vuser/queues", queues, "Counters of a port's queues. Parameter: port id.");
}
