/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* Packets that are not an owner's plain buffer: drivers have written over what was somebody else's. */
#include "port.h"

#include <stdlib.h>
#include <string.h>

#include <rte_malloc.h>

#define ORIGINALS 64u

/* Packets that the application keeps, and how their buffers were when others were made of them. */
static struct {
    struct rte_mbuf *packet;
    uint8_t *bytes;
} originals[ORIGINALS];
static unsigned kept;

static void snapshot(struct rte_mbuf *packet)
{
    originals[kept].packet = packet;
    originals[kept].bytes = malloc(packet->buf_len);
    memcpy(originals[kept++].bytes, packet->buf_addr, packet->buf_len);
}

static void external_done(void *address, void *context)
{
    (void)context;
    rte_free(address);
}

/* The frame in memory that belongs to no pool, at its very beginning: no headroom at all. */
static struct rte_mbuf *external(struct rte_mempool *pool, const uint8_t *bytes, unsigned length)
{
    uint16_t size = (uint16_t)(length + sizeof(struct rte_mbuf_ext_shared_info) + 64);
    uint8_t *memory = rte_malloc(NULL, size, RTE_CACHE_LINE_SIZE);
    struct rte_mbuf *packet = rte_pktmbuf_alloc(pool);
    struct rte_mbuf_ext_shared_info *shared;

    if (memory == NULL || packet == NULL)
        return NULL;
    shared = rte_pktmbuf_ext_shinfo_init_helper(memory, &size, external_done, NULL);
    memcpy(memory, bytes, length);
    rte_pktmbuf_attach_extbuf(packet, memory, rte_malloc_virt2iova(memory), size, shared);
    packet->data_off = 0;
    packet->data_len = (uint16_t)length;
    packet->pkt_len = length;
    return packet;
}

/* The frame with so many bytes in front of it, and a pattern in those. */
static struct rte_mbuf *at_headroom(struct rte_mempool *pool, const uint8_t *bytes, unsigned length, uint16_t headroom)
{
    struct rte_mbuf *packet = rte_pktmbuf_alloc(pool);

    if (packet == NULL)
        return NULL;
    memset(packet->buf_addr, 0xbb, packet->buf_len);
    packet->data_off = headroom;
    packet->data_len = (uint16_t)length;
    packet->pkt_len = length;
    memcpy(rte_pktmbuf_mtod(packet, void *), bytes, length);
    return packet;
}

static struct rte_mbuf *shaped(const char *shape, struct rte_mempool *pool, const struct frame *frame, uint16_t headroom)
{
    static uint8_t bytes[MAX_FRAME + 8];
    struct rte_mbuf *packet;

    frame_make(bytes, frame);
    if (strcmp(shape, "external") == 0)
        return external(pool, bytes, frame->length);
    packet = at_headroom(pool, bytes, frame->length, headroom);
    if (packet == NULL || strcmp(shape, "plain") == 0)
        return packet;
    snapshot(packet);
    if (strcmp(shape, "clone") == 0)
        return rte_pktmbuf_clone(packet, pool);
    rte_pktmbuf_refcnt_update(packet, 1); /* shape=shared */
    return packet;
}

/* Sends frames of one shape; `pool` and `other` take turns. */
static bool odd(struct args *args)
{
    static uint64_t sequence = UINT64_C(1) << 32;
    uint16_t port = port_of(args), headroom = (uint16_t)number(args, "headroom", RTE_PKTMBUF_HEADROOM);
    const char *shape = text(args, "shape", "plain"), *name = text(args, "pool", "port");
    struct rte_mempool *pools[2] = {pool_named(name), pool_named(text(args, "other", name))};
    unsigned frames = (unsigned)RTE_MIN(number(args, "frames", 32), ORIGINALS), sent;
    unsigned size = (unsigned)number(args, "size", 64), burst = (unsigned)number(args, "burst", 32);
    struct rte_mbuf *packets[ORIGINALS];

    if (pools[0] == NULL || pools[1] == NULL)
        return false;
    for (unsigned i = 0; i < frames; i++) {
        struct frame frame = {process_seed, sequence++, UNICAST, 0, size, 0};

        packets[i] = shaped(shape, pools[i % 2], &frame, headroom);
        if (packets[i] == NULL)
            return fail("no memory for frame %u", i);
    }
    sent = send_all(port, 0, packets, frames, burst, false, 0);
    rte_pktmbuf_free_bulk(packets + sent, frames - sent);
    field("sent", "%u", sent);
    return true;
}

/* How many of the kept packets have other bytes now; gives them up. */
static bool intact(struct args *args)
{
    unsigned changed = 0, count = kept;

    (void)args;
    while (kept > 0) {
        struct rte_mbuf *packet = originals[--kept].packet;

        changed += memcmp(originals[kept].bytes, packet->buf_addr, packet->buf_len) != 0;
        free(originals[kept].bytes);
        rte_pktmbuf_free(packet);
    }
    field("kept", "%u", count);
    field("changed", "%u", changed);
    return true;
}

const struct command odd_commands[] = {{"odd", odd}, {"intact", intact}, {NULL, NULL}};
