/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* What can be changed of a device: offloads, queue pairs, single queues, the link, memory. */
#define _GNU_SOURCE

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

#define CSUM      (UINT64_C(1) << 0)
#define HOST_TSO4 (UINT64_C(1) << 11)
#define HOST_TSO6 (UINT64_C(1) << 12)

static struct vuser_dev_info info_of(const struct vuser_dev *dev)
{
	struct vuser_dev_info info;

	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	CHECK(vuser_dev_get_info(dev, &info) == 0);
	return info;
}

/* Descriptors that this process has. */
static unsigned descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	CHECK(dir != NULL);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

/* As many again; a back-end in this process may need a moment for it. */
static void settle(unsigned before)
{
	double end = seconds() + 60;

	while (descriptors() > before && seconds() < end)
		usleep(1000);
	CHECK(descriptors() == before);
}

/* One frame there and back. */
static void echo_one(struct rig *rig, unsigned number)
{
	struct vuser_mbuf *m = make_frame(rig->pool, 100, number);

	CHECK(vuser_tx_burst(rig->tx, &m, 1) == 1);
	m = receive_one(rig->rx);
	check_frame(m, 100, number);
	vuser_mbuf_free(m);
}

/* Nothing comes within a moment. */
static void nothing_comes(struct vuser_queue *rx)
{
	struct vuser_mbuf *m = NULL;
	double end = seconds() + 0.05;

	while (seconds() < end)
		CHECK(vuser_rx_burst(rx, &m, 1) == 0);
}

static void offloads_are_chosen_for_the_next_start(void)
{
	struct rig rig = rig_open("path=loopback,mrg_rxbuf=0,tso=1");
	struct vuser_dev_info info = info_of(rig.dev);
	uint64_t features = vuser_dev_features(rig.dev);

	CHECK(info.offloads == (VUSER_OFFLOAD_TSO | VUSER_OFFLOAD_CSUM) && (features & HOST_TSO4) != 0);
	CHECK(info.offload_capa == (VUSER_OFFLOAD_CSUM | VUSER_OFFLOAD_TSO | VUSER_OFFLOAD_USO | VUSER_OFFLOAD_RX_CSUM |
				    VUSER_OFFLOAD_LRO | VUSER_OFFLOAD_RX_USO | VUSER_OFFLOAD_VLAN_STRIP |
				    VUSER_OFFLOAD_HASH));
	REFUSED(EINVAL, "unknown bits", vuser_dev_set_offloads(rig.dev, UINT64_C(1) << 40));
	REFUSED(EINVAL, "dev is NULL", vuser_dev_set_offloads(NULL, 0));
	CHECK(vuser_dev_features(rig.dev) == features);
	CHECK(vuser_dev_set_offloads(rig.dev, 0) == 0 && info_of(rig.dev).offloads == 0);
	CHECK((vuser_dev_features(rig.dev) & (CSUM | HOST_TSO4 | HOST_TSO6 | MRG_RXBUF)) == 0);
	CHECK((vuser_dev_features(rig.dev) & (VERSION_1 | IN_ORDER)) == (VERSION_1 | IN_ORDER));
	CHECK(vuser_dev_set_offloads(rig.dev, VUSER_OFFLOAD_CSUM | VUSER_OFFLOAD_VLAN_STRIP) == 0);
	CHECK(vuser_dev_start(rig.dev) == 0);
	info = info_of(rig.dev);
	CHECK(info.offloads == (VUSER_OFFLOAD_CSUM | VUSER_OFFLOAD_VLAN_STRIP) && (info.features & CSUM) != 0);
	REFUSED(EBUSY, "stop it first", vuser_dev_set_offloads(rig.dev, 0));
	echo_one(&rig, 1);
	CHECK(vuser_dev_stop(rig.dev) == 0);
	rig_close(&rig);
}

static void the_port_is_written_to_what_is_received(void)
{
	struct vuser_config config;
	struct vuser_pool *pool = make_pool(600);
	struct vuser_dev *dev;
	struct vuser_mbuf *m;

	CHECK(vuser_config_init(&config, sizeof(config)) == 0 && config.port == 0 && strcmp(config.simd, "auto") == 0);
	CHECK(vuser_config_parse(&config, "path=loopback,mode=source,simd=scalar,huge=0") == 0);
	CHECK(strcmp(config.simd, "scalar") == 0);
	REFUSED(EINVAL, "avx512", vuser_config_parse(&config, "simd=neon"));
	strcpy(config.simd, "mmx");
	REFUSED(EINVAL, "avx512", vuser_dev_init(&config, &dev));
	config.simd[0] = '\0';
	config.port = 513;
	CHECK(vuser_dev_init(&config, &dev) == 0 && vuser_rx_queue_setup(dev, 0, 0, pool) == 0);
	/* Nobody sends: a receive queue is enough. */
	CHECK(vuser_dev_start(dev) == 0);
	m = receive_one(vuser_rx_queue(dev, 0));
	CHECK(m->port == 513);
	vuser_mbuf_free(m);
	vuser_dev_uninit(dev);
	CHECK(vuser_pool_available(pool) == 600);
	vuser_pool_free(pool);
}

static void as_many_pairs_are_used_as_are_chosen(void)
{
	struct vuser_pool *pool = make_pool(RIG_BUFFERS);
	struct vuser_dev *dev = make_dev("path=loopback,queues=3,queue_size=64");
	uint16_t pairs, pair, fewer;

	REFUSED(EINVAL, "1 to 3", vuser_dev_set_queue_pairs(dev, 0));
	REFUSED(EINVAL, "1 to 3", vuser_dev_set_queue_pairs(dev, 4));
	REFUSED(EINVAL, "dev is NULL", vuser_dev_set_queue_pairs(NULL, 1));
	CHECK(info_of(dev).queue_pairs == 3 && info_of(dev).queue_pairs_used == 3);
	for (pair = 0; pair < 3; pair++) {
		CHECK(vuser_rx_queue_setup(dev, pair, 0, pool) == 0);
		CHECK(vuser_tx_queue_setup(dev, pair, 0, pool) == 0);
	}
	for (pairs = 1; pairs <= 6; pairs++) {
		uint16_t used = pairs > 3 ? (uint16_t)(6 - pairs + 1) : pairs;

		CHECK(vuser_dev_set_queue_pairs(dev, used) == 0 && info_of(dev).queue_pairs_used == used);
		CHECK(vuser_dev_start(dev) == 0);
		if (used < 3)
			REFUSED(EBUSY, "stop it first", vuser_dev_set_queue_pairs(dev, used + 1));
		for (pair = 0; pair < 3; pair++) {
			struct rig rig = { pool, dev, vuser_rx_queue(dev, pair), vuser_tx_queue(dev, pair) };

			if (pair < used) {
				echo_one(&rig, pair);
			} else {
				REFUSED(ENETDOWN, "not started", vuser_queue_status(rig.rx));
				REFUSED(EINVAL, "not among", vuser_rx_queue_stop(dev, pair));
			}
		}
		/* Fewer and fewer while it runs, and all again. */
		for (fewer = used; fewer <= used; fewer = fewer > 1 ? fewer - 1 : 99) {
			CHECK(vuser_dev_set_queue_pairs(dev, fewer) == 0 && info_of(dev).queue_pairs_used == fewer);
			for (pair = 0; pair < used; pair++) {
				struct rig rig = { pool, dev, vuser_rx_queue(dev, pair), vuser_tx_queue(dev, pair) };

				CHECK(vuser_queue_status(rig.tx) == (pair < fewer ? 0 : -ENETDOWN));
				if (pair < fewer)
					echo_one(&rig, pair);
			}
		}
		CHECK(vuser_dev_set_queue_pairs(dev, used) == 0 && info_of(dev).queue_pairs_used == used);
		for (pair = 0; pair < used; pair++) {
			struct rig rig = { pool, dev, vuser_rx_queue(dev, pair), vuser_tx_queue(dev, pair) };

			echo_one(&rig, pair);
		}
		CHECK(vuser_dev_stop(dev) == 0 && vuser_pool_available(pool) == RIG_BUFFERS);
	}
	vuser_dev_uninit(dev);
	vuser_pool_free(pool);
}

/* More receive than transmit queues, and the other way round. */
static void pairs_need_not_be_whole(void)
{
	static const char *const layouts[] = { "path=loopback,queues=2", "path=loopback,queues=2,packed_vq=1" };
	unsigned i, more;

	for (i = 0; i < 4; i++) {
		struct rig rig = { make_pool(RIG_BUFFERS), make_dev(layouts[i / 2]), NULL, NULL };

		more = i % 2;
		CHECK(vuser_rx_queue_setup(rig.dev, 0, 0, rig.pool) == 0);
		CHECK(vuser_tx_queue_setup(rig.dev, 0, 0, rig.pool) == 0);
		CHECK((more ? vuser_tx_queue_setup : vuser_rx_queue_setup)(rig.dev, 1, 0, rig.pool) == 0);
		CHECK(vuser_dev_start(rig.dev) == 0);
		CHECK((more ? vuser_rx_queue : vuser_tx_queue)(rig.dev, 1) == NULL);
		REFUSED(EINVAL, "not been set up",
			(more ? vuser_rx_queue_start : vuser_tx_queue_start)(rig.dev, 1));
		rig.rx = vuser_rx_queue(rig.dev, 0);
		rig.tx = vuser_tx_queue(rig.dev, 0);
		echo_one(&rig, i);
		CHECK(vuser_dev_stop(rig.dev) == 0);
		/* And it can be completed. */
		CHECK((more ? vuser_rx_queue_setup : vuser_tx_queue_setup)(rig.dev, 1, 0, rig.pool) == 0);
		CHECK(vuser_dev_start(rig.dev) == 0);
		rig.rx = vuser_rx_queue(rig.dev, 1);
		rig.tx = vuser_tx_queue(rig.dev, 1);
		echo_one(&rig, i);
		rig_close(&rig);
	}
}

static void queues_stop_and_start_alone(const char *devargs)
{
	struct rig rig = rig_open(devargs);
	struct vuser_mbuf *m, *none = NULL;
	unsigned i;

	REFUSED(EINVAL, "not been set up", vuser_rx_queue_stop(rig.dev, 1));
	REFUSED(EINVAL, "dev is NULL", vuser_rx_queue_start(NULL, 0));
	REFUSED(EINVAL, "dev is NULL", vuser_rx_queue_stop(NULL, 0));
	REFUSED(EINVAL, "dev is NULL", vuser_tx_queue_start(NULL, 0));
	REFUSED(EINVAL, "dev is NULL", vuser_tx_queue_stop(NULL, 0));
	/* Neither runs from the start on. */
	CHECK(vuser_rx_queue_stop(rig.dev, 0) == 0 && vuser_tx_queue_stop(rig.dev, 0) == 0);
	CHECK(vuser_dev_start(rig.dev) == 0 && vuser_dev_link(rig.dev) == 1);
	for (i = 0; i < 20; i++) {
		REFUSED(ENETDOWN, "start it", vuser_queue_status(rig.rx));
		REFUSED(ENETDOWN, "start it", vuser_queue_status(rig.tx));
		REFUSED(ENETDOWN, "start it", vuser_queue_call(rig.rx, 1));
		REFUSED(ENETDOWN, "start it", vuser_queue_count(rig.rx));
		m = make_frame(rig.pool, 60, 1);
		CHECK(vuser_tx_burst(rig.tx, &m, 1) == 0 && vuser_rx_burst(rig.rx, &none, 1) == 0);
		vuser_mbuf_free(m);
		CHECK(vuser_rx_queue_start(rig.dev, 0) == 0 && vuser_tx_queue_start(rig.dev, 0) == 0);
		/* Once more changes nothing. */
		CHECK(vuser_rx_queue_start(rig.dev, 0) == 0 && vuser_tx_queue_start(rig.dev, 0) == 0);
		CHECK(vuser_queue_status(rig.rx) == 0 && vuser_queue_status(rig.tx) == 0);
		echo_one(&rig, i);
		/* What was sent before the stop is on its way, and waits where it arrived. */
		m = make_frame(rig.pool, 100, i);
		CHECK(vuser_tx_burst(rig.tx, &m, 1) == 1 && vuser_tx_queue_stop(rig.dev, 0) == 0);
		CHECK(vuser_tx_queue_stop(rig.dev, 0) == 0);
		CHECK(vuser_queue_wait(rig.rx, 5000) == 1);
		CHECK(vuser_rx_queue_stop(rig.dev, 0) == 0 && vuser_rx_burst(rig.rx, &none, 1) == 0);
		CHECK(vuser_rx_queue_start(rig.dev, 0) == 0);
		m = receive_one(rig.rx);
		check_frame(m, 100, i);
		vuser_mbuf_free(m);
		CHECK(vuser_rx_queue_stop(rig.dev, 0) == 0);
	}
	/* A stopped transmit queue holds nothing that was sent. */
	CHECK(vuser_dev_stop(rig.dev) == 0 && vuser_pool_available(rig.pool) == RIG_BUFFERS);
	/* They wait again at the next start, as long as nobody says otherwise. */
	CHECK(vuser_dev_start(rig.dev) == 0);
	REFUSED(ENETDOWN, "start it", vuser_queue_status(rig.rx));
	CHECK(vuser_dev_stop(rig.dev) == 0);
	CHECK(vuser_rx_queue_start(rig.dev, 0) == 0 && vuser_tx_queue_start(rig.dev, 0) == 0);
	CHECK(vuser_dev_start(rig.dev) == 0);
	echo_one(&rig, 1);
	/* Stopped alone, and then with the device. */
	CHECK(vuser_rx_queue_stop(rig.dev, 0) == 0 && vuser_tx_queue_stop(rig.dev, 0) == 0);
	rig_close(&rig);
}

static void the_link_goes_down_and_up(void)
{
	struct rig rig = rig_open("path=loopback");
	struct pollfd control;
	unsigned i;

	REFUSED(EINVAL, "dev is NULL", vuser_dev_set_link(NULL, 1));
	REFUSED(EINVAL, "dev is NULL", vuser_dev_link(NULL));
	REFUSED(EINVAL, "dev is NULL", vuser_dev_fd(NULL));
	CHECK(vuser_dev_link(rig.dev) == 0);
	/* Remembered. */
	CHECK(vuser_dev_set_link(rig.dev, 0) == 0 && vuser_dev_start(rig.dev) == 0);
	CHECK(vuser_dev_link(rig.dev) == 0 && info_of(rig.dev).link_up == 0);
	nothing_comes(rig.rx);
	for (i = 0; i < 5; i++) {
		CHECK(vuser_dev_set_link(rig.dev, 1) == 0 && vuser_dev_link(rig.dev) == 1);
		CHECK(info_of(rig.dev).link_up == 1);
		echo_one(&rig, i);
		/* A queue that was stopped stays so. */
		CHECK(i % 2 == 0 || vuser_rx_queue_stop(rig.dev, 0) == 0);
		CHECK(vuser_dev_set_link(rig.dev, 0) == 0 && vuser_dev_link(rig.dev) == 0);
		CHECK(vuser_dev_set_link(rig.dev, 1) == 0);
		CHECK(vuser_queue_status(rig.rx) == (i % 2 ? -ENETDOWN : 0));
		CHECK(vuser_rx_queue_start(rig.dev, 0) == 0);
		echo_one(&rig, i);
		CHECK(vuser_dev_set_link(rig.dev, 0) == 0);
		nothing_comes(rig.rx);
	}
	control.fd = vuser_dev_fd(rig.dev);
	control.events = POLLIN;
	CHECK(control.fd >= 0 && poll(&control, 1, 0) == 0);
	CHECK(vuser_dev_set_link(rig.dev, 1) == 0 && vuser_dev_stop(rig.dev) == 0 && vuser_dev_link(rig.dev) == 0);
	rig_close(&rig);
}

static void the_link_ends_with_the_back_end(void)
{
	char args[160], devargs[200];
	struct vuser_event events[4];
	struct vuser_loopback *back_end;
	struct pollfd control;
	struct rig rig;
	int i, n;

	snprintf(args, sizeof(args), "path=/tmp/vuser-capi-running-%ld", (long)getpid());
	snprintf(devargs, sizeof(devargs), "%s,queue_size=64", args);
	CHECK(vuser_loopback_start(args, &back_end) == 0);
	rig = rig_open(devargs);
	CHECK(vuser_dev_start(rig.dev) == 0 && vuser_dev_link(rig.dev) == 1);
	control.fd = vuser_dev_fd(rig.dev);
	control.events = POLLIN;
	CHECK(poll(&control, 1, 0) == 0);
	REFUSED(EINVAL, "dev is NULL", vuser_dev_process(NULL, events, 4));
	REFUSED(EINVAL, "events is NULL", vuser_dev_process(rig.dev, NULL, 1));
	events[0].size = 3;
	REFUSED(EINVAL, "events->size is 3", vuser_dev_process(rig.dev, events, 1));
	events[0].size = sizeof(events[0]);
	CHECK(vuser_dev_process(rig.dev, NULL, 0) == 0 && vuser_dev_process(rig.dev, events, 4) == 0);
	vuser_loopback_stop(back_end);
	CHECK(poll(&control, 1, 5000) == 1 && vuser_dev_link(rig.dev) == 0);
	CHECK(vuser_dev_process(rig.dev, events, 4) == 1 && poll(&control, 1, 0) == 0);
	CHECK(events[0].kind == VUSER_EVENT_LINK_DOWN && strstr(events[0].text, "closed the connection") != NULL);
	CHECK(info_of(rig.dev).attached == 0);
	/* Remembered, for the next one. */
	CHECK(vuser_rx_queue_stop(rig.dev, 0) == 0 && vuser_dev_set_link(rig.dev, 0) == 0);
	CHECK(vuser_rx_queue_start(rig.dev, 0) == 0 && vuser_dev_set_link(rig.dev, 1) == 0);
	CHECK(vuser_loopback_start(args, &back_end) == 0 && poll(&control, 1, 5000) == 1);
	for (i = 0; i < 2; i += n) {
		CHECK(poll(&control, 1, 5000) == 1);
		n = vuser_dev_process(rig.dev, events + i, 1);
		CHECK(n == 1 && events[i].size == sizeof(events[i]));
		events[1].size = sizeof(events[1]);
	}
	CHECK(events[0].kind == VUSER_EVENT_RECONNECTED && events[1].kind == VUSER_EVENT_LINK_UP);
	CHECK(vuser_dev_link(rig.dev) == 1 && info_of(rig.dev).attached == 1 && info_of(rig.dev).reconnects == 1);
	echo_one(&rig, 1);
	vuser_loopback_stop(back_end);
	CHECK(vuser_dev_stop(rig.dev) == 0 && vuser_dev_link(rig.dev) == 0);
	rig_close(&rig);
}

static void a_queue_says_how_far_it_is(const char *devargs)
{
	struct rig rig = rig_open(devargs);
	struct vuser_monitor monitor;
	struct vuser_mbuf *m[8], *got[8];
	double end = seconds() + 60;
	uint16_t value;
	unsigned i;

	REFUSED(ENETDOWN, "not started", vuser_queue_count(rig.rx));
	REFUSED(ENETDOWN, "not started", vuser_queue_descriptor_status(rig.rx, 0));
	REFUSED(EINVAL, "queue is NULL", vuser_queue_count(NULL));
	REFUSED(EINVAL, "queue is NULL", vuser_queue_descriptor_status(NULL, 0));
	REFUSED(EINVAL, "queue is NULL", vuser_queue_monitor(NULL, &monitor));
	memset(&monitor, 0, sizeof(monitor));
	monitor.size = sizeof(monitor);
	REFUSED(ENETDOWN, "not started", vuser_queue_monitor(rig.rx, &monitor));
	CHECK(vuser_dev_start(rig.dev) == 0);
	REFUSED(EINVAL, "monitor is NULL", vuser_queue_monitor(rig.rx, NULL));
	REFUSED(EINVAL, "the ring has 64", vuser_queue_descriptor_status(rig.rx, 64));
	CHECK(vuser_queue_count(rig.rx) == 0 && vuser_queue_descriptor_status(rig.rx, 0) == 0);
	CHECK(vuser_queue_descriptor_status(rig.tx, 0) == 1 && vuser_queue_descriptor_status(rig.tx, 63) == 1);
	CHECK(vuser_queue_monitor(rig.rx, &monitor) == 0 && monitor.bytes == 2 && monitor.addr != NULL);
	memcpy(&value, monitor.addr, 2);
	CHECK(((value & monitor.mask) == monitor.value) == monitor.while_equal);
	for (i = 0; i < 8; i++)
		m[i] = make_frame(rig.pool, 100, i);
	CHECK(vuser_tx_burst(rig.tx, m, 8) == 8);
	while (vuser_queue_count(rig.rx) < 8)
		CHECK(seconds() < end);
	memcpy(&value, monitor.addr, 2);
	CHECK(((value & monitor.mask) == monitor.value) != monitor.while_equal);
	CHECK(vuser_queue_descriptor_status(rig.rx, 7) == 1 && vuser_queue_descriptor_status(rig.rx, 8) == 0);
	/* All eight were sent, and lie just before the next one to be sent. */
	CHECK(vuser_queue_count(rig.tx) == 8 && vuser_queue_descriptor_status(rig.tx, 63) == 1);
	CHECK(vuser_queue_descriptor_status(rig.tx, 56) == 1 && vuser_queue_descriptor_status(rig.tx, 55) == 1);
	CHECK(vuser_rx_burst(rig.rx, got, 8) == 8 && vuser_queue_count(rig.rx) == 0);
	vuser_mbuf_free_bulk(got, 8);
	CHECK(vuser_tx_done_cleanup(rig.tx, 64) == 8 && vuser_queue_descriptor_status(rig.tx, 63) == 1);
	rig_close(&rig);
}

/* An allocator over memory of our own: one buffer after the other in a file that is mapped twice, so that pieces of it
 * can be given to the device one by one. */
#define PAGE   4096u
#define PAGES  12u
#define STRIDE 128u

struct arena {
	int fd;
	uint8_t *base;
	struct vuser_mbuf *mbufs; /* private, as a pool's */
	struct vuser_mbuf *free[PAGES];
	unsigned nfree;
};

static struct arena arena_open(void)
{
	struct arena a;

	memset(&a, 0, sizeof(a));
	a.fd = memfd_create("arena", MFD_CLOEXEC);
	CHECK(a.fd >= 0 && ftruncate(a.fd, PAGES * PAGE) == 0);
	a.base = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, a.fd, 0);
	CHECK(a.base != MAP_FAILED);
	CHECK(posix_memalign((void **)&a.mbufs, STRIDE, PAGES * STRIDE) == 0);
	memset(a.mbufs, 0, PAGES * STRIDE);
	return a;
}

static struct vuser_mbuf *arena_mbuf(struct arena *a, unsigned page)
{
	struct vuser_mbuf *m = (struct vuser_mbuf *)(void *)((uint8_t *)a->mbufs + page * STRIDE);

	memset(m, 0, sizeof(*m));
	m->buf_addr = a->base + page * PAGE;
	m->buf_len = PAGE;
	m->data_off = 128;
	m->refcnt = 1;
	m->nb_segs = 1;
	m->pool = a;
	return m;
}

static int arena_get(void *ctx, struct vuser_mbuf **mbufs, unsigned n)
{
	struct arena *a = ctx;

	if (n > a->nfree)
		return -1;
	while (n-- > 0)
		mbufs[n] = a->free[--a->nfree];
	return 0;
}

static void arena_put(void *ctx, struct vuser_mbuf *const *mbufs, unsigned n)
{
	struct arena *a = ctx;

	while (n-- > 0)
		a->free[a->nfree++] = mbufs[n];
}

static void arena_free(void *ctx, struct vuser_mbuf *m)
{
	arena_put(ctx, &m, 1);
}

static struct vuser_mbuf_source arena_source(struct arena *a)
{
	struct vuser_mbuf_source s;

	memset(&s, 0, sizeof(s));
	s.size = sizeof(s);
	s.ctx = a;
	s.get_bulk = arena_get;
	s.put_bulk = arena_put;
	s.free = arena_free;
	s.pool = a;
	s.buf_len = PAGE;
	s.headroom = 128;
	return s;
}

static int give(struct vuser_dev *dev, struct arena *a, unsigned page, unsigned pages)
{
	return vuser_mem_register(dev, a->fd, page * PAGE, pages * PAGE, a->base + page * PAGE);
}

/* Whether a frame in this page can be sent. */
static int can_send(struct rig *rig, struct arena *a, unsigned page)
{
	struct vuser_mbuf *m = arena_mbuf(a, page);
	uint8_t *data = (uint8_t *)m->buf_addr + m->data_off;
	struct vuser_queue_stats stats;
	unsigned i, had = a->nfree;

	m->data_len = 300;
	m->pkt_len = 300;
	for (i = 0; i < 300; i++)
		data[i] = (uint8_t)(i == 0 ? 2 : page * 7 + i);
	stats.size = sizeof(stats);
	CHECK(vuser_queue_reset_stats(rig->tx) == 0);
	CHECK(vuser_tx_burst(rig->tx, &m, 1) == 1 && vuser_queue_get_stats(rig->tx, &stats) == 0);
	if (stats.bad_address == 1) {
		CHECK(a->nfree == had + 1);
		a->nfree = had;
		return 0;
	}
	m = receive_one(rig->rx);
	check_frame(m, 300, page);
	vuser_mbuf_free(m);
	CHECK(vuser_tx_done_cleanup(rig->tx, 8) == 1 && a->nfree == had + 1);
	a->nfree = had;
	return 1;
}

/* All frames that are sent and received meanwhile go through. `devargs` say whether the back-end has slots. */
/* `before`: descriptors that are open before it. */
static void memory_comes_and_goes(const char *devargs, unsigned before)
{
	struct arena a = arena_open(), other = arena_open();
	struct vuser_mbuf_source source = arena_source(&a);
	struct rig rig;
	unsigned i, round, fds;

	rig.pool = make_pool(RIG_BUFFERS);
	rig.dev = make_dev(devargs);
	CHECK(vuser_rx_queue_setup(rig.dev, 0, 0, rig.pool) == 0);
	CHECK(vuser_tx_queue_setup_source(rig.dev, 0, 0, &source) == 0);
	rig.rx = vuser_rx_queue(rig.dev, 0);
	rig.tx = vuser_tx_queue(rig.dev, 0);
	REFUSED(EINVAL, "dev is NULL", vuser_mem_contains(NULL, a.base, 1));
	CHECK(vuser_mem_contains(rig.dev, a.base, 1) == 0);
	/* Before the start: two pieces that follow one another, in the wrong order. */
	CHECK(give(rig.dev, &a, 2, 1) == 0 && give(rig.dev, &a, 1, 1) == 0);
	CHECK(vuser_mem_contains(rig.dev, a.base + PAGE, 2 * PAGE) == 1);
	CHECK(vuser_mem_contains(rig.dev, a.base + PAGE, 2 * PAGE + 1) == 0);
	for (round = 0; round < 3; round++) {
		CHECK(vuser_dev_start(rig.dev) == 0);
		CHECK(can_send(&rig, &a, 1) && can_send(&rig, &a, 2) && !can_send(&rig, &a, 3) && !can_send(&rig, &a, 0));
		/* While it runs: next to what is there, behind a gap, many at once, the same again. */
		CHECK(give(rig.dev, &a, 3, 1) == 0 && give(rig.dev, &a, 6, 2) == 0 && give(rig.dev, &a, 0, 1) == 0);
		CHECK(give(rig.dev, &a, 6, 2) == 0);
		REFUSED(EEXIST, "overlaps", give(rig.dev, &a, 5, 2));
		REFUSED(EEXIST, "overlaps", vuser_mem_register(rig.dev, other.fd, 0, PAGE, a.base));
		REFUSED(EBADF, "no file descriptor", vuser_mem_register(rig.dev, -1, 0, PAGE, a.base));
		REFUSED(EBADF, "can", vuser_mem_register(rig.dev, a.fd, PAGES * PAGE, PAGE, a.base + 9 * PAGE));
		for (i = 0; i < 10; i++)
			CHECK(can_send(&rig, &a, i) == (i <= 3 || i == 6 || i == 7));
		CHECK(vuser_mem_contains(rig.dev, a.base, 4 * PAGE) == 1);
		CHECK(vuser_mem_contains(rig.dev, a.base, 4 * PAGE + 1) == 0);
		/* From the middle, from the ends, whole ones. */
		CHECK(vuser_mem_unregister(rig.dev, a.base + 2 * PAGE) == 0);
		REFUSED(ENOENT, "no memory", vuser_mem_unregister(rig.dev, a.base + 2 * PAGE));
		REFUSED(ENOENT, "no memory", vuser_mem_unregister(rig.dev, a.base + 7 * PAGE));
		for (i = 0; i < 10; i++)
			CHECK(can_send(&rig, &a, i) == (i <= 1 || i == 3 || i == 6 || i == 7));
		CHECK(vuser_mem_unregister(rig.dev, a.base + 6 * PAGE) == 0);
		CHECK(vuser_mem_unregister(rig.dev, a.base) == 0 && vuser_mem_unregister(rig.dev, a.base + 3 * PAGE) == 0);
		for (i = 0; i < 10; i++)
			CHECK(can_send(&rig, &a, i) == (i == 1));
		CHECK(give(rig.dev, &a, 2, 1) == 0 && can_send(&rig, &a, 2));
		/* Often, and nothing is left of it. */
		fds = descriptors();
		for (i = 0; i < 50; i++)
			CHECK(give(rig.dev, &a, 3 + i % 4, 2) == 0 &&
			      vuser_mem_unregister(rig.dev, a.base + (3 + i % 4) * PAGE) == 0);
		CHECK(descriptors() == fds && can_send(&rig, &a, 2) && !can_send(&rig, &a, 3));
		CHECK(vuser_queue_status(rig.rx) == 0 && vuser_queue_status(rig.tx) == 0);
		if (round == 1)
			CHECK(vuser_dev_set_link(rig.dev, 0) == 0 && give(rig.dev, &a, 9, 1) == 0 &&
			      vuser_dev_link(rig.dev) == 0 && vuser_dev_set_link(rig.dev, 1) == 0 &&
			      can_send(&rig, &a, 9) && vuser_mem_unregister(rig.dev, a.base + 9 * PAGE) == 0);
		CHECK(vuser_dev_stop(rig.dev) == 0);
	}
	rig_close(&rig);
	munmap(a.base, PAGES * PAGE);
	munmap(other.base, PAGES * PAGE);
	close(a.fd);
	close(other.fd);
	settle(before);
	free(a.mbufs);
	free(other.mbufs);
}

/* Into memory that was not there when the device was started. */
static void frames_arrive_in_new_memory(const char *devargs)
{
	struct arena a = arena_open();
	struct vuser_mbuf_source source = arena_source(&a);
	struct vuser_mbuf *m;
	struct rig rig;
	unsigned i;

	rig.pool = make_pool(RIG_BUFFERS);
	rig.dev = make_dev(devargs);
	CHECK(vuser_rx_queue_setup_source(rig.dev, 0, 0, &source) == 0);
	CHECK(vuser_tx_queue_setup(rig.dev, 0, 0, rig.pool) == 0);
	rig.rx = vuser_rx_queue(rig.dev, 0);
	rig.tx = vuser_tx_queue(rig.dev, 0);
	CHECK(vuser_dev_start(rig.dev) == 0);
	CHECK(vuser_rx_burst(rig.rx, &m, 1) == 0);
	CHECK(give(rig.dev, &a, 0, PAGES) == 0);
	for (i = 0; i < PAGES; i++)
		a.free[a.nfree++] = arena_mbuf(&a, i);
	CHECK(vuser_rx_burst(rig.rx, &m, 1) == 0);
	for (i = 0; i < 3 * PAGES; i++) {
		m = make_frame(rig.pool, 1000, i);
		CHECK(vuser_tx_burst(rig.tx, &m, 1) == 1);
		m = receive_one(rig.rx);
		CHECK(m->pool == &a);
		check_frame(m, 1000, i);
		arena_put(&a, &m, 1);
	}
	CHECK(vuser_dev_stop(rig.dev) == 0 && a.nfree == PAGES);
	rig_close(&rig);
	munmap(a.base, PAGES * PAGE);
	close(a.fd);
	free(a.mbufs);
}

/* More regions than a back-end takes. */
static void there_can_be_too_many_regions(int slots, unsigned most)
{
	char args[200], devargs[128], word[32];
	struct arena a = arena_open();
	struct vuser_loopback *back_end;
	struct rig rig;
	unsigned i;

	snprintf(devargs, sizeof(devargs), "path=/tmp/vuser-capi-regions-%ld", (long)getpid());
	snprintf(args, sizeof(args), "%s,protocol=%#x", devargs, slots ? 0x1a209 : 0x12209);
	CHECK(vuser_loopback_start(args, &back_end) == 0);
	rig = rig_open(devargs);
	/* Rings and pool are two. The addresses need not be those of a mapping, as long as nobody sends from there. */
	for (i = 0; i < most - 2; i++)
		CHECK(vuser_mem_register(rig.dev, a.fd, 0, PAGE, a.base + 2 * i * PAGE + (UINT64_C(1) << 40)) == 0);
	CHECK(vuser_dev_start(rig.dev) == 0);
	echo_one(&rig, 1);
	snprintf(word, sizeof(word), "has %u regions", most + 1);
	REFUSED(E2BIG, word, vuser_mem_register(rig.dev, a.fd, 0, PAGE, a.base));
	echo_one(&rig, 2);
	CHECK(vuser_mem_contains(rig.dev, a.base, 1) == 0);
	CHECK(vuser_mem_unregister(rig.dev, a.base + (UINT64_C(1) << 40)) == 0);
	CHECK(vuser_mem_register(rig.dev, a.fd, 0, PAGE, a.base) == 0);
	echo_one(&rig, 3);
	CHECK(vuser_dev_stop(rig.dev) == 0);
	CHECK(vuser_mem_register(rig.dev, a.fd, 0, PAGE, a.base + (UINT64_C(1) << 40)) == 0);
	REFUSED(E2BIG, "single-file-segments", vuser_dev_start(rig.dev));
	CHECK(vuser_mem_unregister(rig.dev, a.base) == 0 && vuser_dev_start(rig.dev) == 0);
	echo_one(&rig, 4);
	rig_close(&rig);
	vuser_loopback_stop(back_end);
	munmap(a.base, PAGES * PAGE);
	close(a.fd);
	free(a.mbufs);
}

int main(void)
{
	char args[128], devargs[160];
	struct vuser_loopback *back_end;
	unsigned before = descriptors();

	offloads_are_chosen_for_the_next_start();
	the_port_is_written_to_what_is_received();
	as_many_pairs_are_used_as_are_chosen();
	pairs_need_not_be_whole();
	queues_stop_and_start_alone("path=loopback");
	queues_stop_and_start_alone("path=loopback,packed_vq=1,queue_size=100");
	queues_stop_and_start_alone("path=loopback,packed_vq=1,in_order=0,event_idx=0");
	the_link_goes_down_and_up();
	the_link_ends_with_the_back_end();
	a_queue_says_how_far_it_is("path=loopback,queue_size=64");
	a_queue_says_how_far_it_is("path=loopback,queue_size=64,packed_vq=1");
	/* Also of the devices that were there. */
	settle(before);
	memory_comes_and_goes("path=loopback", before);
	memory_comes_and_goes("path=loopback,packed_vq=1", before);
	frames_arrive_in_new_memory("path=loopback");
	settle(before);
	/* A back-end without slots, whose rings are disabled meanwhile. */
	snprintf(args, sizeof(args), "path=/tmp/vuser-capi-memory-%ld,protocol=0x12209", (long)getpid());
	CHECK(vuser_loopback_start(args, &back_end) == 0);
	before = descriptors();
	snprintf(devargs, sizeof(devargs), "path=/tmp/vuser-capi-memory-%ld", (long)getpid());
	memory_comes_and_goes(devargs, before);
	frames_arrive_in_new_memory(devargs);
	settle(before);
	snprintf(devargs, sizeof(devargs), "path=/tmp/vuser-capi-memory-%ld,packed_vq=1", (long)getpid());
	memory_comes_and_goes(devargs, before);
	vuser_loopback_stop(back_end);
	there_can_be_too_many_regions(0, 8);
	there_can_be_too_many_regions(1, 32);
	return 0;
}
