/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * forward: what comes in at one device goes out at the other, with the two MAC addresses swapped; with
 * one device, it goes back where it came from. Frames are not copied: both devices use one pool.
 *
 * A good place to start from when writing a switch, a firewall or a load balancer.
 */
#define _POSIX_C_SOURCE 200809L

#include <getopt.h>

#include "common.h"

static const char usage[] =
	"usage: forward [options] DEVARGS [DEVARGS]\n"
	"Swaps the MAC addresses of every frame and sends it on: from the first device to the second and\n"
	"back, or back to where it came from if there is one device only.\n"
	"  DEVARGS        a device, e.g. \"path=/tmp/sock0,queues=2\"\n"
	"  --keep-macs    leave the frames as they are\n"
	"  --seconds N    stop after N seconds (0: never)\n"
	"  --frames N     stop after N frames\n"
	"  --help         this text\n"
	"Ctrl-C stops it cleanly.\n";

struct totals {
	uint64_t forwarded, dropped;
};

static void swap_macs(struct vuser_mbuf *frame)
{
	uint8_t *mac = vuser_mbuf_data(frame), first[6];

	memcpy(first, mac, 6);
	memcpy(mac, mac + 6, 6);
	memcpy(mac + 6, first, 6);
}

/* One burst from a receive queue to a transmit queue. */
static unsigned pass(struct vuser_queue *rx, struct vuser_queue *tx, bool swap, struct totals *totals)
{
	struct vuser_mbuf *frames[BURST];
	unsigned n = vuser_rx_burst(rx, frames, BURST), sent, i;

	if (n == 0)
		return 0;
	for (i = 0; swap && i < n; i++)
		swap_macs(frames[i]);
	sent = vuser_tx_burst(tx, frames, (uint16_t)n);
	/* The ring is full: a forwarder drops, for waiting would only move the queue to somewhere else. */
	vuser_mbuf_free_bulk(frames + sent, (uint16_t)(n - sent));
	totals->forwarded += sent;
	totals->dropped += n - sent;
	return n;
}

static int forward(char **devargs, unsigned ports, bool swap, double seconds, uint64_t limit)
{
	static const char *const names[2] = { "port 0", "port 1" };
	struct vuser_config config[2];
	struct totals totals = { 0, 0 };
	struct vuser_pool *pool;
	struct meter meter;
	struct port port[2];
	bool works = true;
	unsigned i, q, pairs, largest = 0;

	for (i = 0; i < ports; i++) {
		config[i] = read_devargs(devargs[i]);
		if (config[i].queues * config[i].queue_size > config[largest].queues * config[largest].queue_size)
			largest = i;
	}
	pool = make_pool(&config[largest], ports);
	for (i = 0; i < ports; i++) {
		open_port(&port[i], &config[i], pool);
		print_port(names[i], &port[i]);
	}
	pairs = port[0].pairs;
	if (ports == 2 && port[1].pairs != pairs)
		die("both devices need the same number of queues");

	meter_start(&meter, seconds);
	do {
		unsigned moved = 0;

		for (i = 0; i < ports; i++)
			for (q = 0; q < pairs; q++)
				moved += pass(port[i].rx[q], port[ports - 1 - i].tx[q], swap, &totals);
		if (moved == 0) {
			for (i = 0; works && i < ports; i++)
				works = port_works(&port[i]);
			sched_yield();
		}
	} while (works && !stopping && (limit == 0 || totals.forwarded < limit) &&
		 meter_tick(&meter, totals.forwarded, "forwarded"));

	meter_total(&meter, totals.forwarded, "forwarded");
	printf("%" PRIu64 " dropped because the way out was full\n", totals.dropped);
	for (i = 0; i < ports; i++)
		print_port_statistics(names[i], &port[i]);
	for (i = 0; i < ports; i++)
		close_port(&port[i]);
	vuser_pool_free(pool);
	return works ? 0 : 1;
}

int main(int argc, char **argv)
{
	enum { KEEP = 256, SECONDS, FRAMES };
	static const struct option longs[] = {
		{ "keep-macs", no_argument, NULL, KEEP },        { "seconds", required_argument, NULL, SECONDS },
		{ "frames", required_argument, NULL, FRAMES },   { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t frames = 0;
	double seconds = 0;
	bool swap = true;
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case KEEP: swap = false; break;
		case SECONDS: seconds = (double)parse_number(optarg, 0, 1000000000, "--seconds"); break;
		case FRAMES: frames = parse_number(optarg, 1, UINT64_MAX, "--frames"); break;
		case 'h': fputs(usage, stdout); return 0;
		default: fputs(usage, stderr); return 2;
		}
	}
	if (argc - optind < 1 || argc - optind > 2)
		die("%s", usage);
	catch_signals();
	return forward(argv + optind, (unsigned)(argc - optind), swap, seconds, frames);
}
