/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The parts of mix.c: what is planned, the thread that bursts, and the run that both are of. */
#ifndef MIX_H
#define MIX_H

#include "peers.h"

#define MAX_PAIRS 3u
#define MAX_ACTIONS 12u

enum peer { OWN, TESTPMD, PEERS_ };

enum act { KILL, FREEZE, DRIP, END, STOP_QUEUE, PAIRS, LINK, RESTART, MEMORY, CAPTURE, HANG, ACTS };

struct action {
    enum act act;
    unsigned pair, ms, n;
};

/* One device, from its making to its end, and what happens to it. */
struct session {
    enum peer peer;
    unsigned pairs, window;
    bool packed, server;
    char devargs[320];        /* Without the path. */
    struct action actions[MAX_ACTIONS];
    unsigned nactions;
};

extern const char *const peer_names[PEERS_];
extern const char *const act_names[ACTS];

/* The session of this number: of one seed it is always the same. */
void plan(uint64_t seed, uint64_t number, bool testpmd, struct session *s);
void plan_print(uint64_t number, const struct session *s);

/* What the thread that bursts is to do. */
enum mode { PARK, RUN, DRAIN, LEAVE };

struct lane {
    struct vuser_queue *rx, *tx;
    struct flow *flow;
};

struct traffic {
    struct run *run;
    struct lane lanes[MAX_PAIRS];
    unsigned pairs, window;
    enum mode wanted, at;     /* Atomic, as all that follows. */
    uint64_t moved;           /* Frames that came. */
    uint64_t left;            /* Frames under way, when draining. */
};

void *traffic_main(void *traffic);
/* Returns when the thread does it. While it is parked, queues and flows are the caller's. */
void traffic_set(struct traffic *t, enum mode mode);
uint64_t traffic_read(const uint64_t *what);

#endif
