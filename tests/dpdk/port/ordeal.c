/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* Frames out by a port whose device lies, and in again. Whatever comes of that is an answer, and no error. */
#include "port.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LOST_AFTER 0.25 /* seconds; frames that have not come by then are not waited for */
#define SETTLED_WITHIN 5.0
#define MOST (1u << 20) /* frames that are remembered */

/* What may be wrong with frames because the device wrote it there (tests/hostile/data.rs): nothing; their length; all. */
enum content { WHOLE, LENGTH, FREE };

struct ordeal {
    uint16_t port;
    struct rte_mempool *pool;
    enum content content;
    uint64_t seed;
    uint64_t built, taken, handed, whole, odd, stale, under_way, corrupt;
    /* odd: buffers of frames that are not as they were sent; stale: frames of the last ordeals of this port */
    unsigned first, pending;
    struct rte_mbuf *out[MAX_BURST];
    const char *fault;
};

static uint8_t room[MAX_FRAME + 1], seen[MOST];

static unsigned size_of(uint64_t sequence)
{
    static const unsigned sizes[] = {64, 65, 127, 300, 601, 1024, 1514};

    return sizes[sequence % RTE_DIM(sizes)];
}

static bool transmit(struct ordeal *o, unsigned window)
{
    unsigned sent;

    if (o->pending == 0)
        o->first = 0;
    while (o->pending < MAX_BURST && o->first == 0 && o->under_way + o->pending < window && o->built < MOST) {
        struct frame frame = {o->seed, o->built, UNICAST, 0, size_of(o->built), 0};
        struct rte_mbuf *packet;

        frame_make(room, &frame);
        packet = frame_pack(o->pool, room, frame.length, 0);
        if (packet == NULL) {
            rte_eth_tx_done_cleanup(o->port, 0, 0);
            break;
        }
        seen[o->built++] = 0;
        o->out[o->pending++] = packet;
    }
    if (o->pending == 0)
        return false;
    sent = rte_eth_tx_burst(o->port, 0, o->out + o->first, (uint16_t)o->pending);
    o->first += sent;
    o->pending -= sent;
    o->taken += sent;
    o->under_way += sent;
    return sent != 0;
}

static const char *wrong_with(struct ordeal *o, const struct rte_mbuf *packet)
{
    /* Flags are what the device asks for in its header. */
    const uint64_t flags = ~(RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT);
    const char *fault = packet_fault(packet, o->port, flags);
    const uint8_t *bytes = frame_unpack(packet, room);
    struct frame frame;

    if (fault != NULL)
        return fault;
    if (bytes == NULL)
        return "it is longer than any frame";
    if (frame_read(bytes, packet->pkt_len, o->seed, &frame) && frame.sequence < o->built &&
        frame.length == size_of(frame.sequence)) {
        if (seen[frame.sequence] && o->content == WHOLE)
            return "it came twice";
        o->whole += !seen[frame.sequence];
        seen[frame.sequence] = 1;
        o->under_way -= o->under_way != 0;
        return NULL;
    }
    /* Where a buffer may be named that the device has not filled, that may be what is still in it. */
    for (uint64_t back = 1; back <= 3 && o->content != FREE; back++)
        if (frame_read(bytes, packet->pkt_len, o->seed - (back << 32), &frame)) {
            o->stale++;
            return NULL;
        }
    if (o->content == FREE || (o->content == LENGTH && frame_like(bytes, packet->pkt_len, o->seed))) {
        o->odd += packet->nb_segs;
        return NULL;
    }
    return "it is none that was sent";
}

static bool receive(struct ordeal *o)
{
    struct rte_mbuf *packets[MAX_BURST];
    uint16_t count = rte_eth_rx_burst(o->port, 0, packets, MAX_BURST);

    for (uint16_t i = 0; i < count; i++) {
        const char *fault = wrong_with(o, packets[i]);

        if (fault != NULL) {
            o->corrupt++;
            o->fault = fault;
        }
    }
    rte_pktmbuf_free_bulk(packets, count);
    o->handed += count;
    return count != 0;
}

/* A queue that the driver says to be broken. */
static bool broken(const struct ordeal *o)
{
    return rte_eth_rx_descriptor_status(o->port, 0, 0) == -EIO || rte_eth_tx_descriptor_status(o->port, 0, 0) == -EIO;
}

/* How it ended. Until there is a file of this name, and then so many frames more. */
static const char *move(struct ordeal *o, const char *until, uint64_t frames, double patience, double within)
{
    const double begin = now();
    double came = begin, moved = begin, at;
    uint64_t wanted = UINT64_MAX;

    while (o->whole < wanted) {
        if (wanted == UINT64_MAX && (until[0] == '\0' || access(until, F_OK) == 0))
            wanted = o->whole + frames;
        if (broken(o))
            return "broken";
        at = now();
        if (transmit(o, 32))
            moved = at;
        if (receive(o))
            came = moved = at;
        if (moved != at)
            usleep(50);
        if (o->corrupt != 0)
            return "corrupt";
        if (at - came > patience)
            return "stalled";
        if (at - begin > within && (moved != at || wanted == UINT64_MAX))
            return "late";
        if (at - moved > LOST_AFTER) {
            o->under_way = 0;
            moved = at;
        }
    }
    return "enough";
}

/* How many frames neither came nor were counted: the device echoes all, so that nothing is under way any more at last. */
static int64_t missing(struct ordeal *o, uint64_t ierrors)
{
    const double begin = now();
    struct rte_eth_stats stats;
    int64_t n;

    do {
        receive(o);
        if (rte_eth_stats_get(o->port, &stats) != 0)
            return -1;
        n = (int64_t)(o->taken - o->whole - o->odd - (stats.ierrors - ierrors));
    } while (n != 0 && now() - begin < SETTLED_WITHIN);
    return n;
}

/* Frames until the file `until` is there, and `frames` more. How that ended, and what the statistics miss or have too much. */
static bool ordeal(struct args *args)
{
    static struct ordeal o;
    static uint64_t run;
    const char *content = text(args, "content", "whole"), *until = text(args, "until", "");
    const double patience = (double)number(args, "patience", 5000) / 1e3;
    const double within = (double)number(args, "within", 20000) / 1e3;
    const uint64_t frames = number(args, "frames", 48);
    const char *end;
    struct rte_eth_stats before, after;

    memset(&o, 0, sizeof(o));
    o.port = port_of(args);
    o.pool = pool_named(text(args, "pool", "port"));
    o.content = content[0] == 'f' ? FREE : content[0] == 'l' ? LENGTH : WHOLE;
    o.seed = process_seed + (++run << 32);
    if (o.pool == NULL || rte_eth_stats_get(o.port, &before) != 0)
        return fail("no pool, or no statistics");
    end = move(&o, until, frames, patience, within);
    field("end", "%s", end);
    rte_pktmbuf_free_bulk(o.out + o.first, o.pending);
    field("missing", "%" PRId64, strcmp(end, "enough") == 0 && o.content != FREE ? missing(&o, before.ierrors) : 0);
    if (rte_eth_stats_get(o.port, &after) != 0)
        return fail("no statistics");
    field("whole", "%" PRIu64, o.whole);
    field("corrupt", "%" PRIu64, o.corrupt);
    field("stale", "%" PRIu64, o.stale);
    field("fault", "%s", o.fault == NULL ? "" : o.fault);
    field("handed", "%" PRIu64, o.handed);
    field("ipackets", "%" PRIu64, after.ipackets - before.ipackets);
    field("taken", "%" PRIu64, o.taken);
    field("opackets", "%" PRIu64, after.opackets - before.opackets + after.oerrors - before.oerrors);
    return true;
}

const struct command ordeal_commands[] = {{"ordeal", ordeal}, {NULL, NULL}};
