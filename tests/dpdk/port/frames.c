/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * A frame's bytes are a function of what it is. The receiver reads that out of the frame, makes the frame again and
 * compares all of it: a checksum would only say less. A seed for each run makes leftovers of an earlier one wrong.
 */
#include "port.h"

#include <string.h>

#include <rte_byteorder.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#define MAGIC UINT32_C(0x76757365) /* "vuse" */
#define LOCAL_TYPE 0x88b5          /* an EtherType for local experiments */

/* Follows the headers, at any address. */
struct stamp {
    uint32_t magic;
    uint16_t lane, length;
    uint64_t sequence;
} __attribute__((packed));

static const struct {
    const char *name;
    unsigned headers;
} kinds[KINDS] = {
    [UNICAST] = {"unicast", 14}, [MULTICAST] = {"multicast", 14}, [BROADCAST] = {"broadcast", 14},
    [TAGGED] = {"tagged", 18},   [UDP4] = {"udp4", 14 + 20 + 8},  [TCP4] = {"tcp4", 14 + 20 + 20},
    [TCP6] = {"tcp6", 14 + 40 + 20},
};

bool kind_named(const char *name, enum kind *kind)
{
    for (unsigned k = 0; k < KINDS; k++)
        if (strcmp(kinds[k].name, name) == 0) {
            *kind = (enum kind)k;
            return true;
        }
    return fail("kind=%s: no such kind of frame", name);
}

unsigned frame_headers(enum kind kind)
{
    return kinds[kind].headers;
}

unsigned frame_smallest(enum kind kind)
{
    return kinds[kind].headers + (unsigned)sizeof(struct stamp);
}

/* One step of splitmix64: cheap, and any two inputs give unrelated outputs. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void noise(uint8_t *bytes, unsigned length, uint64_t state)
{
    unsigned at = 0;

    for (; at + 8 <= length; at += 8) {
        uint64_t word = state * UINT64_C(0x9e3779b97f4a7c15);

        word ^= word >> 29;
        memcpy(bytes + at, &word, 8);
        state += UINT64_C(0xd1342543de82ef95);
    }
    state = mix(state);
    memcpy(bytes + at, &state, length - at);
}

static void ip4_headers(uint8_t *at, unsigned length, uint8_t protocol)
{
    struct rte_ipv4_hdr ip = {
        .version_ihl = RTE_IPV4_VHL_DEF,
        .total_length = rte_cpu_to_be_16((uint16_t)length),
        .time_to_live = 64,
        .next_proto_id = protocol,
        .src_addr = RTE_BE32(0x0a000001),
        .dst_addr = RTE_BE32(0x0a000002),
    };

    memcpy(at, &ip, sizeof(ip));
}

static void ip6_headers(uint8_t *at, unsigned length, uint8_t protocol)
{
    struct rte_ipv6_hdr ip = {
        .vtc_flow = RTE_BE32(0x60000000),
        .payload_len = rte_cpu_to_be_16((uint16_t)(length - sizeof(ip))),
        .proto = protocol,
        .hop_limits = 64,
        .src_addr = {0xfd, [15] = 1},
        .dst_addr = {0xfd, [15] = 2},
    };

    memcpy(at, &ip, sizeof(ip));
}

static void l4_headers(uint8_t *at, unsigned length, enum kind kind)
{
    struct rte_udp_hdr udp = {RTE_BE16(1024), RTE_BE16(1025), rte_cpu_to_be_16((uint16_t)length), 0};
    struct rte_tcp_hdr tcp = {
        .src_port = RTE_BE16(1024),
        .dst_port = RTE_BE16(1025),
        .data_off = sizeof(tcp) / 4 << 4,
        .tcp_flags = RTE_TCP_ACK_FLAG,
        .rx_win = RTE_BE16(0xffff),
    };

    if (kind == UDP4)
        memcpy(at, &udp, sizeof(udp));
    else
        memcpy(at, &tcp, sizeof(tcp));
}

static void make_headers(uint8_t *bytes, const struct frame *frame)
{
    static const uint8_t to[KINDS][6] = {
        [UNICAST] = {2, 0, 0, 0, 0, 2}, [MULTICAST] = {1, 0, 0x5e, 0, 0, 2},
        [BROADCAST] = {255, 255, 255, 255, 255, 255}, [TAGGED] = {2, 0, 0, 0, 0, 2}, [UDP4] = {2, 0, 0, 0, 0, 2},
        [TCP4] = {2, 0, 0, 0, 0, 2}, [TCP6] = {2, 0, 0, 0, 0, 2},
    };
    static const uint8_t from[6] = {2, 0, 0, 0, 0, 1};
    static const uint16_t types[KINDS] = {
        LOCAL_TYPE, LOCAL_TYPE, LOCAL_TYPE, RTE_ETHER_TYPE_VLAN,
        RTE_ETHER_TYPE_IPV4, RTE_ETHER_TYPE_IPV4, RTE_ETHER_TYPE_IPV6,
    };
    uint16_t type = rte_cpu_to_be_16(types[frame->kind]);
    uint16_t tag[2] = {rte_cpu_to_be_16(frame->vlan), RTE_BE16(LOCAL_TYPE)};
    unsigned rest = frame->length - 14;

    memcpy(bytes, to[frame->kind], 6);
    memcpy(bytes + 6, from, 6);
    memcpy(bytes + 12, &type, 2);
    if (frame->kind == TAGGED)
        memcpy(bytes + 14, tag, 4);
    if (frame->kind == UDP4 || frame->kind == TCP4) {
        ip4_headers(bytes + 14, rest, frame->kind == UDP4 ? 17 : 6);
        l4_headers(bytes + 34, rest - 20, frame->kind);
    } else if (frame->kind == TCP6) {
        ip6_headers(bytes + 14, rest, 6);
        l4_headers(bytes + 54, rest - 40, frame->kind);
    }
}

/* Says nothing of the headers in front, so that a tag that was inserted or taken out on the way changes nothing. */
static void make_payload(uint8_t *at, const struct frame *frame, unsigned length)
{
    struct stamp stamp = {MAGIC, (uint16_t)frame->lane, (uint16_t)length, frame->sequence};
    uint64_t state = mix(frame->seed ^ mix(frame->sequence ^ (uint64_t)frame->lane << 48) ^ length);

    memcpy(at, &stamp, sizeof(stamp));
    noise(at + sizeof(stamp), length - (unsigned)sizeof(stamp), state);
}

void frame_make(uint8_t *bytes, const struct frame *frame)
{
    unsigned headers = frame_headers(frame->kind);

    make_headers(bytes, frame);
    make_payload(bytes + headers, frame, frame->length - headers);
}

static enum kind kind_of(const uint8_t *bytes)
{
    switch (bytes[12] << 8 | bytes[13]) {
    case RTE_ETHER_TYPE_VLAN: return TAGGED;
    case RTE_ETHER_TYPE_IPV4: return bytes[23] == 17 ? UDP4 : TCP4;
    case RTE_ETHER_TYPE_IPV6: return TCP6;
    default: return bytes[0] == 0xff ? BROADCAST : bytes[0] & 1 ? MULTICAST : UNICAST;
    }
}

bool frame_read(const uint8_t *bytes, unsigned length, uint64_t seed, struct frame *frame)
{
    static uint8_t expected[MAX_FRAME + 8];
    struct stamp stamp;
    unsigned headers;

    if (length < frame_smallest(UNICAST))
        return false;
    frame->kind = kind_of(bytes);
    if (length < frame_smallest(frame->kind))
        return false;
    headers = frame_headers(frame->kind);
    memcpy(&stamp, bytes + headers, sizeof(stamp));
    frame->seed = seed;
    frame->sequence = stamp.sequence;
    frame->lane = stamp.lane;
    frame->length = length;
    frame->vlan = frame->kind == TAGGED ? (uint16_t)(bytes[14] << 8 | bytes[15]) : 0;
    frame_make(expected, frame);
    /* Of IP only the addresses of the frame: checksums and lengths are what offloads change. */
    return memcmp(bytes, expected, frame->kind < UDP4 ? headers : 12) == 0 &&
           memcmp(bytes + headers, expected + headers, length - headers) == 0;
}

bool frame_like(const uint8_t *bytes, unsigned length, uint64_t seed)
{
    static uint8_t expected[MAX_FRAME + 8];
    const unsigned headers = frame_headers(UNICAST);
    struct frame frame = {.seed = seed, .kind = UNICAST};
    struct stamp stamp;

    if (length < frame_smallest(UNICAST))
        return false;
    memcpy(&stamp, bytes + headers, sizeof(stamp));
    if (stamp.magic != MAGIC || stamp.length < sizeof(stamp) || stamp.length > MAX_FRAME - headers)
        return false;
    frame.sequence = stamp.sequence;
    frame.lane = stamp.lane;
    frame.length = headers + stamp.length;
    frame_make(expected, &frame);
    return memcmp(bytes, expected, length < frame.length ? length : frame.length) == 0;
}

/* Where the checksum of TCP or UDP is; 0 in a frame that has none. */
static unsigned sum_offset(const uint8_t *bytes)
{
    switch (kind_of(bytes)) {
    case UDP4: return 34 + offsetof(struct rte_udp_hdr, dgram_cksum);
    case TCP4: return 34 + offsetof(struct rte_tcp_hdr, cksum);
    case TCP6: return 54 + offsetof(struct rte_tcp_hdr, cksum);
    default: return 0;
    }
}

static uint16_t pseudo_sum(const uint8_t *bytes)
{
    return kind_of(bytes) == TCP6 ? rte_ipv6_phdr_cksum((const void *)(bytes + 14), 0)
                                  : rte_ipv4_phdr_cksum((const void *)(bytes + 14), 0);
}

void frame_begin_sum(uint8_t *bytes)
{
    uint16_t sum = pseudo_sum(bytes);

    if (sum_offset(bytes) != 0)
        memcpy(bytes + sum_offset(bytes), &sum, sizeof(sum));
}

unsigned frame_sum(const uint8_t *bytes, unsigned length)
{
    uint16_t sum, pseudo;
    int wrong;

    if (sum_offset(bytes) == 0 || length < frame_smallest(kind_of(bytes)))
        return 0;
    memcpy(&sum, bytes + sum_offset(bytes), sizeof(sum));
    pseudo = pseudo_sum(bytes);
    wrong = kind_of(bytes) == TCP6 ? rte_ipv6_udptcp_cksum_verify((const void *)(bytes + 14), bytes + 54)
                                   : rte_ipv4_udptcp_cksum_verify((const void *)(bytes + 14), bytes + 34);
    /* One frame in 65535 has the same sum in either way. */
    return (wrong == 0 ? SUM_FULL : 0) | (sum == pseudo ? SUM_PARTIAL : 0);
}

bool frame_ip_sum(const uint8_t *bytes)
{
    uint16_t sum = rte_raw_cksum(bytes + 14, 20);

    return (kind_of(bytes) == UDP4 || kind_of(bytes) == TCP4) && sum == 0xffff;
}

struct rte_mbuf *frame_pack(struct rte_mempool *pool, const uint8_t *bytes, unsigned length, unsigned segment)
{
    struct rte_mbuf *head = NULL;

    for (unsigned at = 0; at < length;) {
        struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
        unsigned part = length - at;

        if (m != NULL && part > rte_pktmbuf_tailroom(m))
            part = rte_pktmbuf_tailroom(m);
        if (segment != 0 && part > segment)
            part = segment;
        if (m == NULL || (head != NULL && rte_pktmbuf_chain(head, m) != 0)) {
            rte_pktmbuf_free(m);
            rte_pktmbuf_free(head);
            return NULL;
        }
        if (head == NULL)
            head = m;
        memcpy(rte_pktmbuf_mtod(m, void *), bytes + at, part);
        m->data_len = (uint16_t)part;
        head->pkt_len += part;
        at += part;
    }
    return head;
}

const uint8_t *frame_unpack(const struct rte_mbuf *packet, uint8_t *room)
{
    return packet->pkt_len > MAX_FRAME ? NULL : rte_pktmbuf_read(packet, 0, packet->pkt_len, room);
}

const char *packet_fault(const struct rte_mbuf *packet, uint16_t port, uint64_t flags_allowed)
{
    unsigned segments = 0, bytes = 0;

    if (packet->port != port)
        return "port is another";
    if ((packet->ol_flags & ~flags_allowed) != 0)
        return "ol_flags has bits that nobody set";
    if (packet->packet_type == UINT32_MAX)
        return "packet_type is that of the buffer's former life";
    for (const struct rte_mbuf *m = packet; m != NULL; m = m->next) {
        segments++;
        bytes += m->data_len;
        if (rte_mbuf_refcnt_read(m) != 1)
            return "a segment has not one owner";
        if (m->data_off + m->data_len > m->buf_len)
            return "a segment is longer than its buffer";
    }
    if (segments != packet->nb_segs)
        return "nb_segs does not say how many there are";
    return bytes == packet->pkt_len ? NULL : "the segments do not add up to pkt_len";
}
