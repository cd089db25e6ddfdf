/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* All rounds of all that was measured, and what they say. */
#ifndef VERSUS_RESULTS_H
#define VERSUS_RESULTS_H

#include <stdbool.h>
#include <stdio.h>

#include "measure.h"
#include "stats.h"

/* One thing that was measured, round by round. */
struct result {
    enum stage stage;
    enum regime regime;
    struct setup setup;
    size_t rounds;
    struct sample *a, *b;
};

struct results {
    struct result *all;
    size_t count;
    size_t drifted;       /* rounds that do not count, for the distance of the cores changed */
    size_t disturbed;     /* rounds that do not count, for somebody else had one of the CPUs for a while */
};

/* Who and where, for whoever reads the figures. */
struct about {
    const char *a, *b;            /* the drivers */
    const char *dpdk, *commit;
    char cpu[128], date[32];
    bool compare_with_targets;    /* the drivers are two different ones */
};

/* What is asked of a result: a bound of the ratio b/a, or of b itself. */
struct verdict {
    bool asked, at_most, of_ratio, met;
    double bound;
};

struct summary {
    struct quartiles a, b, ratio;
    struct sample a_other, b_other;   /* medians of everything but the value */
    struct verdict verdict;
};

void results_add(struct results *results, enum stage stage, const struct setup *setup, enum regime regime,
                 const struct sample *a, const struct sample *b);
struct summary summarise(const struct result *result, const struct about *about);
void results_free(struct results *results);

/* Tables for people. */
void report_tables(const struct results *results, const struct about *about, FILE *out);
/* Everything for programs. */
void report_csv(const struct results *results, const struct about *about, FILE *out);
/* Instruction counts alone, for a test. */
void report_instructions(const struct results *results, const struct about *about, FILE *out);

#endif
