/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* How far the two cores are from each other: the time that one cache line takes there and back. */
#ifndef VERSUS_MARKER_H
#define VERSUS_MARKER_H

#include "measure.h"

/* Cycles of a round trip: the median of some hundred. The other lcore must be free. */
double marker(void);

/* NO_MATTER when the cores are neither near nor far, or were not the same before and after. */
enum regime marker_regime(double before, double after);

#endif
