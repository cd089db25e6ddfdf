/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The middle of many figures, and how far they spread. */
#ifndef VERSUS_STATS_H
#define VERSUS_STATS_H

#include <stddef.h>

struct quartiles {
    double q1, median, q3;
};

/* Sorts the figures. All 0 when there are none. */
struct quartiles quartiles(double *figures, size_t n);

#endif
