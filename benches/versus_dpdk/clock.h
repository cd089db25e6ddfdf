/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* Time, in cycles of the time stamp counter. */
#ifndef VERSUS_CLOCK_H
#define VERSUS_CLOCK_H

#include <inttypes.h>
#include <rte_cycles.h>
#include <stdint.h>
#include <stdio.h>
#include <x86intrin.h>

/* Between two fences: nothing of what is measured starts before it, nothing of what came before ends behind it. */
static inline uint64_t fenced_tsc(void)
{
    _mm_lfence();
    uint64_t t = __rdtsc();
    _mm_lfence();
    return t;
}

static inline uint64_t after_us(uint64_t us)
{
    return __rdtsc() + us * rte_get_tsc_hz() / 1000000;
}

/* Half a percent of a slice: a moment of the kernel's is no reason to measure again. */
#define MOST_WAIT_NS 20000

/* How long a thread has waited for a CPU that another one had: the second number of its schedstat, which is closed. */
static inline uint64_t waited_by(FILE *stat)
{
    uint64_t ran, waited = 0;

    if (stat && fscanf(stat, "%" SCNu64 " %" SCNu64, &ran, &waited) != 2)
        waited = 0;
    if (stat)
        fclose(stat);
    return waited;
}

/* The same of this thread. */
static inline uint64_t waited_ns(void)
{
    return waited_by(fopen("/proc/thread-self/schedstat", "r"));
}

static inline uint64_t saturating_sub(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

#endif
