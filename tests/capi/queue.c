/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* struct vuser_queue: bursts in both layouts, statistics, waiting. With an argument: fewer frames. */
#define _POSIX_C_SOURCE 200809L

#include <poll.h>

#include "check.h"

#define MOST 64

static unsigned rounds = 400;

static struct vuser_queue_stats stats_of(struct vuser_queue *queue)
{
	struct vuser_queue_stats stats;

	memset(&stats, 0, sizeof(stats));
	stats.size = sizeof(stats);
	CHECK(vuser_queue_get_stats(queue, &stats) == 0 && stats.size == sizeof(stats));
	return stats;
}

/* Sends n frames from this number on, and receives them again, in order and undamaged. */
static unsigned echo(struct rig *rig, unsigned n, unsigned number)
{
	struct vuser_mbuf *frames[MOST];
	double end = seconds() + 60;
	unsigned i, done = 0, bytes = 0;

	for (i = 0; i < n; i++)
		frames[i] = make_frame(rig->pool, (uint16_t)(60 + (number + i) * 37 % 1400), number + i);
	while (done < n) {
		CHECK(seconds() < end);
		done += vuser_tx_burst(rig->tx, frames + done, (uint16_t)(n - done));
	}
	for (done = 0; done < n;) {
		unsigned got = vuser_rx_burst(rig->rx, frames, MOST);

		CHECK(seconds() < end && done + got <= n);
		for (i = 0; i < got; i++, done++) {
			check_frame(frames[i], 60 + (number + done) * 37 % 1400, number + done);
			bytes += frames[i]->pkt_len;
		}
		vuser_mbuf_free_bulk(frames, (uint16_t)got);
		if (got == 0)
			vuser_queue_wait(rig->rx, 10);
	}
	return bytes;
}

static void a_stopped_queue_moves_nothing(struct rig *rig)
{
	struct vuser_mbuf *m = make_frame(rig->pool, 60, 0), *none = NULL;

	REFUSED(ENETDOWN, "not started", vuser_queue_status(rig->rx));
	REFUSED(ENETDOWN, "not started", vuser_queue_status(rig->tx));
	CHECK(vuser_rx_burst(rig->rx, &none, 1) == 0 && none == NULL);
	/* What is not taken stays ours. */
	CHECK(vuser_tx_burst(rig->tx, &m, 1) == 0 && vuser_tx_done_cleanup(rig->tx, 1) == 0);
	CHECK(vuser_tx_prepare(rig->tx, &m, 1) == 0);
	vuser_mbuf_free(m);
	REFUSED(ENETDOWN, "not started", vuser_queue_call(rig->rx, 1));
	REFUSED(ENETDOWN, "not started", vuser_queue_wait(rig->rx, 1));
	CHECK(vuser_queue_fd(rig->rx) >= 0 && vuser_queue_fd(rig->rx) != vuser_queue_fd(rig->tx));
}

static void frames_come_back(struct rig *rig)
{
	struct vuser_mbuf *m = NULL;
	struct vuser_queue_stats rx, tx;
	uint64_t packets = 0, bytes = 0;
	unsigned i;

	CHECK(vuser_queue_status(rig->rx) == 0 && vuser_queue_status(rig->tx) == 0);
	for (i = 0; i < rounds; i++) {
		unsigned n = i % (MOST - 1) + 1;

		CHECK(vuser_tx_burst(rig->tx, &m, 0) == 0 && vuser_rx_burst(rig->rx, &m, 0) == 0);
		bytes += echo(rig, n, (unsigned)packets);
		packets += n;
	}
	rx = stats_of(rig->rx);
	tx = stats_of(rig->tx);
	CHECK(rx.packets == packets && tx.packets == packets && rx.bytes == bytes && tx.bytes == bytes);
	CHECK(rx.runt == 0 && rx.bad_header == 0 && tx.ring_full + tx.bad_packet + tx.bad_offload == 0);
	CHECK(tx.multicast == 0 && tx.size_bins[2] == 0);
	/* Everything was sent, so it can be had back at once. */
	CHECK(vuser_tx_prepare(rig->tx, &m, 0) == 0);
	m = make_frame(rig->pool, 60, 0);
	CHECK(vuser_tx_burst(rig->tx, &m, 1) == 1);
	vuser_mbuf_free(receive_one(rig->rx));
	CHECK(vuser_tx_done_cleanup(rig->tx, UINT16_MAX) >= 1);
	/* From zero. */
	CHECK(vuser_queue_reset_stats(rig->rx) == 0 && vuser_queue_reset_stats(rig->tx) == 0);
	CHECK(stats_of(rig->rx).packets == 0 && stats_of(rig->tx).bytes == 0);
	echo(rig, 5, 0);
	CHECK(stats_of(rig->rx).packets == 5 && stats_of(rig->tx).packets == 5);
}

static void packets_of_several_segments_come_back(struct rig *rig)
{
	unsigned segments, i;

	for (segments = 2; segments <= 20; segments++) {
		struct vuser_mbuf *m = make_frame(rig->pool, 60, segments);

		for (i = 1; i < segments; i++) {
			struct vuser_mbuf *tail = make_frame(rig->pool, 30, 0);
			uint8_t *data = (uint8_t *)vuser_mbuf_data(tail);
			unsigned k;

			for (k = 0; k < 30; k++)
				data[k] = (uint8_t)(segments * 7 + m->pkt_len + k);
			CHECK(vuser_mbuf_chain(m, tail) == 0);
		}
		CHECK(vuser_tx_burst(rig->tx, &m, 1) == 1);
		m = receive_one(rig->rx);
		check_frame(m, 60 + 30 * (segments - 1), segments);
		vuser_mbuf_free(m);
	}
}

/* To send a packet gives it away, even if nobody can send it; the statistics say why. */
static void wrong_packets_are_counted_and_freed(struct rig *rig)
{
	struct vuser_queue_stats before = stats_of(rig->tx), after;
	struct vuser_mbuf *m[4];

	m[0] = make_frame(rig->pool, 13, 0); /* shorter than an Ethernet header */
	m[1] = make_frame(rig->pool, 60, 0);
	m[1]->ol_flags |= VUSER_MBUF_F_TX_TCP_CKSUM | VUSER_MBUF_F_TX_IPV4; /* not agreed */
	CHECK(vuser_mbuf_set_tx_offload(m[1], 14, 20, 20, 0) == 0);
	m[2] = make_frame(rig->pool, 60, 0);
	m[2]->pkt_len = 61; /* does not add up */
	m[2]->nb_segs = 2;
	m[3] = make_frame(rig->pool, 60, 0);
	CHECK(vuser_tx_prepare(rig->tx, m + 1, 1) == 0 && vuser_tx_prepare(rig->tx, m + 3, 1) == 1);
	CHECK(vuser_tx_burst(rig->tx, m, 4) == 4);
	check_frame(m[3] = receive_one(rig->rx), 60, 0);
	vuser_mbuf_free(m[3]);
	after = stats_of(rig->tx);
	CHECK(after.bad_packet == before.bad_packet + 2 && after.bad_offload == before.bad_offload + 1);
	CHECK(after.packets == before.packets + 1);
	CHECK(vuser_queue_status(rig->tx) == 0);
}

static void a_queue_can_be_waited_for(struct rig *rig)
{
	struct pollfd watched;
	struct vuser_mbuf *m;
	double start;

	watched.fd = vuser_queue_fd(rig->rx);
	watched.events = POLLIN;
	start = seconds();
	CHECK(vuser_queue_wait(rig->rx, 30) == 0 && seconds() - start > 0.02);
	CHECK(vuser_queue_call(rig->rx, 1) == 0);
	m = make_frame(rig->pool, 60, 1);
	CHECK(vuser_tx_burst(rig->tx, &m, 1) == 1);
	CHECK(poll(&watched, 1, 5000) == 1 && (watched.revents & POLLIN) != 0);
	/* There is work already. */
	CHECK(vuser_queue_call(rig->rx, 1) == 1 && vuser_queue_wait(rig->rx, 5000) == 1);
	vuser_mbuf_free(receive_one(rig->rx));
	CHECK(vuser_queue_call(rig->rx, 0) == 0);
	m = make_frame(rig->pool, 60, 1);
	CHECK(vuser_tx_burst(rig->tx, &m, 1) == 1 && vuser_queue_wait(rig->rx, 5000) == 1);
	vuser_mbuf_free(receive_one(rig->rx));
}

static void statistics_of_other_releases_are_understood(struct rig *rig)
{
	struct {
		struct vuser_queue_stats stats;
		unsigned char more[32];
	} newer;
	struct vuser_queue_stats stats;
	size_t i;

	memset(&stats, 0xa5, sizeof(stats));
	stats.size = offsetof(struct vuser_queue_stats, kicks);
	CHECK(vuser_queue_get_stats(rig->rx, &stats) == 0 && stats.packets == stats_of(rig->rx).packets);
	CHECK(stats.kicks == UINT64_C(0xa5a5a5a5a5a5a5a5));
	memset(&newer, 0xa5, sizeof(newer));
	newer.stats.size = sizeof(newer);
	CHECK(vuser_queue_get_stats(rig->rx, &newer.stats) == 0 && newer.stats.size == sizeof(newer));
	for (i = 0; i < sizeof(newer.more); i++)
		CHECK(newer.more[i] == 0xa5);
	stats.size = 0;
	REFUSED(EINVAL, "sizeof", vuser_queue_get_stats(rig->rx, &stats));
	REFUSED(EINVAL, "stats is NULL", vuser_queue_get_stats(rig->rx, NULL));
	REFUSED(EINVAL, "queue is NULL", vuser_queue_get_stats(NULL, &stats));
	REFUSED(EINVAL, "queue is NULL", vuser_queue_reset_stats(NULL));
	REFUSED(EINVAL, "queue is NULL", vuser_queue_status(NULL));
	REFUSED(EINVAL, "queue is NULL", vuser_queue_fd(NULL));
	REFUSED(EINVAL, "queue is NULL", vuser_queue_call(NULL, 1));
	REFUSED(EINVAL, "queue is NULL", vuser_queue_wait(NULL, 1));
}

static void frames_are_sorted_when_that_is_asked_for(void)
{
	struct rig rig = rig_open("path=loopback,stats=1");
	static const uint16_t sizes[] = { 60, 64, 65, 300, 600, 1024, 1500 };
	struct vuser_queue_stats stats;
	struct vuser_mbuf *m;
	unsigned i;

	CHECK(vuser_dev_start(rig.dev) == 0);
	for (i = 0; i < 7; i++) {
		m = make_frame(rig.pool, sizes[i], 0);
		if (i < 2)
			memset(vuser_mbuf_data(m), i == 0 ? 0xff : 0x01, 6);
		CHECK(vuser_tx_burst(rig.tx, &m, 1) == 1);
		vuser_mbuf_free(receive_one(rig.rx));
	}
	stats = stats_of(rig.tx);
	CHECK(stats.broadcast == 1 && stats.multicast == 1);
	CHECK(stats.size_bins[0] == 1 && stats.size_bins[1] == 1 && stats.size_bins[2] == 1);
	CHECK(stats.size_bins[3] == 0 && stats.size_bins[4] == 1 && stats.size_bins[5] == 1);
	CHECK(stats.size_bins[6] == 2 && stats.size_bins[7] == 0);
	CHECK(memcmp(stats.size_bins, stats_of(rig.rx).size_bins, sizeof(stats.size_bins)) == 0);
	rig_close(&rig);
}

int main(int argc, char **argv)
{
	static const char *const devices[] = {
		"path=loopback",
		"path=loopback,packed_vq=1",
		"path=loopback,mrg_rxbuf=0,in_order=0,event_idx=0,queue_size=128",
		"path=loopback,packed_vq=1,mrg_rxbuf=0,in_order=0,indirect=0,queue_size=100",
	};
	unsigned i;

	(void)argv;
	if (argc > 1)
		rounds = 10;
	for (i = 0; i < 4; i++) {
		struct rig rig = rig_open(devices[i]);

		a_stopped_queue_moves_nothing(&rig);
		CHECK(vuser_dev_start(rig.dev) == 0);
		frames_come_back(&rig);
		packets_of_several_segments_come_back(&rig);
		wrong_packets_are_counted_and_freed(&rig);
		a_queue_can_be_waited_for(&rig);
		statistics_of_other_releases_are_understood(&rig);
		CHECK(vuser_dev_stop(rig.dev) == 0);
		a_stopped_queue_moves_nothing(&rig);
		rig_close(&rig);
	}
	frames_are_sorted_when_that_is_asked_for();
	return 0;
}
