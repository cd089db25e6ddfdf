/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* Bursts that copy: frames of the application's own memory go out and come back, and no buffer is ever seen. */
#define _POSIX_C_SOURCE 200809L

#include "check.h"

#define FRAMES 64
#define FRAME_SIZE(number) (60 + (number) * 137 % 1400)

static uint8_t out[FRAMES * 1500], in[FRAMES * 1500];
static uint32_t out_offsets[FRAMES], out_lengths[FRAMES], in_offsets[FRAMES], in_lengths[FRAMES];

/* Frames from this number on, back to back. */
static uint32_t fill(unsigned number, unsigned n)
{
	uint32_t at = 0;
	unsigned i, k;

	for (i = 0; i < n; i++) {
		out_offsets[i] = at;
		out_lengths[i] = FRAME_SIZE(number + i);
		for (k = 0; k < out_lengths[i]; k++)
			out[at + k] = (uint8_t)((number + i) * 7 + k);
		out[at] = 2;
		at += out_lengths[i];
	}
	return at;
}

static void echo(struct rig *rig, unsigned number, unsigned n, size_t room)
{
	uint32_t size = fill(number, n);
	double end = seconds() + 60;
	unsigned sent = 0, done = 0, i;

	while (done < n) {
		unsigned got;
		uint32_t at = 0;

		CHECK(seconds() < end);
		if (sent < n)
			sent += vuser_tx_burst_copy(rig->tx, out, size, out_offsets + sent, out_lengths + sent,
						    (uint16_t)(n - sent));
		got = vuser_rx_burst_copy(rig->rx, in, room, in_offsets, in_lengths, FRAMES);
		CHECK(done + got <= n);
		for (i = 0; i < got; i++, done++) {
			CHECK(in_offsets[i] == at && in_lengths[i] == out_lengths[done]);
			CHECK(memcmp(in + in_offsets[i], out + out_offsets[done], in_lengths[i]) == 0);
			at += in_lengths[i];
		}
		CHECK(at <= room);
		if (got == 0)
			vuser_queue_wait(rig->rx, 10);
	}
}

static void frames_come_back(struct rig *rig)
{
	struct vuser_queue_stats before, after;
	unsigned i;

	memset(&before, 0, sizeof(before));
	before.size = sizeof(before);
	after = before;
	CHECK(vuser_queue_get_stats(rig->rx, &before) == 0);
	for (i = 0; i < 200; i++)
		echo(rig, i * FRAMES, FRAMES, sizeof(in));
	CHECK(vuser_queue_get_stats(rig->rx, &after) == 0);
	CHECK(after.packets - before.packets == 200 * FRAMES);
	/* As many as fit, and the others later. */
	for (i = 0; i < 20; i++)
		echo(rig, i, FRAMES, 3000);
}

/* What does not fit stays; the other burst gets it. */
static void nothing_is_lost_where_nothing_fits(struct rig *rig)
{
	uint32_t size = fill(5, 1);
	double end = seconds() + 60;
	struct vuser_mbuf *m;

	CHECK(vuser_tx_burst_copy(rig->tx, out, size, out_offsets, out_lengths, 1) == 1);
	while (vuser_queue_count(rig->rx) == 0)
		CHECK(seconds() < end);
	CHECK(vuser_rx_burst_copy(rig->rx, in, sizeof(in), in_offsets, in_lengths, 0) == 0);
	CHECK(vuser_rx_burst_copy(rig->rx, in, size - 1, in_offsets, in_lengths, FRAMES) == 0);
	m = receive_one(rig->rx);
	check_frame(m, size, 5);
	vuser_mbuf_free(m);
}

static void wrong_frames_are_counted(struct rig *rig)
{
	struct vuser_queue_stats stats;
	uint32_t size = fill(0, 4);

	memset(&stats, 0, sizeof(stats));
	stats.size = sizeof(stats);
	CHECK(vuser_queue_reset_stats(rig->tx) == 0);
	out_offsets[0] = size;          /* begins at the end */
	out_offsets[1] = UINT32_MAX;    /* far away */
	out_lengths[2] = 13;            /* no Ethernet header */
	CHECK(vuser_tx_burst_copy(rig->tx, out, size, out_offsets, out_lengths, 4) == 4);
	CHECK(vuser_queue_get_stats(rig->tx, &stats) == 0);
	CHECK(stats.bad_packet == 3 && stats.packets == 1);
	vuser_mbuf_free(receive_one(rig->rx));
}

/* A frame longer than a buffer is a chain of them, out and back. */
static void long_frames_come_back(struct rig *rig)
{
	static uint8_t large[65550];
	uint32_t offset = 0, length = 9000, got = 0;
	double end = seconds() + 60;
	unsigned i;

	for (i = 0; i < length; i++)
		out[i] = (uint8_t)(i * 3);
	out[0] = 2;
	CHECK(vuser_tx_burst_copy(rig->tx, out, length, &offset, &length, 1) == 1);
	while (vuser_rx_burst_copy(rig->rx, large, sizeof(large), &offset, &got, 1) == 0) {
		CHECK(seconds() < end);
		vuser_queue_wait(rig->rx, 10);
	}
	CHECK(offset == 0 && got == length && memcmp(large, out, length) == 0);
}

/* A frame of which the device left the checksum to be done, as one of the same machine does, is right in the copy. */
static void checksums_are_finished(const char *devargs)
{
	static const uint8_t ip[] = { 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2 };
	struct rig rig = rig_open(devargs);
	unsigned len;

	CHECK(vuser_dev_start(rig.dev) == 0);
	for (len = 60; len < 1400; len += 31) {
		struct vuser_mbuf *m = make_frame(rig.pool, (uint16_t)len, len);
		uint8_t *data = (uint8_t *)vuser_mbuf_data(m);
		const uint32_t udp = len - 34;
		/* The pseudo-header: addresses, protocol, length. */
		uint32_t offset, length, sum = 17 + udp, i;
		double end = seconds() + 60;

		memcpy(data + 12, ip, sizeof(ip));
		m->ol_flags = VUSER_MBUF_F_TX_IPV4 | VUSER_MBUF_F_TX_UDP_CKSUM;
		CHECK(vuser_mbuf_set_tx_offload(m, 14, 20, 8, 0) == 0);
		CHECK(vuser_tx_prepare(rig.tx, &m, 1) == 1 && vuser_tx_burst(rig.tx, &m, 1) == 1);
		while (vuser_rx_burst_copy(rig.rx, in, sizeof(in), &offset, &length, 1) == 0) {
			CHECK(seconds() < end);
			vuser_queue_wait(rig.rx, 10);
		}
		CHECK(offset == 0 && length == len);
		for (i = 26; i < len; i++)
			sum += i % 2 == 0 ? (uint32_t)in[i] << 8 : in[i];
		while (sum > 0xffff)
			sum = (sum & 0xffff) + (sum >> 16);
		CHECK(sum == 0xffff);
	}
	rig_close(&rig);
}

int main(void)
{
	static const char *const devices[] = {
		"path=loopback",
		"path=loopback,packed_vq=1",
		"path=loopback,mrg_rxbuf=0,in_order=0,event_idx=0,queue_size=128",
		"path=loopback,packed_vq=1,mrg_rxbuf=0,in_order=0,indirect=0,queue_size=100",
	};
	unsigned i;

	for (i = 0; i < 4; i++) {
		struct rig rig = rig_open(devices[i]);

		fill(0, 1);
		CHECK(vuser_tx_burst_copy(rig.tx, out, 100, out_offsets, out_lengths, 1) == 0);
		CHECK(vuser_rx_burst_copy(rig.rx, in, sizeof(in), in_offsets, in_lengths, FRAMES) == 0);
		CHECK(vuser_dev_start(rig.dev) == 0);
		frames_come_back(&rig);
		nothing_is_lost_where_nothing_fits(&rig);
		wrong_frames_are_counted(&rig);
		if (i < 2)
			long_frames_come_back(&rig);
		CHECK(vuser_dev_stop(rig.dev) == 0);
		rig_close(&rig);
	}
	checksums_are_finished("path=loopback,csum=1,rx_csum=1");
	checksums_are_finished("path=loopback,csum=1,rx_csum=1,packed_vq=1");
	checksums_are_finished("path=loopback,csum=1,rx_csum=1,mrg_rxbuf=0,in_order=0");
	return 0;
}
