/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* DPDK's vhost as the device: one dpdk-testpmd for each side, of which only one at a time gets to run. */
#ifndef VERSUS_VHOST_H
#define VERSUS_VHOST_H

#include <stdbool.h>

#include "measure.h"

/* Says where it is to run. */
void vhost_init(int cpu, bool no_huge);

/* Both with so many queue pairs, listening, and running until vhost_ready. NULL or why not. */
const char *vhost_listen(uint16_t queues);
/* The ports are there: from now on nobody runs but in a slice. */
void vhost_ready(void);
/* The ports are about to go: both run. */
void vhost_release(void);
void vhost_stop(void);

const char *vhost_slice(struct side *side, const struct setup *setup, struct sample *sample);

#endif
