/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * vhost: a vhost-user back-end on DPDK's vhost library, with its notes on what is in flight (INFLIGHT_SHMFD), which DPDK
 * leaves to devices of an application's own: a network device with one pair of queues that sends every frame back, and has
 * so many in hand at any time. The oldest and the newest of these go back by turns.
 *
 *   vhost EAL-ARGUMENT... -- SOCKET HELD
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/vhost_types.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <rte_eal.h>
#include <rte_spinlock.h>
#include <rte_vhost.h>

#define FEATURES ((UINT64_C(1) << VIRTIO_F_VERSION_1) | (UINT64_C(1) << VIRTIO_F_RING_PACKED) | \
		  (UINT64_C(1) << VHOST_USER_F_PROTOCOL_FEATURES))
#define INFLIGHT (UINT64_C(1) << 12)
#define AVAIL    (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED     (1u << VRING_PACKED_DESC_F_USED)
#define MOST     1024u

/* A buffer in hand: one descriptor, since neither merged buffers nor chains were offered. */
struct item {
	void *data;
	uint32_t len;
	uint16_t id, entry; /* The driver's name for it, and the one in the notes. */
};

struct ring {
	struct rte_vhost_vring v;
	struct rte_vhost_ring_inflight notes;
	uint16_t avail, used;
	bool avail_wrap, used_wrap;
};

static rte_spinlock_t lock = RTE_SPINLOCK_INITIALIZER;
static int vid = -1;
static bool packed;
static struct rte_vhost_memory *memory;
static struct ring rings[2]; /* Receive, transmit: the driver's words. */
static struct item held[MOST];
static unsigned in_hand, hold;
static uint64_t done_so_far;

static void die(const char *what)
{
	fprintf(stderr, "vhost: %s\n", what);
	_exit(1);
}

static void *local(uint64_t addr, uint64_t len)
{
	uint64_t there = len;
	const uint64_t va = rte_vhost_va_from_guest_pa(memory, addr, &there);

	if (va == 0 || there < len)
		die("a buffer is outside the memory");
	return (void *)(uintptr_t)va;
}

static void advance(const struct ring *r, uint16_t *slot, bool *wrap)
{
	if (++*slot == r->v.size) {
		*slot = 0;
		*wrap = !*wrap;
	}
}

static bool take(unsigned q, struct item *item)
{
	struct ring *r = &rings[q];
	uint64_t addr;

	if (packed) {
		struct vring_packed_desc *d = &r->v.desc_packed[r->avail];
		const uint16_t flags = __atomic_load_n(&d->flags, __ATOMIC_ACQUIRE);

		if (!!(flags & AVAIL) != r->avail_wrap || !!(flags & USED) == r->avail_wrap)
			return false;
		addr = d->addr;
		item->len = d->len;
		item->id = d->id;
		if (rte_vhost_set_inflight_desc_packed(vid, q, r->avail, r->avail, &item->entry) != 0)
			die("rte_vhost_set_inflight_desc_packed");
		advance(r, &r->avail, &r->avail_wrap);
	} else {
		struct vring_desc *d;

		if (r->avail == __atomic_load_n(&r->v.avail->idx, __ATOMIC_ACQUIRE))
			return false;
		item->id = item->entry = r->v.avail->ring[r->avail & (r->v.size - 1)];
		d = &r->v.desc[item->id];
		addr = d->addr;
		item->len = d->len;
		if (rte_vhost_set_inflight_desc_split(vid, q, item->id) != 0)
			die("rte_vhost_set_inflight_desc_split");
		r->avail++;
	}
	item->data = local(addr, item->len);
	return true;
}

static void done(unsigned q, const struct item *item, uint32_t len)
{
	struct ring *r = &rings[q];

	if (packed) {
		struct vring_packed_desc *d = &r->v.desc_packed[r->used];

		if (rte_vhost_set_last_inflight_io_packed(vid, q, item->entry) != 0)
			die("rte_vhost_set_last_inflight_io_packed");
		d->id = item->id;
		d->len = len;
		__atomic_store_n(&d->flags, (r->used_wrap ? AVAIL | USED : 0) | (len > 0 ? VRING_DESC_F_WRITE : 0),
				 __ATOMIC_RELEASE);
		advance(r, &r->used, &r->used_wrap);
		if (rte_vhost_clr_inflight_desc_packed(vid, q, item->entry) != 0)
			die("rte_vhost_clr_inflight_desc_packed");
	} else {
		struct vring_used *used = r->v.used;
		const uint16_t idx = used->idx;

		if (rte_vhost_set_last_inflight_io_split(vid, q, item->id) != 0)
			die("rte_vhost_set_last_inflight_io_split");
		used->ring[idx & (r->v.size - 1)].id = item->id;
		used->ring[idx & (r->v.size - 1)].len = len;
		__atomic_store_n(&used->idx, (uint16_t)(idx + 1), __ATOMIC_RELEASE);
		if (rte_vhost_clr_inflight_desc_split(vid, q, idx + 1, item->id) != 0)
			die("rte_vhost_clr_inflight_desc_split");
	}
	rte_vhost_vring_call(vid, q);
}

/* What the notes have is in hand again, and behind it the driver's next. */
static void take_again(unsigned q)
{
	struct ring *r = &rings[q];
	struct rte_vhost_resubmit_info *info = r->notes.resubmit_inflight;

	for (unsigned n = 0; info != NULL && n < info->resubmit_num; n++) {
		struct item *item = &held[in_hand];

		if (q == 0 || ++in_hand == MOST)
			die("there are receive buffers in flight, or too many others");
		item->entry = info->resubmit_list[n].index;
		if (packed) {
			struct rte_vhost_inflight_desc_packed *d = &r->notes.inflight_packed->desc[item->entry];

			item->id = d->id;
			item->len = d->len;
			item->data = local(d->addr, d->len);
			/* DPDK says where the driver has seen buffers go back. */
			for (unsigned k = 0; k < d->num; k++)
				advance(r, &r->avail, &r->avail_wrap);
		} else {
			item->id = item->entry;
			item->len = r->v.desc[item->id].len;
			item->data = local(r->v.desc[item->id].addr, item->len);
		}
	}
	printf("ring %u: %u in flight\n", q, info != NULL ? info->resubmit_num : 0);
}

static void open_ring(unsigned q)
{
	struct ring *r = &rings[q];

	memset(r, 0, sizeof(*r));
	if (rte_vhost_get_vhost_vring(vid, q, &r->v) != 0 || rte_vhost_get_vhost_ring_inflight(vid, q, &r->notes) != 0)
		die("there is no ring, or there are no notes on it");
	if (packed) {
		if (rte_vhost_get_vring_base_from_inflight(vid, q, &r->avail, &r->used) != 0)
			die("rte_vhost_get_vring_base_from_inflight");
		r->avail_wrap = r->avail >> 15;
		r->used_wrap = r->used >> 15;
		r->avail &= 0x7fff;
		r->used &= 0x7fff;
	} else if (rte_vhost_get_vring_base(vid, q, &r->avail, &r->used) != 0) {
		die("rte_vhost_get_vring_base");
	}
	rte_vhost_enable_guest_notification(vid, q, 0);
	take_again(q);
}

static int new_device(int id)
{
	uint64_t features = 0, protocol = 0;

	if (rte_vhost_get_negotiated_features(id, &features) != 0 ||
	    rte_vhost_get_negotiated_protocol_features(id, &protocol) != 0 || (protocol & INFLIGHT) == 0)
		die("no notes on what is in flight were agreed on");
	packed = features >> VIRTIO_F_RING_PACKED & 1;
	if (rte_vhost_get_mem_table(id, &memory) != 0)
		die("rte_vhost_get_mem_table");
	rte_spinlock_lock(&lock);
	vid = id;
	in_hand = 0;
	open_ring(0);
	open_ring(1);
	rte_spinlock_unlock(&lock);
	printf("%s\n", packed ? "packed" : "split");
	return 0;
}

static void destroy_device(int id)
{
	(void)id;
	rte_spinlock_lock(&lock);
	vid = -1;
	rte_spinlock_unlock(&lock);
	free(memory);
	memory = NULL;
}

static const struct rte_vhost_device_ops ops = { .new_device = new_device, .destroy_device = destroy_device };

/* One frame back, if there is one more than is to be kept in hand, and room for it. */
static bool work(void)
{
	struct item room, *item;
	unsigned at;

	while (in_hand < MOST && in_hand <= hold && take(1, &held[in_hand]))
		in_hand++;
	if (in_hand <= hold || !take(0, &room))
		return false;
	at = done_so_far++ % 2 == 0 ? 0 : in_hand - 1;
	item = &held[at];
	if (item->len > room.len)
		die("a frame does not fit a buffer");
	memcpy(room.data, item->data, item->len);
	((struct virtio_net_hdr_v1 *)room.data)->num_buffers = 1;
	done(0, &room, item->len);
	done(1, item, 0);
	memmove(item, item + 1, (--in_hand - at) * sizeof(*item));
	return true;
}

int main(int argc, char **argv)
{
	const int eal = rte_eal_init(argc, argv);
	uint64_t protocol = 0;
	const char *path;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (eal < 0 || argc - eal != 3)
		die("usage: vhost EAL-ARGUMENT... -- SOCKET HELD");
	path = argv[eal + 1];
	hold = (unsigned)atoi(argv[eal + 2]);
	unlink(path);
	if (rte_vhost_driver_register(path, 0) != 0 || rte_vhost_driver_set_features(path, FEATURES) != 0 ||
	    rte_vhost_driver_get_protocol_features(path, &protocol) != 0 ||
	    rte_vhost_driver_set_protocol_features(path, protocol | INFLIGHT) != 0 ||
	    rte_vhost_driver_callback_register(path, &ops) != 0 || rte_vhost_driver_start(path) != 0)
		die("the socket can't be served");
	for (;;) {
		bool busy;

		rte_spinlock_lock(&lock);
		busy = vid >= 0 && work();
		rte_spinlock_unlock(&lock);
		if (!busy)
			usleep(100);
	}
}
