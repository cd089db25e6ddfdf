/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* Frames out, frames in, and what they went through. */
#include "port.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_ethdev.h>
#include <rte_interrupts.h>

#define MAX_QUEUES 16u
#define NET_HDR 12 /* bytes of virtio's header, which takes room in the first buffer of a frame */

uint64_t process_seed;
static uint8_t room[MAX_FRAME + 1];

/* ---------------------------------------------------------------- exchange: out by a port, echoed, in again */

struct lane {
    uint16_t queue;
    uint64_t built, taken, expected; /* sequence numbers */
    unsigned slots;                  /* of the receive ring, that frames on their way will take */
    unsigned first, pending, echoing, echo_first;
    struct rte_mbuf *out[MAX_BURST], *echo[MAX_BURST];
};

struct exchange {
    uint16_t port, peer; /* peer: who echoes in this process; the port itself when it is another process */
    struct rte_mempool *pool;
    unsigned sizes[MAX_SIZES], nsizes, burst, segment, window, queues;
    bool jitter, prepare, sleeping;
    enum kind kind;
    uint64_t frames, seed, flags_allowed, random;
    uint64_t received, corrupt, lost, reordered, faulty, chains, bytes, sleeps, overslept;
    const char *fault;
    struct lane lanes[MAX_QUEUES];
};

static unsigned size_of(const struct exchange *x, uint64_t sequence)
{
    return x->sizes[sequence % x->nsizes];
}

static unsigned slots_of(const struct exchange *x, uint64_t sequence)
{
    unsigned buffer = rte_pktmbuf_data_room_size(x->pool) - RTE_PKTMBUF_HEADROOM;

    return (size_of(x, sequence) + NET_HDR + buffer - 1) / buffer;
}

static unsigned burst_of(struct exchange *x)
{
    if (!x->jitter)
        return x->burst;
    x->random = x->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return 1 + (unsigned)((x->random >> 33) % x->burst);
}

static void build(struct exchange *x, struct lane *lane)
{
    unsigned want = burst_of(x);

    lane->first = 0;
    while (lane->pending < want && lane->built < x->frames) {
        unsigned slots = slots_of(x, lane->built);
        struct frame frame = {x->seed, lane->built, x->kind, lane->queue, size_of(x, lane->built), 0};
        struct rte_mbuf *packet;

        /* One frame may always travel, or a small ring would stop for good. */
        if (lane->slots != 0 && lane->slots + slots > x->window)
            return;
        frame_make(room, &frame);
        packet = frame_pack(x->pool, room, frame.length, x->segment);
        if (packet == NULL) {
            /* The next round tries again. What was sent may still be in the ring. */
            rte_eth_tx_done_cleanup(x->port, lane->queue, 0);
            return;
        }
        x->chains += packet->nb_segs > 1;
        lane->out[lane->pending++] = packet;
        lane->slots += slots;
        lane->built++;
    }
}

static bool transmit(struct exchange *x, struct lane *lane)
{
    unsigned sent;

    if (lane->pending == 0)
        build(x, lane);
    if (lane->pending == 0)
        return false;
    if (x->prepare && rte_eth_tx_prepare(x->port, lane->queue, lane->out + lane->first, lane->pending) != lane->pending)
        return fail("rte_eth_tx_prepare: %s", rte_strerror(rte_errno));
    sent = rte_eth_tx_burst(x->port, lane->queue, lane->out + lane->first, (uint16_t)lane->pending);
    lane->first += sent;
    lane->pending -= sent;
    lane->taken += sent;
    return sent != 0;
}

/* The peer gives back on each queue what it got there, all of it, however often it has to try. */
static void echo(struct exchange *x, struct lane *lane)
{
    unsigned sent;

    if (x->peer == x->port)
        return;
    if (lane->echoing == 0) {
        lane->echo_first = 0;
        lane->echoing = rte_eth_rx_burst(x->peer, lane->queue, lane->echo, MAX_BURST);
    }
    sent = rte_eth_tx_burst(x->peer, lane->queue, lane->echo + lane->echo_first, (uint16_t)lane->echoing);
    lane->echo_first += sent;
    lane->echoing -= sent;
}

static void look_at(struct exchange *x, struct lane *lane, const struct rte_mbuf *packet)
{
    const uint8_t *bytes = frame_unpack(packet, room);
    const char *fault = packet_fault(packet, x->port, x->flags_allowed);
    struct frame frame;
    static uint8_t copy[MAX_FRAME + 1];

    if (fault != NULL) {
        x->faulty++;
        x->fault = fault;
    }
    if (bytes == NULL || !frame_read(memcpy(copy, bytes, packet->pkt_len), packet->pkt_len, x->seed, &frame) ||
        frame.lane != lane->queue || frame.length != size_of(x, frame.sequence)) {
        x->corrupt++;
        return;
    }
    x->received++;
    x->bytes += packet->pkt_len;
    if (frame.sequence < lane->expected) {
        x->reordered++;
        return;
    }
    for (; lane->expected <= frame.sequence; lane->expected++) {
        lane->slots -= slots_of(x, lane->expected);
        x->lost += lane->expected != frame.sequence;
    }
}

static bool receive(struct exchange *x, struct lane *lane)
{
    struct rte_mbuf *packets[MAX_BURST];
    uint16_t count = rte_eth_rx_burst(x->port, lane->queue, packets, (uint16_t)burst_of(x));

    for (uint16_t i = 0; i < count; i++)
        look_at(x, lane, packets[i]);
    rte_pktmbuf_free_bulk(packets, count);
    return count != 0;
}

/* As l3fwd-power does it: ask for interrupts, look again, sleep. Longer than a moment only if a wake-up was lost. */
static void sleep_on_queues(struct exchange *x)
{
    struct rte_epoll_event event;
    bool came = false;

    for (unsigned q = 0; q < x->queues; q++)
        if (rte_eth_dev_rx_intr_enable(x->port, (uint16_t)q) != 0)
            fail("queue %u can't be armed", q);
    for (unsigned q = 0; q < x->queues; q++)
        came |= receive(x, &x->lanes[q]);
    if (!came) {
        x->sleeps++;
        x->overslept += rte_epoll_wait(RTE_EPOLL_PER_THREAD, &event, 1, 1000) == 0;
    }
    for (unsigned q = 0; q < x->queues; q++)
        rte_eth_dev_rx_intr_disable(x->port, (uint16_t)q);
}

static bool complete(const struct exchange *x)
{
    for (unsigned q = 0; q < x->queues; q++)
        if (x->lanes[q].expected < x->frames)
            return false;
    return true;
}

static void move_frames(struct exchange *x, double patience)
{
    double last = now();
    bool spinning = false;

    while (!complete(x)) {
        bool moved = false;

        for (unsigned q = 0; q < x->queues; q++) {
            moved |= transmit(x, &x->lanes[q]);
            echo(x, &x->lanes[q]);
            moved |= receive(x, &x->lanes[q]);
        }
        if (x->sleeping && !moved && !complete(x))
            sleep_on_queues(x);
        if (moved) {
            spinning = false;
        } else if (!spinning) {
            spinning = true;
            last = now();
        } else if (now() - last > patience) {
            fail("no progress for %.1f s", patience);
            return;
        }
    }
}

static void free_pending(struct exchange *x)
{
    for (unsigned q = 0; q < x->queues; q++) {
        struct lane *lane = &x->lanes[q];

        rte_pktmbuf_free_bulk(lane->out + lane->first, lane->pending);
        rte_pktmbuf_free_bulk(lane->echo + lane->echo_first, lane->echoing);
    }
}

static bool exchange(struct args *args)
{
    static struct exchange x;
    static uint64_t run;
    double start, seconds;

    memset(&x, 0, sizeof(x));
    x.port = port_of(args);
    x.peer = (uint16_t)number(args, "peer", x.port);
    x.pool = pool_named(text(args, "pool", "port"));
    x.frames = number(args, "frames", 2000); /* of each queue */
    x.nsizes = numbers(args, "sizes", 64, x.sizes, MAX_SIZES);
    x.burst = (unsigned)RTE_MIN(number(args, "burst", 32), MAX_BURST);
    x.jitter = number(args, "jitter", 0) != 0;
    x.segment = (unsigned)number(args, "segment", 0);
    x.window = (unsigned)number(args, "window", 128);
    x.queues = (unsigned)RTE_MIN(number(args, "queues", 1), MAX_QUEUES);
    x.prepare = number(args, "prepare", 0) != 0;
    x.sleeping = number(args, "sleep", 0) != 0;
    x.flags_allowed = number(args, "flags", 0);
    x.random = x.seed = process_seed + ++run;
    if (x.pool == NULL || !kind_named(text(args, "kind", "unicast"), &x.kind))
        return false;
    for (unsigned q = 0; q < x.queues; q++)
        x.lanes[q].queue = (uint16_t)q;
    start = now();
    move_frames(&x, (double)number(args, "patience", 5000) / 1e3);
    seconds = now() - start;
    free_pending(&x);
    field("received", "%" PRIu64, x.received);
    field("corrupt", "%" PRIu64, x.corrupt);
    field("lost", "%" PRIu64, x.lost);
    field("reordered", "%" PRIu64, x.reordered);
    field("faulty", "%" PRIu64, x.faulty);
    field("chains", "%" PRIu64, x.chains);
    field("bytes", "%" PRIu64, x.bytes);
    field("sleeps", "%" PRIu64, x.sleeps);
    field("overslept", "%" PRIu64, x.overslept);
    field("ms", "%.1f", seconds * 1e3);
    if (x.fault != NULL)
        fail("%" PRIu64 " packets wrong: %s", x.faulty, x.fault);
    if (x.corrupt + x.lost + x.reordered != 0 || x.received != x.frames * x.queues)
        fail("of %" PRIu64 " frames on each of %u queues not all came back, once, in order and whole", x.frames, x.queues);
    return true;
}

/* ---------------------------------------------------------------- send and take: one way */

unsigned send_all(uint16_t port, uint16_t queue, struct rte_mbuf **packets, unsigned count, unsigned burst, bool prepare,
                  unsigned wait_ms)
{
    double end = now() + wait_ms / 1e3;
    unsigned sent = 0;

    while (sent < count) {
        uint16_t n = (uint16_t)RTE_MIN(burst, count - sent), took;

        if (prepare && rte_eth_tx_prepare(port, queue, packets + sent, n) != n) {
            fail("rte_eth_tx_prepare: %s", rte_strerror(rte_errno));
            break;
        }
        took = rte_eth_tx_burst(port, queue, packets + sent, n);
        sent += took;
        if (took < n && now() >= end)
            break;
    }
    return sent;
}

static uint64_t sequence;

/* Asks for the offloads of a frame, as an application would. */
static void ask_offloads(struct rte_mbuf *packet, enum kind kind, uint64_t flags, uint16_t segment_size, uint16_t vlan)
{
    packet->ol_flags |= flags;
    packet->vlan_tci = vlan;
    packet->l2_len = 14;
    packet->l3_len = kind == TCP6 ? 40 : 20;
    packet->l4_len = kind == UDP4 ? 8 : 20;
    packet->tso_segsz = segment_size;
}

static bool send_frames(struct args *args)
{
    uint16_t port = port_of(args), q = (uint16_t)number(args, "queue", 0);
    struct rte_mempool *pool = pool_named(text(args, "pool", "port"));
    unsigned frames = (unsigned)number(args, "frames", 1), burst = (unsigned)number(args, "burst", 32);
    unsigned sizes[MAX_SIZES], nsizes = numbers(args, "sizes", 64, sizes, MAX_SIZES);
    unsigned segment = (unsigned)number(args, "segment", 0), wait = (unsigned)number(args, "wait", 0), sent;
    bool prepare = number(args, "prepare", 0) != 0;
    uint64_t flags = number(args, "flags", 0), bytes = 0;
    uint16_t segment_size = (uint16_t)number(args, "segsz", 0), vlan = (uint16_t)number(args, "vlan", 0);
    struct rte_mbuf **packets = calloc(frames, sizeof(*packets));
    enum kind kind;

    if (pool == NULL || !kind_named(text(args, "kind", "unicast"), &kind))
        return false;
    for (unsigned i = 0; i < frames; i++) {
        struct frame frame = {process_seed, sequence++, kind, q, sizes[i % nsizes], vlan};

        frame_make(room, &frame);
        packets[i] = frame_pack(pool, room, frame.length, segment);
        if (packets[i] == NULL)
            return fail("the pool is empty after %u frames", i);
        if (flags != 0)
            ask_offloads(packets[i], kind, flags, segment_size, vlan);
        if (flags & RTE_MBUF_F_TX_L4_MASK)
            frame_begin_sum(rte_pktmbuf_mtod(packets[i], uint8_t *));
    }
    sent = send_all(port, q, packets, frames, burst, prepare, wait);
    for (unsigned i = 0; i < sent; i++)
        bytes += sizes[i % nsizes];
    rte_pktmbuf_free_bulk(packets + sent, frames - sent);
    free(packets);
    field("sent", "%u", sent);
    field("bytes", "%" PRIu64, bytes);
    return true;
}

/* Received packets that the application does not give back yet. */
static struct rte_mbuf **held;
static unsigned holding;

struct taken {
    unsigned count, corrupt, faulty, chains;
    uint64_t bytes, flags_or, flags_and, last;
    unsigned sums_full, sums_partial, ip_sums;
    bool ordered;
    uint16_t segment_size, vlan, tag;
    const char *fault;
};

static void take_one(struct taken *t, const struct rte_mbuf *packet, uint16_t port, uint64_t allowed)
{
    const uint8_t *bytes = frame_unpack(packet, room);
    const char *fault = packet_fault(packet, port, allowed);
    struct frame frame;

    t->count++;
    t->bytes += packet->pkt_len;
    t->chains += packet->nb_segs > 1;
    t->flags_or |= packet->ol_flags;
    t->flags_and &= packet->ol_flags;
    t->segment_size = packet->tso_segsz;
    t->vlan = packet->vlan_tci;
    if (fault != NULL) {
        t->faulty++;
        t->fault = fault;
    }
    if (bytes == NULL || !frame_read(bytes, packet->pkt_len, process_seed, &frame)) {
        t->corrupt++;
        return;
    }
    t->ordered &= t->count == 1 || frame.sequence > t->last;
    t->last = frame.sequence;
    t->tag = frame.vlan;
    t->sums_full += (frame_sum(bytes, packet->pkt_len) & SUM_FULL) != 0;
    t->sums_partial += (frame_sum(bytes, packet->pkt_len) & SUM_PARTIAL) != 0;
    t->ip_sums += frame_ip_sum(bytes);
}

static bool take(struct args *args)
{
    uint16_t port = port_of(args), q = (uint16_t)number(args, "queue", 0);
    unsigned most = (unsigned)number(args, "most", UINT32_MAX), burst = (unsigned)number(args, "burst", 32);
    bool keep = number(args, "keep", 0) != 0;
    /* In one process all is there at once; the other process needs time. */
    double idle = (double)number(args, "idle", 5) / 1e3, last = now();
    uint64_t allowed = number(args, "flags", 0);
    struct taken t = {.flags_and = UINT64_MAX, .ordered = true};
    struct rte_mbuf *packets[MAX_BURST];

    while (t.count < most && now() - last < idle) {
        uint16_t count = rte_eth_rx_burst(port, q, packets, (uint16_t)RTE_MIN(RTE_MIN(burst, MAX_BURST), most - t.count));

        for (uint16_t i = 0; i < count; i++)
            take_one(&t, packets[i], port, allowed);
        if (keep) {
            held = realloc(held, (holding + count) * sizeof(*held));
            memcpy(held + holding, packets, count * sizeof(*held));
            holding += count;
        } else {
            rte_pktmbuf_free_bulk(packets, count);
        }
        if (count != 0)
            last = now();
    }
    field("taken", "%u", t.count);
    field("bytes", "%" PRIu64, t.bytes);
    field("corrupt", "%u", t.corrupt);
    field("faulty", "%u", t.faulty);
    field("fault", "%s", t.fault == NULL ? "" : t.fault);
    field("ordered", "%d", t.ordered);
    field("chains", "%u", t.chains);
    field("or", "0x%" PRIx64, t.flags_or);
    field("and", "0x%" PRIx64, t.flags_and);
    field("segsz", "%u", t.segment_size);
    field("vlan", "%u", t.vlan);
    field("tag", "%u", t.tag);
    field("sums_full", "%u", t.sums_full);
    field("sums_partial", "%u", t.sums_partial);
    field("ip_sums", "%u", t.ip_sums);
    return true;
}

static bool drop(struct args *args)
{
    unsigned count = (unsigned)RTE_MIN(number(args, "most", holding), holding);

    holding -= count;
    rte_pktmbuf_free_bulk(held + holding, count);
    field("dropped", "%u", count);
    return true;
}

/* From a port to another, until nothing comes, or `most` have; what the other does not take is dropped, as switches do. */
static bool forward(struct args *args)
{
    uint16_t from = port_of(args), to = (uint16_t)number(args, "to", from), q = (uint16_t)number(args, "queue", 0);
    unsigned forwarded = 0, dropped = 0, most = (unsigned)number(args, "most", UINT32_MAX);
    double idle = (double)number(args, "idle", 5) / 1e3, last = now();
    struct rte_mbuf *packets[MAX_BURST];

    while (now() - last < idle && forwarded + dropped < most) {
        uint16_t count = rte_eth_rx_burst(from, q, packets, (uint16_t)RTE_MIN(32u, most - forwarded - dropped));
        uint16_t sent = rte_eth_tx_burst(to, q, packets, count);

        rte_pktmbuf_free_bulk(packets + sent, count - sent);
        forwarded += sent;
        dropped += count - sent;
        if (count != 0)
            last = now();
    }
    field("forwarded", "%u", forwarded);
    field("dropped", "%u", dropped);
    return true;
}

const struct command traffic_commands[] = {
    {"exchange", exchange}, {"send", send_frames}, {"take", take}, {"drop", drop}, {"forward", forward}, {NULL, NULL},
};
