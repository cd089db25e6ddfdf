/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* DPDK's vhost as the device: one dpdk-testpmd for each side, of which only one at a time gets to run. */
#ifndef VERSUS_VHOST_H
#define VERSUS_VHOST_H

#include <stdbool.h>

#include "measure.h"

/* Starts both on this CPU; they serve one port after another until vhost_stop. NULL or why not. */
const char *vhost_start(int cpu, bool no_huge);
void vhost_stop(void);

const char *vhost_slice(struct side *side, const struct setup *setup, struct sample *sample);

#endif
