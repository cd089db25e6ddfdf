/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * port: drives ports of any DPDK driver as its standard input says, and says what came of it.
 *
 * A command is a line, `verb key=value ...`. Its answer is a line too, fields divided by tabs: `ok`, then key=value
 * as the verb has it, or `error` and a sentence. A key that no verb reads is an error: a test must not ask for
 * something and not get it.
 */
#ifndef PORT_H
#define PORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#define MAX_BURST 64u
#define MAX_FRAME 65535
#define MAX_SIZES 16u

struct args;

/* What a command reads of its line; the fallback when it is not there. */
const char *text(struct args *args, const char *key, const char *fallback);
uint64_t number(struct args *args, const char *key, uint64_t fallback);
unsigned numbers(struct args *args, const char *key, unsigned fallback, unsigned *list, unsigned most);

/* What a command answers. */
void field(const char *key, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

typedef bool command_fn(struct args *args);
struct command {
    const char *verb;
    command_fn *run;
};
/* Each ends with a NULL verb. */
extern const struct command port_commands[], traffic_commands[], odd_commands[], view_commands[], memory_commands[],
    event_commands[], rss_commands[], ordeal_commands[];

/* Seconds of a clock that only goes forward. */
double now(void);

/* frames.c */

enum kind { UNICAST, MULTICAST, BROADCAST, TAGGED, UDP4, TCP4, TCP6, KINDS };

/* What a frame is: its bytes follow from this and nothing else. */
struct frame {
    uint64_t seed, sequence;
    enum kind kind;
    unsigned lane, length;
    uint16_t vlan;
};

bool kind_named(const char *name, enum kind *kind);
unsigned frame_headers(enum kind kind);
unsigned frame_smallest(enum kind kind);
void frame_make(uint8_t *bytes, const struct frame *frame);
/* Whether these are a frame's bytes, all of them, and which frame's. */
bool frame_read(const uint8_t *bytes, unsigned length, uint64_t seed, struct frame *frame);

/* Whether they begin like a frame, as far as both go: they end early, or there are more behind its end. */
bool frame_like(const uint8_t *bytes, unsigned length, uint64_t seed);

/* What the checksum of TCP or UDP in a frame is: of all, of the pseudo-header only, or neither. */
/* Bits: a sum may be both. */
enum sum { SUM_PARTIAL = 1, SUM_FULL = 2 };
unsigned frame_sum(const uint8_t *bytes, unsigned length);
bool frame_ip_sum(const uint8_t *bytes);
/* Fills in that of the pseudo-header, which is where whoever has the checksum computed begins. */
void frame_begin_sum(uint8_t *bytes);

struct rte_mbuf *frame_pack(struct rte_mempool *pool, const uint8_t *bytes, unsigned length, unsigned segment);
/* The packet's bytes, and whether its segments add up; NULL then. */
const uint8_t *frame_unpack(const struct rte_mbuf *packet, uint8_t *room);
/* What is wrong with a received packet but for its bytes; NULL when nothing is. */
const char *packet_fault(const struct rte_mbuf *packet, uint16_t port, uint64_t flags_allowed);

/* ports.c */

struct rte_mempool *pool_named(const char *name);
uint16_t port_of(struct args *args);

/* traffic.c */

unsigned send_all(uint16_t port, uint16_t queue, struct rte_mbuf **packets, unsigned count, unsigned burst, bool prepare,
                  unsigned wait_ms);
extern uint64_t process_seed;

#endif
