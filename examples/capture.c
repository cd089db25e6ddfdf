/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * capture: writes what a device receives into a pcapng file, with time stamps in nanoseconds.
 *
 * The file is written by Wireshark's own library, libwiretap (Debian: libwireshark-dev; its licence is
 * the GPL, which a program built from this file therefore falls under when you hand it on).
 */
#define _POSIX_C_SOURCE 200809L

#include <getopt.h>

#include <wiretap/wtap.h>
#include <wsutil/wslog.h>

#include "common.h"

static const char usage[] =
	"usage: capture [options] DEVARGS FILE\n"
	"Writes received frames into FILE, a pcapng file.\n"
	"  DEVARGS        the device, e.g. \"path=/tmp/sock,queues=2\"\n"
	"  --snaplen N    keep the first N bytes of each frame (all)\n"
	"  --seconds N    stop after N seconds (0: never)\n"
	"  --frames N     stop after N frames\n"
	"  --help         this text\n"
	"Ctrl-C stops it cleanly: the file is complete.\n";

#define MAX_FRAME 65535

struct sink {
	wtap_dumper *dumper;
	wtap_rec record;
	unsigned snaplen;
	uint8_t flat[MAX_FRAME]; /* a frame that came in several buffers, put together */
};

static void check_file(bool fine, const char *file, int error, char *detail)
{
	if (fine)
		return;
	/* Positive numbers are errno's, negative ones wiretap's own. */
	fprintf(stderr, "%s: %s%s%s\n", file, error > 0 ? strerror(error) : wtap_strerror(error),
		detail != NULL ? ": " : "", detail != NULL ? detail : "");
	exit(1);
}

static void open_file(struct sink *sink, const char *file)
{
	wtap_dump_params params = WTAP_DUMP_PARAMS_INIT;
	char *detail = NULL;
	int error = 0;

	ws_log_init("capture", NULL); /* or it logs every packet */
	wtap_init(FALSE); /* no plug-ins */
	params.encap = WTAP_ENCAP_ETHERNET;
	params.snaplen = (int)sink->snaplen;
	params.tsprec = WTAP_TSPREC_NSEC;
	sink->dumper = wtap_dump_open(file, wtap_pcapng_file_type_subtype(), WTAP_UNCOMPRESSED, &params,
				      &error, &detail);
	check_file(sink->dumper != NULL, file, error, detail);
	wtap_rec_init(&sink->record);
	sink->record.rec_type = REC_TYPE_PACKET;
	sink->record.presence_flags = WTAP_HAS_TS | WTAP_HAS_CAP_LEN | WTAP_HAS_INTERFACE_ID;
	sink->record.tsprec = WTAP_TSPREC_NSEC;
	sink->record.rec_header.packet_header.pkt_encap = WTAP_ENCAP_ETHERNET;
}

static void close_file(struct sink *sink, const char *file)
{
	gboolean reload;
	char *detail = NULL;
	int error = 0;
	bool fine = wtap_dump_close(sink->dumper, &reload, &error, &detail);

	check_file(fine, file, error, detail);
	wtap_rec_cleanup(&sink->record);
	wtap_cleanup();
}

/* The bytes of a frame in one piece: in place if it is in one buffer. */
static const uint8_t *flatten(struct sink *sink, const struct vuser_mbuf *frame, unsigned len)
{
	unsigned at = 0;

	if (frame->nb_segs == 1)
		return vuser_mbuf_data(frame);
	for (; frame != NULL && at < len; frame = frame->next) {
		unsigned part = frame->data_len < len - at ? frame->data_len : len - at;

		memcpy(sink->flat + at, vuser_mbuf_data(frame), part);
		at += part;
	}
	return sink->flat;
}

static void write_frame(struct sink *sink, const struct vuser_mbuf *frame, const char *file)
{
	unsigned len = frame->pkt_len < sink->snaplen ? frame->pkt_len : sink->snaplen;
	char *detail = NULL;
	int error = 0;
	bool fine;

	sink->record.rec_header.packet_header.len = frame->pkt_len;
	sink->record.rec_header.packet_header.caplen = len;
	fine = wtap_dump(sink->dumper, &sink->record, flatten(sink, frame, len), &error, &detail);
	check_file(fine, file, error, detail);
}

/* One time stamp per burst: the frames of a burst were all there when we looked. */
static unsigned take_burst(struct vuser_queue *rx, unsigned n, struct sink *sink, const char *file)
{
	struct vuser_mbuf *frames[BURST];
	struct timespec t;
	unsigned i;

	n = vuser_rx_burst(rx, frames, (uint16_t)n);
	if (n == 0)
		return 0;
	clock_gettime(CLOCK_REALTIME, &t);
	sink->record.ts.secs = t.tv_sec;
	sink->record.ts.nsecs = (int)t.tv_nsec;
	for (i = 0; i < n; i++)
		write_frame(sink, frames[i], file);
	vuser_mbuf_free_bulk(frames, (uint16_t)n);
	return n;
}

static int capture(const char *devargs, const char *file, struct sink *sink, double seconds, uint64_t limit)
{
	struct vuser_config config = read_devargs(devargs);
	struct vuser_pool *pool = make_pool(&config, 1);
	uint64_t written = 0;
	bool works = true;
	struct meter meter;
	struct port port;
	unsigned q;

	/* The file first: were it not writable, the other side should not see us come and go. */
	open_file(sink, file);
	open_port(&port, &config, pool);
	print_port("capture", &port);
	meter_start(&meter, seconds);
	do {
		uint64_t before = written;

		for (q = 0; q < port.pairs; q++) {
			uint64_t left = limit != 0 ? limit - written : BURST;

			if (left > 0)
				written += take_burst(port.rx[q], left < BURST ? (unsigned)left : BURST, sink, file);
		}
		if (written == before) {
			works = port_works(&port);
			sched_yield();
		}
	} while (works && !stopping && (limit == 0 || written < limit) && meter_tick(&meter, written, "written"));

	meter_total(&meter, written, "written");
	print_port_statistics("capture", &port);
	close_port(&port);
	vuser_pool_free(pool);
	close_file(sink, file);
	return works ? 0 : 1;
}

int main(int argc, char **argv)
{
	enum { SNAPLEN = 256, SECONDS, FRAMES };
	static const struct option longs[] = {
		{ "snaplen", required_argument, NULL, SNAPLEN }, { "seconds", required_argument, NULL, SECONDS },
		{ "frames", required_argument, NULL, FRAMES },   { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static struct sink sink = { .snaplen = MAX_FRAME };
	uint64_t frames = 0;
	double seconds = 0;
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case SNAPLEN: sink.snaplen = (unsigned)parse_number(optarg, 14, MAX_FRAME, "--snaplen"); break;
		case SECONDS: seconds = (double)parse_number(optarg, 0, 1000000000, "--seconds"); break;
		case FRAMES: frames = parse_number(optarg, 1, UINT64_MAX, "--frames"); break;
		case 'h': fputs(usage, stdout); return 0;
		default: fputs(usage, stderr); return 2;
		}
	}
	if (argc - optind != 2)
		die("%s", usage);
	catch_signals();
	return capture(argv[optind], argv[optind + 1], &sink, seconds, frames);
}
