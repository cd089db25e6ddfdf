/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "duty.h"

#include <stdio.h>
#include <string.h>

void duty_begin(struct duty *duty, struct traffic *traffic)
{
    const struct setup *setup = duty->setup;

    memset(traffic, 0, sizeof(*traffic));
    traffic->port = &duty->side->port;
    traffic->direction = setup->direction;
    traffic->burst = setup->burst;
    traffic->size = setup->size;
    for (unsigned i = 0; i < 2u * setup->queues; i++)
        duty->side->backend.rings[i].frames = duty->side->backend.rings[i].bytes = 0;
}

uint16_t duty_turn(const struct duty *duty, uint16_t queue)
{
    const struct setup *setup = duty->setup;
    struct null_backend *backend = &duty->side->backend;
    uint16_t used = 0;

    if (setup->direction != TX)
        used += null_receive(null_rx(backend, queue), duty->n, NULL_HEADER + setup->size, setup->path->mergeable);
    if (setup->direction != RX)
        used += null_send(null_tx(backend, queue), duty->n);
    return used;
}

static const char *count(const struct duty *duty, uint64_t *delivered, uint64_t *taken, uint64_t *bytes)
{
    *delivered = *taken = *bytes = 0;
    for (unsigned q = 0; q < duty->setup->queues; q++) {
        struct null_ring *rx = null_rx(&duty->side->backend, q), *tx = null_tx(&duty->side->backend, q);

        *delivered += rx->frames;
        *taken += tx->frames;
        *bytes += tx->bytes;
        if (rx->broken || tx->broken)
            return rx->broken ? rx->broken : tx->broken;
    }
    return NULL;
}

const char *duty_end(const struct duty *duty, struct traffic *traffic)
{
    static char complaint[200];
    uint64_t delivered, taken, bytes, sent = traffic->sent;
    const char *wrong;

    traffic_drain(traffic);
    for (unsigned q = 0; q < duty->setup->queues; q++)
        while (null_send(null_tx(&duty->side->backend, q), duty->setup->ring))
            ;
    wrong = count(duty, &delivered, &taken, &bytes);
    if (wrong || traffic->wrong)
        return wrong ? wrong : traffic->wrong;
    if (delivered != traffic->received || taken != sent || bytes != sent * (duty->setup->size + NULL_HEADER)) {
        snprintf(complaint, sizeof(complaint),
                 "the device delivered %lu frames, the driver %lu; the driver took %lu, the device got %lu of %lu bytes",
                 delivered, traffic->received, sent, taken, bytes);
        return complaint;
    }
    return port_check_buffers(&duty->side->port);
}
