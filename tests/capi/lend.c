/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* Frames lent in place: no packet is received, and the pool is never asked for anything. */
#define _POSIX_C_SOURCE 200809L

#include "check.h"

#define MOST 64

static struct vuser_queue_stats stats_of(struct vuser_queue *queue)
{
	struct vuser_queue_stats stats;

	memset(&stats, 0, sizeof(stats));
	stats.size = sizeof(stats);
	CHECK(vuser_queue_get_stats(queue, &stats) == 0);
	return stats;
}

static void send(struct rig *rig, uint16_t len, unsigned number)
{
	struct vuser_mbuf *m = make_frame(rig->pool, len, number);
	double end = seconds() + 60;

	while (vuser_tx_burst(rig->tx, &m, 1) == 0)
		CHECK(seconds() < end);
}

static void check_lent(const struct vuser_frame *frame, unsigned len, unsigned number)
{
	const uint8_t *data = (const uint8_t *)frame->data;
	unsigned i;

	CHECK(frame->len == len && frame->flags == 0);
	for (i = 0; i < len; i++)
		CHECK(data[i] == (i == 0 ? 2 : (uint8_t)(number * 7 + i)));
}

/* Waits until so many frames are lent. */
static void peek(struct rig *rig, struct vuser_frame *frames, uint16_t n)
{
	double end = seconds() + 60;

	while (vuser_rx_peek(rig->rx, frames, n) != n)
		CHECK(seconds() < end);
}

static void frames_are_lent_in_order(struct rig *rig)
{
	struct vuser_queue_stats before = stats_of(rig->rx), after;
	struct vuser_frame frames[MOST], again[MOST];
	unsigned round, i, free_buffers, bytes = 0;

	/* The first look fills the ring up; from then on buffers stay in it. */
	while (vuser_rx_peek(rig->rx, frames, 1) != 0)
		vuser_rx_release(rig->rx, 1);
	vuser_tx_done_cleanup(rig->tx, UINT16_MAX);
	free_buffers = vuser_pool_available(rig->pool);
	for (round = 0; round < 40; round++) {
		unsigned n = 1 + round % 20;

		for (i = 0; i < n; i++)
			send(rig, (uint16_t)(60 + (round + i) * 37 % 1400), round + i);
		peek(rig, frames, (uint16_t)n);
		for (i = 0; i < n; i++) {
			check_lent(&frames[i], 60 + (round + i) * 37 % 1400, round + i);
			bytes += frames[i].len;
		}
		/* The same ones, until they are given back; those behind them then. */
		CHECK(vuser_rx_peek(rig->rx, again, (uint16_t)n) == n && memcmp(frames, again, n * sizeof(*frames)) == 0);
		vuser_rx_release(rig->rx, (uint16_t)(n / 2));
		CHECK(vuser_rx_peek(rig->rx, again, MOST) == n - n / 2 && again[0].data == frames[n / 2].data);
		vuser_rx_release(rig->rx, MOST);
		CHECK(vuser_rx_peek(rig->rx, again, MOST) == 0);
		vuser_rx_release(rig->rx, MOST);
	}
	after = stats_of(rig->rx);
	CHECK(after.packets - before.packets == 420 && after.bytes - before.bytes == bytes);
	vuser_tx_done_cleanup(rig->tx, UINT16_MAX);
	CHECK(vuser_pool_available(rig->pool) == free_buffers);
}

/* A filter: what is not wanted is given back in place, what is wanted is received. */
static void a_burst_receives_what_is_lent(struct rig *rig)
{
	struct vuser_frame frames[MOST];
	struct vuser_mbuf *m;
	unsigned i;

	for (i = 0; i < 6; i++)
		send(rig, 100, i);
	peek(rig, frames, 6);
	vuser_rx_release(rig->rx, 2);
	CHECK(vuser_rx_burst(rig->rx, &m, 1) == 1);
	check_frame(m, 100, 2);
	vuser_mbuf_free(m);
	/* Nothing is lent any more: these were not looked at since. */
	vuser_rx_release(rig->rx, 3);
	CHECK(vuser_rx_peek(rig->rx, frames, MOST) == 3);
	check_lent(&frames[0], 100, 3);
	vuser_rx_release(rig->rx, 3);
	CHECK(vuser_queue_count(rig->rx) == 0);
}

/* A frame of many buffers is lent in whole where there are places for it, else in parts. */
static void long_frames_are_lent_in_parts(struct rig *rig)
{
	struct vuser_frame frames[MOST];
	unsigned places;

	for (places = 1; places <= 6; places++) {
		uint32_t offset = 0, length = 9000;
		static uint8_t data[9000];
		unsigned i, at = 0, more = 1;
		double end = seconds() + 60;

		for (i = 0; i < length; i++)
			data[i] = (uint8_t)(i * 5 + places);
		data[0] = 2;
		CHECK(vuser_tx_burst_copy(rig->tx, data, length, &offset, &length, 1) == 1);
		while (more != 0) {
			unsigned n = vuser_rx_peek(rig->rx, frames, (uint16_t)places);

			CHECK(seconds() < end && n <= places);
			for (i = 0; i < n; i++) {
				CHECK(at + frames[i].len <= length && more != 0);
				CHECK(memcmp(frames[i].data, data + at, frames[i].len) == 0);
				at += frames[i].len;
				more = frames[i].flags & VUSER_FRAME_MORE;
			}
			vuser_rx_release(rig->rx, (uint16_t)n);
		}
		CHECK(at == length);
	}
	CHECK(stats_of(rig->rx).runt == 0 && stats_of(rig->rx).bad_header == 0);
}

/* Between a look and a release the device may be stopped, and started again. */
static void a_release_after_a_stop_is_harmless(struct rig *rig)
{
	struct vuser_frame frames[MOST];

	send(rig, 100, 1);
	peek(rig, frames, 1);
	CHECK(vuser_dev_stop(rig->dev) == 0);
	/* The memory is there, and anything may be in it. */
	(void)*(const volatile uint8_t *)frames[0].data;
	vuser_rx_release(rig->rx, 1);
	CHECK(vuser_rx_peek(rig->rx, frames, MOST) == 0);
	CHECK(stats_of(rig->rx).lost == 1);
	CHECK(vuser_dev_start(rig->dev) == 0);
	send(rig, 100, 2);
	vuser_rx_release(rig->rx, 1);
	peek(rig, frames, 1);
	check_lent(&frames[0], 100, 2);
	/* A queue that was stopped alone goes on where it was. */
	CHECK(vuser_rx_queue_stop(rig->dev, 0) == 0);
	vuser_rx_release(rig->rx, 1);
	CHECK(vuser_rx_queue_start(rig->dev, 0) == 0);
	peek(rig, frames, 1);
	check_lent(&frames[0], 100, 2);
	vuser_rx_release(rig->rx, 1);
}

static void lent_frames_are_sorted_when_that_is_asked_for(void)
{
	struct rig rig = rig_open("path=loopback,stats=1");
	struct vuser_frame frames[MOST];
	struct vuser_queue_stats stats;

	CHECK(vuser_dev_start(rig.dev) == 0);
	send(&rig, 60, 1);
	send(&rig, 1400, 2);
	peek(&rig, frames, 2);
	vuser_rx_release(rig.rx, 2);
	stats = stats_of(rig.rx);
	CHECK(stats.size_bins[0] == 1 && stats.size_bins[6] == 1 && stats.broadcast == 0);
	rig_close(&rig);
}

/* A device of old: the header has a descriptor of its own, so that frames have two. */
static void frames_with_two_descriptors_are_sorted_and_captured(void)
{
	struct rig rig = rig_open("path=loopback,stats=1,mrg_rxbuf=0,in_order=0");
	struct vuser_capture_config config;
	struct vuser_capture *capture;
	struct vuser_capture_stats captured;
	struct vuser_frame frames[MOST];
	struct vuser_queue_stats stats;
	unsigned round;

	memset(&config, 0, sizeof(config));
	config.size = sizeof(config);
	config.fd = -1;
	strcpy(config.path, "/dev/null");
	CHECK(vuser_dev_set_features(rig.dev, 0) == 0 && vuser_dev_start(rig.dev) == 0);
	CHECK(vuser_capture_start(rig.dev, &config, &capture) == 0);
	for (round = 0; round < 100; round++) {
		send(&rig, 60, 1);
		send(&rig, 1400, 2);
		send(&rig, 64, 3);
		peek(&rig, frames, 3);
		check_lent(&frames[1], 1400, 2);
		vuser_rx_release(rig.rx, 3);
	}
	stats = stats_of(rig.rx);
	CHECK(stats.packets == 300 && stats.size_bins[0] == 100 && stats.size_bins[1] == 100 && stats.size_bins[6] == 100);
	captured.size = sizeof(captured);
	CHECK(vuser_capture_get_stats(capture, &captured) == 0);
	CHECK(captured.captured + captured.dropped == 600 && captured.bytes == 2 * 100 * (60 + 1400 + 64));
	CHECK(vuser_capture_stop(capture) == 0);
	rig_close(&rig);
}

int main(void)
{
	static const char *const sizes[2][2] = { { "256", "64" }, { "255", "100" } };
	struct vuser_frame frame;
	unsigned set;

	/* Every layout, with and without merged buffers, order, and the event index, in rings of two sizes. */
	for (set = 0; set < 32; set++) {
		unsigned packed = set & 1, merged = set >> 1 & 1;
		char devargs[200];
		struct rig rig;

		snprintf(devargs, sizeof(devargs),
			 "path=loopback,packed_vq=%u,mrg_rxbuf=%u,in_order=%u,event_idx=%u,rx_csum=%u,queue_size=%s", packed,
			 merged, set >> 2 & 1, set >> 3 & 1, set >> 3 & 1, sizes[packed][set >> 4]);
		rig = rig_open(devargs);
		CHECK(vuser_rx_peek(rig.rx, &frame, 1) == 0);
		vuser_rx_release(rig.rx, 1);
		CHECK(vuser_dev_start(rig.dev) == 0);
		CHECK(vuser_rx_peek(rig.rx, &frame, 0) == 0 && vuser_rx_peek(rig.tx, &frame, 1) == 0);
		frames_are_lent_in_order(&rig);
		a_burst_receives_what_is_lent(&rig);
		if (merged)
			long_frames_are_lent_in_parts(&rig);
		a_release_after_a_stop_is_harmless(&rig);
		rig_close(&rig);
	}
	lent_frames_are_sorted_when_that_is_asked_for();
	frames_with_two_descriptors_are_sorted_and_captured();
	return 0;
}
