/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * generate: sends UDP/IPv4 frames of a given size at a given rate, and counts what comes back.
 *
 * The frame is built once as bytes and copied into each buffer; only the identification and the payload's
 * sequence number change. Each queue pair sends from a UDP port of its own, so that a switch that spreads
 * flows over queues has something to spread.
 */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <getopt.h>

#include "common.h"

static const char usage[] =
	"usage: generate [options] DEVARGS\n"
	"Sends UDP/IPv4 frames.\n"
	"  DEVARGS          the device, e.g. \"path=/tmp/sock,queues=2\"\n"
	"  --size N         frame length without FCS, 60 to 1514 (60)\n"
	"  --rate N         frames per second, all queues together (0: as many as go)\n"
	"  --frames N       stop after N frames\n"
	"  --seconds N      stop after N seconds (0: never)\n"
	"  --dst-mac MAC    (ff:ff:ff:ff:ff:ff)\n"
	"  --src IP:PORT    (10.0.0.1:1024; queue pair n sends from PORT + n)\n"
	"  --dst IP:PORT    (10.0.0.2:9)\n"
	"  --help           this text\n"
	"Ctrl-C stops it cleanly.\n";

#define ETH 14
#define IP  20
#define UDP 8
#define HEADERS (ETH + IP + UDP)
#define MAX_SIZE 1514

struct flow {
	uint8_t dst_mac[6], src_mac[6];
	uint8_t src_ip[4], dst_ip[4];
	uint16_t src_port, dst_port;
	size_t size;
};

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void ip_checksum(uint8_t *ip)
{
	uint32_t sum = 0;
	unsigned i;

	put16(ip + 10, 0);
	for (i = 0; i < IP; i += 2)
		sum += (uint32_t)ip[i] << 8 | ip[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	put16(ip + 10, ~sum & 0xffff);
}

static void build(uint8_t *frame, const struct flow *flow, unsigned queue)
{
	uint8_t *ip = frame + ETH, *udp = ip + IP;

	memset(frame, 0, flow->size);
	memcpy(frame, flow->dst_mac, 6);
	memcpy(frame + 6, flow->src_mac, 6);
	put16(frame + 12, 0x0800);
	ip[0] = 0x45;
	put16(ip + 2, (unsigned)(flow->size - ETH));
	ip[8] = 64; /* time to live */
	ip[9] = 17; /* UDP */
	memcpy(ip + 12, flow->src_ip, 4);
	memcpy(ip + 16, flow->dst_ip, 4);
	put16(udp, flow->src_port + queue);
	put16(udp + 2, flow->dst_port);
	put16(udp + 4, (unsigned)(flow->size - ETH - IP));
	/* The UDP checksum stays 0, which in IPv4 means "none". */
}

static unsigned send_some(struct vuser_queue *tx, struct vuser_pool *pool, uint8_t *frame, size_t size,
			  uint64_t number, unsigned n)
{
	struct vuser_mbuf *frames[BURST];
	unsigned sent, i;

	if (n == 0 || vuser_mbuf_alloc_bulk(pool, frames, (uint16_t)n) != 0) {
		vuser_tx_done_cleanup(tx, BURST); /* have the buffers of sent frames back */
		return 0;
	}
	for (i = 0; i < n; i++, number++) {
		put16(frame + ETH + 4, (unsigned)(number & 0xffff)); /* IP identification */
		ip_checksum(frame + ETH);
		memcpy(frame + HEADERS, &number, sizeof(number));
		memcpy(vuser_mbuf_append(frames[i], (uint16_t)size), frame, size);
	}
	sent = vuser_tx_burst(tx, frames, (uint16_t)n);
	vuser_mbuf_free_bulk(frames + sent, (uint16_t)(n - sent));
	return sent;
}

/* Nobody asked for what comes back, but a ring that is never emptied would hold up the other side. */
static unsigned discard(struct vuser_queue *rx)
{
	struct vuser_mbuf *frames[BURST];
	unsigned n = vuser_rx_burst(rx, frames, BURST);

	vuser_mbuf_free_bulk(frames, (uint16_t)n);
	return n;
}

static int generate(const char *devargs, struct flow *flow, double rate, double seconds, uint64_t limit)
{
	static uint8_t frame[MAX_PAIRS][MAX_SIZE];
	struct vuser_config config = read_devargs(devargs);
	struct vuser_pool *pool = make_pool(&config, 1);
	uint64_t sent = 0, received = 0;
	struct vuser_dev_info info;
	bool works = true;
	struct meter meter;
	struct port port;
	unsigned q;

	open_port(&port, &config, pool);
	print_port("generate", &port);
	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	check(vuser_dev_get_info(port.dev, &info), "information about the device");
	memcpy(flow->src_mac, info.mac, 6);
	for (q = 0; q < port.pairs; q++)
		build(frame[q], flow, q);

	meter_start(&meter, seconds);
	do {
		uint64_t moved = sent + received;

		for (q = 0; q < port.pairs; q++) {
			uint64_t due = limit != 0 ? limit - sent : UINT64_MAX;

			if (rate > 0) {
				uint64_t allowed = (uint64_t)((seconds_now() - meter.start) * rate);
				uint64_t behind = allowed > sent ? allowed - sent : 0;

				due = behind < due ? behind : due;
			}
			sent += send_some(port.tx[q], pool, frame[q], flow->size, sent,
					  due < BURST ? (unsigned)due : BURST);
			received += discard(port.rx[q]);
		}
		if (sent + received == moved) {
			works = port_works(&port);
			sched_yield();
		}
	} while (works && !stopping && (limit == 0 || sent < limit) && meter_tick(&meter, sent, "sent"));

	meter_total(&meter, sent, "sent");
	printf("%.3f Gb/s on the wire, %" PRIu64 " frames came back\n",
	       /* preamble, frame check sequence and gap count on a wire */
	       (double)sent * (double)(flow->size + 24) * 8 / (seconds_now() - meter.start) / 1e9, received);
	print_port_statistics("generate", &port);
	close_port(&port);
	vuser_pool_free(pool);
	return works ? 0 : 1;
}

static void parse_mac(uint8_t mac[6], const char *text)
{
	unsigned b[6], i;
	char rest;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &rest) != 6)
		die("--dst-mac %s: an address like 02:00:00:00:00:01 is expected", text);
	for (i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
}

static void parse_address(uint8_t ip[4], uint16_t *port, const char *text, const char *option)
{
	const char *colon = strchr(text, ':');
	char host[INET_ADDRSTRLEN];
	size_t len = colon ? (size_t)(colon - text) : strlen(text);

	if (len < sizeof(host)) {
		memcpy(host, text, len);
		host[len] = '\0';
	}
	if (len >= sizeof(host) || inet_pton(AF_INET, host, ip) != 1)
		die("%s %s: an address like 10.0.0.1:1024 is expected", option, text);
	if (colon != NULL)
		*port = (uint16_t)parse_number(colon + 1, 1, 65535 - MAX_PAIRS, option);
}

int main(int argc, char **argv)
{
	enum { SIZE = 256, RATE, SECONDS, FRAMES, MAC, SRC, DST };
	static const struct option longs[] = {
		{ "size", required_argument, NULL, SIZE },       { "rate", required_argument, NULL, RATE },
		{ "seconds", required_argument, NULL, SECONDS }, { "frames", required_argument, NULL, FRAMES },
		{ "dst-mac", required_argument, NULL, MAC },     { "src", required_argument, NULL, SRC },
		{ "dst", required_argument, NULL, DST },         { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct flow flow = {
		{ 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, { 0 }, { 10, 0, 0, 1 }, { 10, 0, 0, 2 }, 1024, 9, 60
	};
	double rate = 0, seconds = 0;
	uint64_t frames = 0;
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case SIZE: flow.size = (size_t)parse_number(optarg, 60, MAX_SIZE, "--size"); break;
		case RATE: rate = (double)parse_number(optarg, 0, 1000000000, "--rate"); break;
		case SECONDS: seconds = (double)parse_number(optarg, 0, 1000000000, "--seconds"); break;
		case FRAMES: frames = parse_number(optarg, 1, UINT64_MAX, "--frames"); break;
		case MAC: parse_mac(flow.dst_mac, optarg); break;
		case SRC: parse_address(flow.src_ip, &flow.src_port, optarg, "--src"); break;
		case DST: parse_address(flow.dst_ip, &flow.dst_port, optarg, "--dst"); break;
		case 'h': fputs(usage, stdout); return 0;
		default: fputs(usage, stderr); return 2;
		}
	}
	if (argc - optind != 1)
		die("%s", usage);
	catch_signals();
	return generate(argv[optind], &flow, rate, seconds, frames);
}
