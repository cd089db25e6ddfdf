/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * capture: receives frames and has the library write them into a pcapng file, with time stamps in nanoseconds.
 * Any program of yours can do so at any time, for as long as it likes: vuser_capture_start, vuser_capture_stop.
 */
#define _POSIX_C_SOURCE 200809L

#include <getopt.h>

#include "common.h"

static const char usage[] =
	"usage: capture [options] DEVARGS FILE\n"
	"Writes received frames into FILE, a pcapng file, or a named pipe that Wireshark reads.\n"
	"  DEVARGS        the device, e.g. \"path=/tmp/sock,queues=2\"\n"
	"  --snaplen N    keep the first N bytes of each frame (all)\n"
	"  --bytes N      let the file have N bytes at most (no limit)\n"
	"  --seconds N    stop after N seconds (0: never)\n"
	"  --frames N     stop after N frames\n"
	"  --help         this text\n"
	"Ctrl-C stops it cleanly: the file is complete.\n";

static struct vuser_capture *start_capture(struct vuser_dev *dev, struct vuser_capture_config *config,
					   const char *file)
{
	struct vuser_capture *capture;

	config->size = sizeof(*config);
	if (snprintf(config->path, sizeof(config->path), "%s", file) >= (int)sizeof(config->path))
		die("%s: too long a path\n", file);
	check(vuser_capture_start(dev, config, &capture), "capture");
	return capture;
}

static unsigned take_burst(struct vuser_queue *rx, unsigned n)
{
	struct vuser_mbuf *frames[BURST];

	n = vuser_rx_burst(rx, frames, (uint16_t)n);
	vuser_mbuf_free_bulk(frames, (uint16_t)n);
	return n;
}

/* The writer is a moment behind; its last numbers are wanted. */
static struct vuser_capture_stats settle(struct vuser_capture *capture, uint64_t received)
{
	struct vuser_capture_stats stats;
	double end = seconds_now() + 5;

	memset(&stats, 0, sizeof(stats));
	stats.size = sizeof(stats);
	do {
		check(vuser_capture_get_stats(capture, &stats), "statistics of the capture");
		sched_yield();
	} while (stats.error == 0 && stats.written + stats.dropped < received && seconds_now() < end);
	return stats;
}

static bool is_well(struct vuser_capture *capture)
{
	return settle(capture, 0).error == 0;
}

static int run(const char *devargs, const char *file, struct vuser_capture_config *config, double seconds,
	       uint64_t limit)
{
	struct vuser_config device = read_devargs(devargs);
	struct vuser_pool *pool = make_pool(&device, 1);
	struct vuser_capture_stats stats;
	struct vuser_capture *capture;
	uint64_t received = 0;
	bool works = true;
	struct meter meter;
	struct port port;
	unsigned q;

	open_port(&port, &device, pool);
	print_port("capture", &port);
	capture = start_capture(port.dev, config, file);
	meter_start(&meter, seconds);
	do {
		uint64_t before = received;

		for (q = 0; q < port.pairs; q++) {
			uint64_t left = limit != 0 ? limit - received : BURST;

			if (left > 0)
				received += take_burst(port.rx[q], left < BURST ? (unsigned)left : BURST);
		}
		if (received == before) {
			works = port_works(&port);
			sched_yield();
		}
	} while (works && !stopping && is_well(capture) && (limit == 0 || received < limit) &&
		 meter_tick(&meter, received, "received"));

	stats = settle(capture, received);
	check(vuser_capture_stop(capture), "the capture");
	meter_total(&meter, stats.written, "written");
	if (stats.dropped > 0)
		printf("%" PRIu64 " frames are missing: %s\n", stats.dropped,
		       stats.full ? "the file is full" : "they came faster than they could be written");
	print_port_statistics("capture", &port);
	close_port(&port);
	vuser_pool_free(pool);
	return works ? 0 : 1;
}

int main(int argc, char **argv)
{
	enum { SNAPLEN = 256, BYTES, SECONDS, FRAMES };
	static const struct option longs[] = {
		{ "snaplen", required_argument, NULL, SNAPLEN }, { "bytes", required_argument, NULL, BYTES },
		{ "seconds", required_argument, NULL, SECONDS }, { "frames", required_argument, NULL, FRAMES },
		{ "help", no_argument, NULL, 'h' },              { NULL, 0, NULL, 0 },
	};
	static struct vuser_capture_config config;
	uint64_t frames = 0;
	double seconds = 0;
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case SNAPLEN: config.snaplen = (unsigned)parse_number(optarg, 14, 65535, "--snaplen"); break;
		case BYTES: config.max_bytes = parse_number(optarg, 4096, UINT64_MAX, "--bytes"); break;
		case SECONDS: seconds = (double)parse_number(optarg, 0, 1000000000, "--seconds"); break;
		case FRAMES: frames = parse_number(optarg, 1, UINT64_MAX, "--frames"); break;
		case 'h': fputs(usage, stdout); return 0;
		default: fputs(usage, stderr); return 2;
		}
	}
	if (argc - optind != 2)
		die("%s", usage);
	catch_signals();
	return run(argv[optind], argv[optind + 1], &config, seconds, frames);
}
