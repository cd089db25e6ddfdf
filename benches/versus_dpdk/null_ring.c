/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "null_ring.h"

#include <stddef.h>

#include <linux/virtio_net.h>

#define AVAIL_BIT (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED_BIT  (1u << VRING_PACKED_DESC_F_USED)
#define ALWAYS_INLINE inline __attribute__((always_inline))

void *null_at(const struct null_memory *memory, uint64_t guest, uint64_t len)
{
    for (unsigned i = 0; i < memory->count; i++) {
        const struct null_region *region = &memory->regions[i];

        if (guest - region->guest < region->len && len <= region->len - (guest - region->guest))
            return (void *)(uintptr_t)(region->user + (guest - region->guest));
    }
    return NULL;
}

/* What a device has to know of a buffer before it may use it. */
static ALWAYS_INLINE bool acceptable(struct null_ring *ring, uint64_t addr, uint32_t have, uint16_t flags,
                                     uint32_t len, bool receive, bool mergeable)
{
    uint16_t of_interest = VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT;

    if (__builtin_expect((flags & of_interest) != (receive ? VRING_DESC_F_WRITE : 0), 0)) {
        ring->broken = receive ? "a buffer to receive into is one writable descriptor here"
                               : "a frame is one readable descriptor here";
        return false;
    }
    if (__builtin_expect(receive && have < len, 0)) {
        ring->broken = "a buffer to receive into is smaller than the frame";
        return false;
    }
    if (mergeable) {
        struct virtio_net_hdr_v1 *header = null_at(ring->memory, addr, have);

        if (__builtin_expect(!header, 0)) {
            ring->broken = "a buffer lies outside of the memory that the device was told of";
            return false;
        }
        header->num_buffers = 1;
    }
    ring->bytes += receive ? len : have;
    return true;
}

static ALWAYS_INLINE uint16_t use_split(struct null_ring *ring, uint16_t n, uint32_t len, bool receive, bool mergeable)
{
    struct vring_desc *descs = (void *)(uintptr_t)ring->desc;
    struct vring_avail *avail = (void *)(uintptr_t)ring->avail;
    struct vring_used *used = (void *)(uintptr_t)ring->used;
    uint16_t mask = ring->size - 1, i;
    uint16_t offered = __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE) - ring->next;

    if (n > offered)
        n = offered;
    for (i = 0; i < n; i++) {
        uint16_t slot = (ring->next + i) & mask, id = avail->ring[slot];
        struct vring_desc *desc = &descs[id & mask];

        if (!acceptable(ring, desc->addr, desc->len, desc->flags, len, receive, mergeable))
            break;
        used->ring[slot].id = id;
        used->ring[slot].len = len;
    }
    if (i == 0)
        return 0;
    ring->next += i;
    ring->frames += i;
    __atomic_store_n(&used->idx, ring->next, __ATOMIC_RELEASE);
    return i;
}

static ALWAYS_INLINE bool offered_packed(const struct vring_packed_desc *desc, bool wrap)
{
    uint16_t flags = __atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE);

    return (flags & (AVAIL_BIT | USED_BIT)) == (wrap ? AVAIL_BIT : USED_BIT);
}

/* Length, id and flags in one store, so that none of them is seen without the others. */
static ALWAYS_INLINE void mark_packed(struct vring_packed_desc *desc, uint32_t len, uint16_t id, bool wrap)
{
    uint64_t flags = wrap ? AVAIL_BIT | USED_BIT : 0;

    __atomic_store_n((uint64_t *)&desc->len, len | (uint64_t)id << 32 | flags << 48, __ATOMIC_RELEASE);
}

/* Descriptors up to the end of the ring or of a cache line, which devices that care for speed take together. */
static ALWAYS_INLINE uint16_t line_end(const struct null_ring *ring, uint16_t n)
{
    uint16_t left = 4 - (ring->next & 3), end = ring->size - ring->next;

    left = left < end ? left : end;
    return left < n ? left : n;
}

static ALWAYS_INLINE void advance(struct null_ring *ring, uint16_t n)
{
    ring->next += n;
    ring->frames += n;
    if (ring->next == ring->size) {
        ring->next = 0;
        ring->wrap = !ring->wrap;
    }
}

static ALWAYS_INLINE uint16_t receive_packed(struct null_ring *ring, uint16_t n, uint32_t len, bool mergeable)
{
    struct vring_packed_desc *descs = (void *)(uintptr_t)ring->desc;
    uint16_t done = 0, wanted, some;

    do {
        struct vring_packed_desc *line = &descs[ring->next];

        wanted = line_end(ring, n - done);
        for (some = 0; some < wanted && offered_packed(&line[some], ring->wrap) &&
                       acceptable(ring, line[some].addr, line[some].len, line[some].flags, len, true, mergeable); some++)
            ;
        for (uint16_t i = 0; i < some; i++)
            mark_packed(&line[i], len, line[i].id, ring->wrap);
        advance(ring, some);
        done += some;
    } while (some == wanted && done < n);
    return done;
}

/* In order, one used descriptor stands for a batch: it has the last id, and the place of the first (2.8.12). That is how
 * DPDK's vhost does it. */
static ALWAYS_INLINE uint16_t send_packed(struct null_ring *ring, uint16_t n)
{
    struct vring_packed_desc *descs = (void *)(uintptr_t)ring->desc, *first = &descs[ring->next];
    bool wrap = ring->wrap;
    uint16_t done = 0, id = 0;

    for (; done < n; done++) {
        struct vring_packed_desc *desc = &descs[ring->next];

        if (!offered_packed(desc, ring->wrap) || !acceptable(ring, desc->addr, desc->len, desc->flags, 0, false, false))
            break;
        id = desc->id;
        if (!ring->in_order)
            mark_packed(desc, 0, id, ring->wrap);
        advance(ring, 1);
    }
    if (done && ring->in_order)
        mark_packed(first, 0, id, wrap);
    return done;
}

uint16_t null_receive(struct null_ring *ring, uint16_t n, uint32_t len, bool mergeable)
{
    if (__builtin_expect(!ring->enabled || ring->broken, 0))
        return 0;
    if (ring->packed)
        return mergeable ? receive_packed(ring, n, len, true) : receive_packed(ring, n, len, false);
    return mergeable ? use_split(ring, n, len, true, true) : use_split(ring, n, len, true, false);
}

uint16_t null_send(struct null_ring *ring, uint16_t n)
{
    if (__builtin_expect(!ring->enabled || ring->broken, 0))
        return 0;
    return ring->packed ? send_packed(ring, n) : use_split(ring, n, 0, false, false);
}

void null_quiet(struct null_ring *ring)
{
    if (ring->packed) {
        struct vring_packed_desc_event *event = (void *)(uintptr_t)ring->used;

        event->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
    } else {
        struct vring_used *used = (void *)(uintptr_t)ring->used;

        used->flags = VRING_USED_F_NO_NOTIFY;
    }
}
