/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * What the programs that meet back-ends of others have in common: flows of numbered frames, each of which is checked byte
 * by byte and is known to have come or not.
 */
#ifndef PEERS_H
#define PEERS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vuser.h"

#define BURST 32u
#define MAX_FRAME 1518u
#define MAX_FLOWS 16u

/* Frames from one transmit queue to somewhere, numbered from 0. */
struct flow {
    uint16_t id;
    uint8_t to[6], from[6];
    struct vuser_queue *tx;
    uint64_t built;       /* Frames made; */
    uint64_t taken;       /* of these, taken by the transmit burst; */
    uint64_t received;    /* of these, come, each counted once. */
    uint64_t duplicate;   /* Came again. */
    uint64_t late;        /* Came after one that was sent later. */
    uint64_t next;        /* One more than the highest number that came. */
    uint64_t floor;       /* Frames before it are not waited for any more ... */
    uint64_t above;       /* ... and so many from there on have come. */
    uint8_t *seen;        /* A byte for each frame made: whether it came. */
    struct vuser_mbuf *pending[BURST];
    unsigned first, n;    /* Of pending: made, and not taken yet. */
};

/* What a program keeps of a run. */
struct run {
    uint64_t seed;
    struct vuser_pool *pool;
    struct flow flows[MAX_FLOWS];
    unsigned nflows;
    uint64_t corrupt;     /* Frames that nobody sent. */
    char error[512];      /* The first thing that went wrong. */
};

/* Notes what went wrong, once, and returns false. */
bool wrong(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Seconds of a clock that only goes forward. */
double now(void);
uint64_t mix(uint64_t x);
/* Ends the program with a sentence when this is not said again within so many seconds. */
void watch(const char *what, unsigned seconds);

/* Makes a new flow; NULL when there are too many. */
struct flow *flow_add(struct run *run, const uint8_t *to, const uint8_t *from, struct vuser_queue *tx);
/* Sends frames as long as fewer than `window` are under way. Returns how many were taken. */
unsigned flow_send(struct run *run, struct flow *flow, unsigned window);
/* Frees what was made and not taken, as if it had not been made. */
void flow_take_back(struct flow *flow);
/* Frames that were taken and are waited for. */
uint64_t flow_under_way(const struct flow *flow);
/* Waits no more for frames before this one. */
void flow_write_off(struct flow *flow, uint64_t before);
bool flow_has(const struct flow *flow, uint64_t number);
/* Whose frame it is, after comparing every byte; NULL: nobody's, and counted as corrupt. */
struct flow *flow_of(struct run *run, const struct vuser_mbuf *m, uint64_t *number);
/* Whether it begins like a frame that was sent, as far as both go: it ends early, or has more bytes behind its end. */
bool flow_like(const struct run *run, const struct vuser_mbuf *m);
/* Counts a frame that has come where it was to go. */
void flow_receive(struct flow *flow, uint64_t number);
void flow_free(struct flow *flow);

void print_text(const char *text);

/* Somebody else's program, its standard input open and silent, its output in a file. */
struct child {
    char **command;
    const char *log;
    int pid;              /* 0: it does not run. */
    int in, out;
};

bool child_start(struct run *run, struct child *child);
/* Whether it runs; if not, that is wrong. */
bool child_lives(struct run *run, struct child *child);
/* Stops it where it is, as a debugger would. */
void child_stop(const struct child *child);
/* Lets it go on. */
void child_continue(const struct child *child);
/* Kills it and waits until it is gone. */
void child_kill(struct child *child);
/* Asks it to end, and waits for that; one that does not is killed. */
void child_end(struct child *child);

/* Descriptors of this process; its mappings, or those of them that are shared; memory that it has in use. */
unsigned count_fds(void);
unsigned count_maps(bool shared);
unsigned long resident_kib(void);

#endif
