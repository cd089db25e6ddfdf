/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* What shall happen, drawn from a seed and from nothing else. */
#define _GNU_SOURCE

#include "mix.h"

const char *const peer_names[PEERS_] = { "own", "testpmd" };
const char *const act_names[ACTS] = { "kill", "freeze", "drip", "end", "stop-queue", "pairs", "link", "restart", "memory",
                                      "capture", "hang" };

struct dice {
    uint64_t state;
};

static unsigned roll(struct dice *d, unsigned below)
{
    d->state = mix(d->state);
    return (unsigned)(d->state % below);
}

static struct action choose(struct dice *d, const struct session *s)
{
    /* Hanging takes a deadline, so that it is rare. */
    static const enum act acts[] = { KILL, KILL, KILL, FREEZE, FREEZE, DRIP, END, STOP_QUEUE, STOP_QUEUE, PAIRS, LINK,
                                     RESTART, RESTART, MEMORY, MEMORY, CAPTURE, CAPTURE, HANG };
    struct action a;

    a.act = acts[roll(d, sizeof(acts) / sizeof(acts[0]))];
    a.pair = roll(d, s->pairs);
    a.ms = 5 + roll(d, 200);
    a.n = 1 + roll(d, 6);
    return a;
}

void plan(uint64_t seed, uint64_t number, bool testpmd, struct session *s)
{
    struct dice d = { mix(seed ^ mix(number)) };
    const unsigned who = roll(&d, 100), exponent = roll(&d, 4), extras = roll(&d, 32);

    s->peer = who < 50 || !testpmd ? OWN : TESTPMD;
    s->pairs = 1 + roll(&d, MAX_PAIRS);
    s->packed = number % 2;
    s->server = s->peer == TESTPMD && roll(&d, 2) == 0;
    s->window = (64u << exponent) / 2;
    /* A vhost of DPDK's whose threads have not been let run for a while, with the lock of a ring, answers after 2 s and more. */
    snprintf(s->devargs, sizeof(s->devargs),
             "packed_vq=%u,server=%u,queues=%u,queue_size=%u,mrg_rxbuf=%u,in_order=%u,event_idx=%u,indirect=%u,resend=%u,"
             "huge=0,reconnect_ms=20,timeout_ms=5000",
             s->packed, s->server, s->pairs, 64u << exponent, (extras & 3) != 0, (extras & 4) != 0, (extras & 8) != 0,
             (extras & 16) != 0, roll(&d, 4) != 0);
    s->nactions = 3 + roll(&d, MAX_ACTIONS - 2);
    for (unsigned k = 0; k < s->nactions; k++)
        s->actions[k] = choose(&d, s);
}

void plan_print(uint64_t number, const struct session *s)
{
    printf("session %llu: %s, %s:", (unsigned long long)number, peer_names[s->peer], s->devargs);
    for (unsigned k = 0; k < s->nactions; k++)
        printf(" %s", act_names[s->actions[k].act]);
    printf("\n");
    fflush(stdout);
}
