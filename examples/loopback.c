/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * loopback: the first thing to run. Starts a virtio-net device, sends numbered frames, receives them back
 * from the other side, checks them and says how fast that went.
 *
 * Without arguments the other side is the library's own back-end in the same process: no root, no huge
 * pages, no switch. With devargs it is whatever listens there, e.g. a vhost-user switch that sends frames
 * back. With --serve it is the other way round: this program becomes a back-end for other processes.
 */
#define _POSIX_C_SOURCE 200809L

#include <getopt.h>

#include "common.h"

static const char usage[] =
	"usage: loopback [options] [DEVARGS]\n"
	"       loopback [options] --serve PATH[,ARGS]\n"
	"Sends frames through a device and checks those that come back.\n"
	"  DEVARGS        the device: \"path=loopback\" by default, or \"path=/tmp/sock,packed_vq=1,queues=2\", ...\n"
	"  --serve PATH   be the back-end: listen on PATH and send every frame back\n"
	"  --size N       frame length, 60 to 1514 (64)\n"
	"  --seconds N    stop after N seconds (5; 0: never; --serve: 0)\n"
	"  --frames N     stop after N frames came back\n"
	"  --help         this text\n"
	"Ctrl-C stops it cleanly.\n";

struct numbers {
	uint64_t sent, received; /* per queue pair: also the next number to send and to expect */
};

/* A number and our addresses are all there is in a frame. */
static void fill(uint8_t *frame, size_t size, uint64_t number)
{
	static const uint8_t ether[14] = { 0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x88, 0xb5 };

	memset(frame, 0, size);
	memcpy(frame, ether, sizeof(ether));
	memcpy(frame + sizeof(ether), &number, sizeof(number));
}

static void send_some(struct vuser_queue *tx, struct vuser_pool *pool, size_t size, unsigned n,
		      struct numbers *numbers)
{
	struct vuser_mbuf *frames[BURST];
	unsigned i, sent;

	if (vuser_mbuf_alloc_bulk(pool, frames, (uint16_t)n) != 0)
		return; /* all buffers are under way: receive some first */
	for (i = 0; i < n; i++)
		fill(vuser_mbuf_append(frames[i], (uint16_t)size), size, numbers->sent + i);
	sent = vuser_tx_burst(tx, frames, (uint16_t)n);
	numbers->sent += sent;
	/* What the ring had no room for is still ours. The same numbers go out next time. */
	vuser_mbuf_free_bulk(frames + sent, (uint16_t)(n - sent));
}

/* Returns how many frames were not the ones expected. */
static uint64_t receive_some(struct vuser_queue *rx, size_t size, struct numbers *numbers)
{
	struct vuser_mbuf *frames[BURST];
	unsigned n = vuser_rx_burst(rx, frames, BURST), i;
	uint64_t wrong = 0, number;

	for (i = 0; i < n; i++, numbers->received++) {
		memcpy(&number, (const uint8_t *)vuser_mbuf_data(frames[i]) + 14, sizeof(number));
		wrong += number != numbers->received || frames[i]->pkt_len != size;
	}
	vuser_mbuf_free_bulk(frames, (uint16_t)n);
	return wrong;
}

static int drive(const char *devargs, size_t size, double seconds, uint64_t limit)
{
	struct vuser_config config = read_devargs(devargs);
	struct vuser_pool *pool = make_pool(&config, 1);
	struct numbers numbers[MAX_PAIRS] = { { 0, 0 } };
	uint64_t received = 0, wrong = 0;
	/* Never more under way than half a ring: a back-end drops what it finds no room for. */
	uint64_t window = config.queue_size / 2;
	bool works = true;
	struct meter meter;
	struct port port;
	unsigned i;

	open_port(&port, &config, pool);
	print_port("loopback", &port);
	meter_start(&meter, seconds);
	do {
		uint64_t before = received;

		received = 0;
		for (i = 0; i < port.pairs; i++) {
			if (numbers[i].sent - numbers[i].received + BURST <= window)
				send_some(port.tx[i], pool, size, BURST, &numbers[i]);
			wrong += receive_some(port.rx[i], size, &numbers[i]);
			received += numbers[i].received;
		}
		if (received == before) {
			works = port_works(&port);
			sched_yield(); /* let the back-end run if it shares our CPU */
		}
	} while (works && !stopping && (limit == 0 || received < limit) &&
		 meter_tick(&meter, received, "came back"));

	meter_total(&meter, received, "came back");
	print_port_statistics("loopback", &port);
	printf("%" PRIu64 " wrong frames\n", wrong);
	close_port(&port);
	vuser_pool_free(pool);
	return works && wrong == 0 && received > 0 ? 0 : 1;
}

static int serve(const char *path, double seconds)
{
	struct vuser_loopback *loopback;
	char args[PATH_MAX + 16];
	double start = seconds_now();

	if ((size_t)snprintf(args, sizeof(args), "path=%s", path) >= sizeof(args))
		die("--serve %s: too long", path);
	check(vuser_loopback_start(args, &loopback), path);
	printf("serving %s; connect with: loopback path=%s\n", path, path);
	fflush(stdout);
	/* The back-end has a thread of its own; there is nothing to do here. */
	while (!stopping && (seconds == 0 || seconds_now() - start < seconds))
		sleep_seconds(0.1);
	vuser_loopback_stop(loopback);
	printf("served %.1f s\n", seconds_now() - start);
	return 0;
}

int main(int argc, char **argv)
{
	enum { SERVE = 256, SIZE, SECONDS, FRAMES };
	static const struct option longs[] = {
		{ "serve", required_argument, NULL, SERVE },     { "size", required_argument, NULL, SIZE },
		{ "seconds", required_argument, NULL, SECONDS }, { "frames", required_argument, NULL, FRAMES },
		{ "help", no_argument, NULL, 'h' },              { NULL, 0, NULL, 0 },
	};
	const char *path = NULL;
	size_t size = 64;
	uint64_t frames = 0;
	double seconds = -1;
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case SERVE: path = optarg; break;
		case SIZE: size = (size_t)parse_number(optarg, 60, 1514, "--size"); break;
		case SECONDS: seconds = (double)parse_number(optarg, 0, 1000000000, "--seconds"); break;
		case FRAMES: frames = parse_number(optarg, 1, UINT64_MAX, "--frames"); break;
		case 'h': fputs(usage, stdout); return 0;
		default: fputs(usage, stderr); return 2;
		}
	}
	if (argc - optind > 1 || (path != NULL && argc != optind))
		die("%s", usage);
	catch_signals();
	if (path != NULL)
		return serve(path, seconds < 0 ? 0 : seconds);
	if (seconds < 0)
		seconds = frames != 0 ? 0 : 5;
	return drive(optind < argc ? argv[optind] : "path=loopback", size, seconds, frames);
}
