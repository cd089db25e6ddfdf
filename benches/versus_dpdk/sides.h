/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* Both drivers' ports on a path, each with a back-end of its own. */
#ifndef VERSUS_SIDES_H
#define VERSUS_SIDES_H

#include "measure.h"
#include "options.h"

/* Sockets are made below a directory that only we can enter. Ends the program when there can be none. */
void scratch_make(void);
const char *scratch_path(const char *name, char *buffer, size_t len);
void scratch_remove(void);

/* The driver's name out of "driver,devargs". */
const char *driver_name(const char *spec, char *buffer, size_t len);

/* Side 0 is a, side 1 is b; `first` is opened first. With null: starts the null back-ends that the ports are
 * connected to; otherwise somebody listens at the sockets "vhost-a" and "vhost-b" of the scratch directory. NULL or a
 * sentence. */
const char *sides_open(struct side sides[2], unsigned first, const struct options *options, const struct path *path,
                       uint16_t ring, uint16_t queues, bool null);
const char *sides_close(struct side sides[2], bool null);

#endif
