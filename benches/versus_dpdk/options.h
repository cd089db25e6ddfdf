/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The command line: which drivers, and what is to be measured. */
#ifndef VERSUS_OPTIONS_H
#define VERSUS_OPTIONS_H

#include "measure.h"

#define MAX_LIBRARIES 8
#define MAX_PLANS     256

/* Something to measure on each path: with these rings and bursts, in which stages and directions. */
struct plan {
    uint16_t ring, queues, burst, size;
    unsigned directions[STAGES];    /* bits 1 << enum direction */
};

struct options {
    const char *a, *b;              /* driver[,devargs] */
    const char *b_scalar;           /* devargs with which b uses no wide lanes; NULL: not asked for */
    const char *libraries[MAX_LIBRARIES];
    unsigned library_count;
    unsigned stages, paths;         /* bits */
    struct plan plans[MAX_PLANS];
    unsigned plan_count;
    unsigned passes, rounds;        /* rounds: per pass and thing to measure */
    unsigned seconds;               /* after that, what has been measured is reported; 0: no limit */
    bool no_huge, instructions_only;
    const char *csv, *commit;
};

/* Ends the program when the command line is wrong. */
void options_read(struct options *options, int argc, char **argv);

#endif
