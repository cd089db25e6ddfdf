/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The device's view: what a vhost port's front-end has told it and put into its rings, read by nobody's driver. */
#include "port.h"

#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include <rte_eth_vhost.h>
#include <rte_vhost.h>

struct view {
    struct rte_vhost_memory *memory;
    struct rte_vhost_vring ring;
    uint64_t features;
    uint16_t next; /* position of the next descriptor to be used */
    bool wrap;     /* packed rings: what AVAIL means there */
    unsigned header;
    unsigned chains, slots, indirect, corrupt;
    uint64_t bytes;
    uint8_t header_or[12];
};

static uint8_t chain[MAX_FRAME + 16];
static unsigned chain_length;

static bool open_view(struct view *v, struct args *args)
{
    uint16_t port = port_of(args), ring = (uint16_t)number(args, "ring", 1), used;
    int vid = rte_eth_vhost_get_vid_from_port_id(port);

    memset(v, 0, sizeof(*v));
    if (vid < 0 || rte_vhost_get_mem_table(vid, &v->memory) != 0 ||
        rte_vhost_get_negotiated_features(vid, &v->features) != 0)
        return fail("port %u has no front-end", port);
    v->header = v->features & (UINT64_C(1) << VIRTIO_F_VERSION_1 | UINT64_C(1) << VIRTIO_NET_F_MRG_RXBUF) ? 12 : 10;
    if (rte_vhost_get_vhost_vring(vid, ring, &v->ring) != 0 || v->ring.size == 0)
        return true; /* no such ring: `table` has no use for it */
    rte_vhost_get_vring_base(vid, ring, &v->next, &used);
    v->wrap = v->next >> 15;
    if (v->features & UINT64_C(1) << VIRTIO_F_RING_PACKED)
        v->next &= 0x7fff;
    return true;
}

static void *at_device(const struct view *v, uint64_t address, uint32_t length)
{
    uint64_t there = length;
    uint64_t va = rte_vhost_va_from_guest_pa(v->memory, address, &there);

    return there == length ? (void *)(uintptr_t)va : NULL;
}

static bool gather(struct view *v, uint64_t address, uint32_t length)
{
    const void *data = at_device(v, address, length);

    if (data == NULL || chain_length + length > sizeof(chain))
        return fail("0x%" PRIx64 " and %u bytes are outside the memory that the device was told of", address, length);
    memcpy(chain + chain_length, data, length);
    chain_length += length;
    return true;
}

static void end_of_chain(struct view *v)
{
    struct frame frame;

    v->chains++;
    v->bytes += chain_length - v->header;
    for (unsigned i = 0; i < v->header; i++)
        v->header_or[i] |= chain[i];
    v->corrupt += !frame_read(chain + v->header, chain_length - v->header, process_seed, &frame);
}

static bool split_table(struct view *v, const struct vring_desc *table, uint32_t size, uint16_t at)
{
    for (uint32_t steps = 0; steps < size; steps++) {
        const struct vring_desc *d = &table[at];

        if (d->flags & VRING_DESC_F_INDIRECT) {
            const struct vring_desc *inner = at_device(v, d->addr, d->len);

            v->indirect++;
            v->slots++;
            return inner != NULL && split_table(v, inner, d->len / (uint32_t)sizeof(*d), 0);
        }
        v->slots += table == v->ring.desc;
        if (!gather(v, d->addr, d->len))
            return false;
        if (!(d->flags & VRING_DESC_F_NEXT))
            return true;
        at = d->next;
    }
    return fail("a chain has no end");
}

static bool split_ring(struct view *v)
{
    for (; v->next != v->ring.avail->idx; v->next++) {
        chain_length = 0;
        if (!split_table(v, v->ring.desc, v->ring.size, v->ring.avail->ring[v->next % v->ring.size]))
            return false;
        end_of_chain(v);
    }
    return true;
}

static bool packed_one(struct view *v, const struct vring_packed_desc *d)
{
    const struct vring_packed_desc *inner;

    v->slots++;
    if (!(d->flags & VRING_DESC_F_INDIRECT))
        return gather(v, d->addr, d->len);
    v->indirect++;
    inner = at_device(v, d->addr, d->len);
    for (uint32_t i = 0; inner != NULL && i < d->len / sizeof(*inner); i++)
        if (!gather(v, inner[i].addr, inner[i].len))
            return false;
    return inner != NULL;
}

static bool packed_ring(struct view *v)
{
    chain_length = 0;
    for (unsigned steps = 0; steps < v->ring.size; steps++) {
        const struct vring_packed_desc *d = &v->ring.desc_packed[v->next];
        uint16_t flags = __atomic_load_n(&d->flags, __ATOMIC_ACQUIRE);
        bool avail = flags >> VRING_PACKED_DESC_F_AVAIL & 1, used = flags >> VRING_PACKED_DESC_F_USED & 1;

        if (avail != v->wrap || used == v->wrap)
            break;
        if (!packed_one(v, d))
            return false;
        if (++v->next == v->ring.size) {
            v->next = 0;
            v->wrap = !v->wrap;
        }
        if (flags & VRING_DESC_F_NEXT)
            continue;
        end_of_chain(v);
        chain_length = 0;
    }
    return true;
}

/* Frames that wait in a ring: how many, in how many slots, with which headers. */
static bool ring(struct args *args)
{
    struct view v;
    char header[2 * sizeof(v.header_or) + 1];
    bool good = open_view(&v, args);

    if (good && v.ring.size != 0)
        good = v.features & UINT64_C(1) << VIRTIO_F_RING_PACKED ? packed_ring(&v) : split_ring(&v);
    free(v.memory);
    if (!good)
        return fail("the ring can't be read");
    for (unsigned i = 0; i < sizeof(v.header_or); i++)
        sprintf(header + 2 * i, "%02x", v.header_or[i]);
    field("size", "%u", v.ring.size);
    field("chains", "%u", v.chains);
    field("slots", "%u", v.slots);
    field("indirect", "%u", v.indirect);
    field("bytes", "%" PRIu64, v.bytes);
    field("corrupt", "%u", v.corrupt);
    field("header", "%s", header);
    return true;
}

/* The memory table and the features. */
static bool table(struct args *args)
{
    struct view v;
    uint64_t bytes = 0;

    if (!open_view(&v, args))
        return false;
    for (uint32_t i = 0; i < v.memory->nregions; i++)
        bytes += v.memory->regions[i].size;
    field("regions", "%u", v.memory->nregions);
    field("bytes", "%" PRIu64, bytes);
    field("features", "0x%" PRIx64, v.features);
    free(v.memory);
    return true;
}

/* Takes features away from what a vhost socket offers to the next front-end. */
static bool offer(struct args *args)
{
    const char *path = text(args, "path", "");
    uint64_t without = number(args, "without", 0), all;

    if (rte_vhost_driver_get_features(path, &all) != 0 || rte_vhost_driver_disable_features(path, without) != 0 ||
        rte_vhost_driver_enable_features(path, number(args, "with", 0)) != 0)
        return fail("%s: no vhost socket", path);
    rte_vhost_driver_get_features(path, &all);
    field("features", "0x%" PRIx64, all);
    return true;
}

const struct command view_commands[] = {{"ring", ring}, {"table", table}, {"offer", offer}, {NULL, NULL}};
