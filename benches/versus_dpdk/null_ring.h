/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * The device's side of a virtqueue, of a device that does nothing: it looks at the descriptors it is given, as every
 * device must, and marks them as used. No payload is read or written. Layouts: VIRTIO 1.3, 2.7 and 2.8.
 */
#ifndef VERSUS_NULL_RING_H
#define VERSUS_NULL_RING_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_ring.h>

/* Memory that the driver told the device of: guest-physical addresses become ours by adding a number. */
struct null_region {
    uint64_t guest, len, user;
};

#define NULL_REGIONS 64

struct null_memory {
    unsigned count;
    struct null_region regions[NULL_REGIONS];
};

/* Bytes of the header that goes before each frame (VERSION_1). */
#define NULL_HEADER 12

struct null_ring {
    /* Written by the control thread, while nobody serves the ring. */
    uint64_t desc, avail, used;        /* our addresses; packed: avail is the driver's event area, used the device's */
    uint16_t size;
    bool packed, in_order, enabled;
    const struct null_memory *memory;
    /* Of who serves it. */
    uint16_t next;                     /* split: free-running; packed: a slot */
    bool wrap;
    const char *broken;                /* what the driver did that it must not */
    uint64_t frames, bytes;            /* descriptors that were used, and their lengths summed up */
};

/* Uses up to n buffers to receive into as if a frame of len bytes, header included, had come with each. */
uint16_t null_receive(struct null_ring *ring, uint16_t n, uint32_t len, bool mergeable);

/* Uses up to n buffers that were sent. */
uint16_t null_send(struct null_ring *ring, uint16_t n);

/* Asks the driver not to kick: this device polls. */
void null_quiet(struct null_ring *ring);

/* Our address of guest-physical memory, NULL when it is not in one region from end to end. */
void *null_at(const struct null_memory *memory, uint64_t guest, uint64_t len);

#endif
