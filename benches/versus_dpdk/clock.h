/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* Time, in cycles of the time stamp counter. */
#ifndef VERSUS_CLOCK_H
#define VERSUS_CLOCK_H

#include <stdint.h>
#include <sys/resource.h>
#include <x86intrin.h>

#include <rte_cycles.h>

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

/* How often this thread has lost its CPU to another one. */
static inline long lost_cpu(void)
{
    struct rusage usage;

    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw;
}

static inline uint64_t saturating_sub(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

#endif
