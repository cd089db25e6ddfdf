/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * What not every back-end can be told: the MTU, that our address is here now, that it is to note which memory it writes.
 *
 *   extras [DEVARGS]
 *
 * Without devargs with the built-in back-end; with them, with DPDK's vhost, whose application sends back what comes.
 */
#define _GNU_SOURCE

#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

#define PAGE   4096u
#define FRAMES 100u
#define AREA   (RIG_BUFFERS * 4096u)

static const char *devargs = "path=loopback";
static int is_dpdk;

static struct rig open_rig(const char *more)
{
	char all[512];
	struct rig rig;

	snprintf(all, sizeof(all), "%s,%s", devargs, more);
	rig = rig_open(all);
	return rig;
}

static uint16_t mtu_of(const struct vuser_dev *dev)
{
	struct vuser_dev_info info;

	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	CHECK(vuser_dev_get_info(dev, &info) == 0);
	return info.mtu;
}

/* An allocator of pages: one buffer on each, so that each page tells of one frame. */
static uint8_t *area;
static struct vuser_mbuf *mbufs, *stack[RIG_BUFFERS];
static unsigned top;

static int get_bulk(void *ctx, struct vuser_mbuf **out, unsigned n)
{
	unsigned i;

	(void)ctx;
	if (top < n)
		return -1;
	for (i = 0; i < n; i++)
		out[i] = stack[--top];
	return 0;
}

static void put_bulk(void *ctx, struct vuser_mbuf *const *in, unsigned n)
{
	unsigned i;

	(void)ctx;
	for (i = 0; i < n; i++)
		stack[top++] = in[i];
}

static void free_one(void *ctx, struct vuser_mbuf *m)
{
	m->nb_segs = 1;
	m->next = NULL;
	m->data_off = 128;
	put_bulk(ctx, &m, 1);
}

/* A packet of either allocator. */
static void give_back(struct vuser_mbuf *m)
{
	if (m != NULL && m->pool == mbufs)
		free_one(NULL, m);
	else
		vuser_mbuf_free(m);
}

/* So many frames there and back; the last ones are kept, if there is a place for them. */
static void echo(struct rig *rig, unsigned count, struct vuser_mbuf **kept)
{
	unsigned sent, back = 0;

	for (sent = 0; back < count;) {
		struct vuser_mbuf *m = sent < count && sent - back < 32 ? make_frame(rig->pool, 200, sent) : NULL;

		if (m != NULL && vuser_tx_burst(rig->tx, &m, 1) == 1)
			sent++;
		else
			vuser_mbuf_free(m);
		if (sent - back == 32 || sent == count) {
			m = receive_one(rig->rx);
			check_frame(m, 200, back);
			if (kept != NULL)
				kept[back] = m;
			else
				give_back(m);
			back++;
		}
	}
}

static void an_mtu_is_chosen_and_told(void)
{
	struct rig rig = open_rig("packed_vq=0");

	REFUSED(EINVAL, "dev is NULL", vuser_dev_set_mtu(NULL, 1400));
	REFUSED(EINVAL, "67", vuser_dev_set_mtu(rig.dev, 67));
	if (!is_dpdk)
		REFUSED(EINVAL, "68 to 1500", vuser_dev_set_mtu(rig.dev, 1501));
	CHECK(vuser_dev_set_mtu(rig.dev, 1400) == 0 && mtu_of(rig.dev) == 1400);
	CHECK(vuser_dev_start(rig.dev) == 0 && mtu_of(rig.dev) == 1400);
	echo(&rig, 10, NULL);
	if (is_dpdk) {
		char line[8];

		/* Whoever started us looks at what DPDK says of it. */
		printf("mtu 1400\n");
		fflush(stdout);
		CHECK(fgets(line, sizeof(line), stdin) != NULL);
	}
	/* While it runs, too. */
	CHECK(vuser_dev_set_mtu(rig.dev, 68) == 0 && mtu_of(rig.dev) == 68);
	CHECK(vuser_dev_stop(rig.dev) == 0 && vuser_dev_start(rig.dev) == 0 && mtu_of(rig.dev) == 68);
	rig_close(&rig);
}

static void an_address_is_announced(void)
{
	struct rig rig = open_rig("mac=02:00:00:00:00:77");

	REFUSED(EINVAL, "dev is NULL", vuser_dev_announce(NULL));
	REFUSED(EINVAL, "dev is NULL", vuser_dev_announced(NULL));
	CHECK(vuser_dev_start(rig.dev) == 0);
	echo(&rig, 10, NULL);
	CHECK(vuser_dev_announce(rig.dev) == 0);
	if (is_dpdk) {
		/* DPDK gives it to its application as if we had sent it, and that one sends it back: a RARP request of RFC 903. */
		static const uint8_t head[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x77, 0x80, 0x35 };
		struct vuser_mbuf *m = receive_one(rig.rx);

		CHECK(m->data_len >= 42 && memcmp(vuser_mbuf_data(m), head, sizeof(head)) == 0);
		vuser_mbuf_free(m);
	}
	echo(&rig, 10, NULL);
	/* Nobody has asked for it, and there is no control queue to say that it was done. */
	REFUSED(ENOTSUP, "GUEST_ANNOUNCE", vuser_dev_announced(rig.dev));
	rig_close(&rig);
}

/* ---------------------------------------------------------------- the log */

static struct vuser_mbuf_source make_area(struct vuser_dev *dev)
{
	struct vuser_mbuf_source source;
	int fd = memfd_create("extras", MFD_CLOEXEC);
	unsigned i;

	CHECK(fd >= 0 && ftruncate(fd, AREA) == 0);
	area = (uint8_t *)mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(area != MAP_FAILED && posix_memalign((void **)&mbufs, 128, RIG_BUFFERS * sizeof(*mbufs)) == 0);
	memset(mbufs, 0, RIG_BUFFERS * sizeof(*mbufs));
	for (i = 0, top = 0; i < RIG_BUFFERS; i++) {
		mbufs[i].buf_addr = area + (size_t)i * PAGE;
		mbufs[i].buf_len = 2048;
		mbufs[i].data_off = 128;
		mbufs[i].refcnt = 1;
		mbufs[i].nb_segs = 1;
		mbufs[i].pool = mbufs;
		stack[top++] = &mbufs[i];
	}
	CHECK(vuser_mem_register(dev, fd, 0, AREA, area) == 0);
	close(fd);
	memset(&source, 0, sizeof(source));
	source.size = sizeof(source);
	source.get_bulk = get_bulk;
	source.put_bulk = put_bulk;
	source.free = free_one;
	source.pool = mbufs;
	source.buf_len = 2048;
	source.headroom = 128;
	return source;
}

static unsigned count_bits(const uint8_t *bits, unsigned bytes)
{
	unsigned n = 0, i;

	for (i = 0; i < 8 * bytes; i++)
		n += bits[i / 8] >> (i % 8) & 1;
	return n;
}

/* Each page that a frame has come to is in the log, once; a page that none has come to is not. */
static void written_pages_are_noted(const char *layout)
{
	struct rig rig = open_rig(layout);
	struct vuser_mbuf_source source = make_area(rig.dev);
	struct vuser_mbuf *kept[FRAMES];
	uint8_t bits[RIG_BUFFERS / 8];
	unsigned i, lap;

	CHECK(vuser_rx_queue_setup_source(rig.dev, 0, 64, &source) == 0);
	REFUSED(EINVAL, "dev is NULL", vuser_dirty_log_start(NULL));
	REFUSED(ENODATA, "vuser_dirty_log_start", vuser_dirty_log_read(rig.dev, area, AREA, bits, sizeof(bits)));
	CHECK(vuser_dev_start(rig.dev) == 0);
	echo(&rig, FRAMES, NULL);
	CHECK(vuser_dirty_log_start(rig.dev) == 0);
	REFUSED(EALREADY, "log already", vuser_dirty_log_start(rig.dev));
	REFUSED(EINVAL, "bits", vuser_dirty_log_read(rig.dev, area, AREA, NULL, sizeof(bits)));
	REFUSED(EINVAL, "bits", vuser_dirty_log_read(rig.dev, area, AREA, bits, sizeof(bits) - 1));
	for (lap = 0; lap < 3; lap++) {
		/* What is read is forgotten. */
		CHECK(vuser_dirty_log_read(rig.dev, area, AREA, bits, sizeof(bits)) >= 0);
		CHECK(vuser_dirty_log_read(rig.dev, area, AREA, bits, sizeof(bits)) == 0 && count_bits(bits, sizeof(bits)) == 0);
		echo(&rig, FRAMES, kept);
		CHECK(vuser_dirty_log_read(rig.dev, area, AREA, bits, sizeof(bits)) == (int)FRAMES);
		CHECK(count_bits(bits, sizeof(bits)) == FRAMES);
		for (i = 0; i < FRAMES; i++) {
			const unsigned page = (unsigned)((uint8_t *)vuser_mbuf_data(kept[i]) - area) / PAGE;

			CHECK((bits[page / 8] >> (page % 8) & 1) == 1);
			give_back(kept[i]);
		}
		if (lap == 1) /* It goes on when the device was stopped. */
			CHECK(vuser_dev_stop(rig.dev) == 0 && vuser_dev_start(rig.dev) == 0);
	}
	CHECK(vuser_dirty_log_stop(rig.dev) == 0 && vuser_dirty_log_stop(rig.dev) == 0);
	REFUSED(ENODATA, "vuser_dirty_log_start", vuser_dirty_log_read(rig.dev, area, AREA, bits, sizeof(bits)));
	echo(&rig, FRAMES, NULL);
	rig_close(&rig);
	CHECK(top == RIG_BUFFERS);
	munmap(area, AREA);
	free(mbufs);
	mbufs = NULL;
}

static void nobody_is_told_where_nobody_is(void)
{
	char listens[128];
	struct vuser_dev *dev;

	snprintf(listens, sizeof(listens), "path=/tmp/vuser-extras-%ld,server=1", (long)getpid());
	dev = make_dev(listens);
	REFUSED(ENOTCONN, "", vuser_dev_announce(dev));
	REFUSED(ENOTCONN, "", vuser_dirty_log_start(dev));
	CHECK(vuser_dirty_log_stop(dev) == 0);
	CHECK(vuser_dev_set_mtu(dev, 1300) == 0 && mtu_of(dev) == 1300);
	vuser_dev_uninit(dev);
}

int main(int argc, char **argv)
{
	is_dpdk = argc > 1;
	if (is_dpdk)
		devargs = argv[1];
	an_mtu_is_chosen_and_told();
	an_address_is_announced();
	written_pages_are_noted("packed_vq=0");
	written_pages_are_noted("packed_vq=1");
	written_pages_are_noted("packed_vq=0,compact=1,mrg_rxbuf=0");
	written_pages_are_noted("packed_vq=1,in_order=0,event_idx=0");
	nobody_is_told_where_nobody_is();
	printf("ok\n");
	return 0;
}
