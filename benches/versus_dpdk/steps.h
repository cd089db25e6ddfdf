/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* Exact instruction counts: the CPU's trap flag raises SIGTRAP after each instruction. */
#ifndef VERSUS_STEPS_H
#define VERSUS_STEPS_H

#include <stdint.h>

#include <rte_mbuf.h>

typedef uint16_t (*burst_fn)(void *queue, struct rte_mbuf **packets, uint16_t n);

/* Before the first count. */
void steps_init(void);

/* Calls a burst and counts its instructions. */
uint16_t steps_burst(burst_fn burst, void *queue, struct rte_mbuf **packets, uint16_t n, uint64_t *instructions);

#endif
