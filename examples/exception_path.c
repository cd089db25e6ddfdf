/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * exception_path: a program that handles some packets itself, and leaves all others to the kernel: ARP,
 * ping, routing protocols, ssh. The kernel sees an interface with the address of our port, and does not
 * know that it has no wire. This is what KNI was for.
 *
 *      port  ----------->  ours? ---- yes: it is answered here (UDP port 7 is echoed)
 *  (a switch)  <------       |
 *                    \       no
 *                     \      v
 *                      +-- the interface in the kernel
 *
 * Try it, as root (or have the interface made for a user: ip tuntap add dev exc0 mode tap user NAME):
 *      exception_path path=/tmp/vhost.sock path=/dev/vhost-net,iface=exc0 &
 *      ip addr add 192.0.2.1/24 dev exc0; ip link set exc0 up
 * and now whoever is behind the switch can ping 192.0.2.1.
 *
 * No offloads are asked for, so that frames from the kernel are complete. To hand the kernel's large
 * frames on, give both devices csum=1,tso=1,rx_csum=1,lro=1, and turn receive flags into transmit flags.
 */
#define _POSIX_C_SOURCE 200809L

#include <getopt.h>

#include "common.h"

static const char usage[] =
	"usage: exception_path [options] PORT INTERFACE\n"
	"Echoes UDP datagrams to port 7 that come in at PORT, leaves all other frames to the kernel's INTERFACE,\n"
	"and sends what comes from there out of PORT.\n"
	"  PORT           a device, e.g. \"path=/tmp/vhost.sock\"\n"
	"  INTERFACE      a device of the kernel, e.g. \"path=/dev/vhost-net,iface=exc0\" (as root,\n"
	"                 or with an interface that was made for you); it gets PORT's MAC address unless it is given another\n"
	"  --seconds N    stop after N seconds (0: never)\n"
	"  --help         this text\n"
	"Ctrl-C stops it cleanly.\n";

enum {
	ETH = 14,
	IPV4 = 20,
	UDP = 8,
	ECHO_PORT = 7,
};

struct totals {
	uint64_t echoed, to_kernel, from_kernel, dropped;
};

static void swap(uint8_t *a, uint8_t *b, unsigned len)
{
	uint8_t third[6];

	memcpy(third, a, len);
	memcpy(a, b, len);
	memcpy(b, third, len);
}

/* The fast path: whether it is a datagram for us to echo; then it has become its own answer. Swapping
 * addresses and ports leaves every checksum right. */
static bool echo(struct vuser_mbuf *frame)
{
	uint8_t *eth = vuser_mbuf_data(frame), *ip = eth + ETH, *udp = ip + IPV4;

	if (frame->data_len < ETH + IPV4 + UDP)
		return false;
	if ((eth[0] & 1) != 0 || eth[12] != 0x08 || eth[13] != 0x00)
		return false; /* to many, or no IPv4 */
	if (ip[0] != 0x45 || (ip[6] & 0x3f) != 0 || ip[7] != 0 || ip[9] != 17)
		return false; /* options, a fragment, or no UDP */
	if (udp[2] != 0 || udp[3] != ECHO_PORT)
		return false;
	if (udp[0] == 0 && udp[1] == ECHO_PORT)
		return false; /* two echo services would play ping-pong for ever */
	swap(eth, eth + 6, 6);
	swap(ip + 12, ip + 16, 4);
	swap(udp, udp + 2, 2);
	return true;
}

/* Sends a burst; what does not fit is dropped. */
static void send_all(struct vuser_queue *tx, struct vuser_mbuf **frames, unsigned n, struct totals *totals,
		     uint64_t *counter)
{
	unsigned sent = n == 0 ? 0 : vuser_tx_burst(tx, frames, (uint16_t)n);

	vuser_mbuf_free_bulk(frames + sent, (uint16_t)(n - sent));
	totals->dropped += n - sent;
	*counter += sent;
}

/* One burst from the port: some answered, the others to the kernel. */
static unsigned from_port(struct port *port, struct port *kernel, unsigned q, struct totals *totals)
{
	struct vuser_mbuf *frames[BURST], *ours[BURST], *others[BURST];
	unsigned n = vuser_rx_burst(port->rx[q], frames, BURST), answered = 0, left = 0, i;

	for (i = 0; i < n; i++) {
		if (echo(frames[i]))
			ours[answered++] = frames[i];
		else
			others[left++] = frames[i];
	}
	send_all(port->tx[q], ours, answered, totals, &totals->echoed);
	send_all(kernel->tx[q], others, left, totals, &totals->to_kernel);
	return n;
}

static unsigned from_kernel(struct port *kernel, struct port *port, unsigned q, struct totals *totals)
{
	struct vuser_mbuf *frames[BURST];
	unsigned n = vuser_rx_burst(kernel->rx[q], frames, BURST);

	send_all(port->tx[q], frames, n, totals, &totals->from_kernel);
	return n;
}

/* The kernel's interface has a carrier as long as the port has. */
static bool keep_link(const struct port *port, const struct port *kernel, bool was)
{
	bool is = vuser_dev_link(port->dev) > 0;

	if (is != was) {
		printf("the link of the port is %s\n", is ? "up" : "down");
		check(vuser_dev_set_link(kernel->dev, is), "link");
	}
	return is;
}

static int run(const char *port_args, const char *kernel_args, double seconds)
{
	struct vuser_config port_config = read_devargs(port_args), config = read_devargs(kernel_args);
	struct vuser_dev_info info;
	struct totals totals = { 0, 0, 0, 0 };
	struct port port, kernel;
	struct vuser_pool *pool;
	struct meter meter;
	bool works = true, up = true;
	unsigned q;

	/* One pool, so that frames go from one device to the other without a copy. */
	if (port_config.queues != config.queues)
		die("both devices need the same number of queues");
	pool = make_pool(port_config.queue_size > config.queue_size ? &port_config : &config, 2);
	open_port(&port, &port_config, pool);
	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	check(vuser_dev_get_info(port.dev, &info), "information about the port");
	if (!config.has_mac) {
		memcpy(config.mac, info.mac, 6);
		config.has_mac = 1;
	}
	open_port(&kernel, &config, pool);
	print_port("port", &port);
	print_port("kernel", &kernel);

	meter_start(&meter, seconds);
	do {
		unsigned moved = 0;

		for (q = 0; q < port.pairs; q++) {
			moved += from_port(&port, &kernel, q, &totals);
			moved += from_kernel(&kernel, &port, q, &totals);
		}
		if (moved == 0) {
			up = keep_link(&port, &kernel, up);
			works = port_works(&port) && port_works(&kernel);
			sched_yield();
		}
	} while (works && !stopping && meter_tick(&meter, totals.to_kernel + totals.from_kernel, "by the kernel"));

	meter_total(&meter, totals.to_kernel + totals.from_kernel, "by the kernel");
	printf("%" PRIu64 " echoed here, %" PRIu64 " to the kernel, %" PRIu64 " from the kernel, %" PRIu64 " dropped\n",
	       totals.echoed, totals.to_kernel, totals.from_kernel, totals.dropped);
	print_port_statistics("port", &port);
	print_port_statistics("kernel", &kernel);
	close_port(&kernel);
	close_port(&port);
	vuser_pool_free(pool);
	return works ? 0 : 1;
}

int main(int argc, char **argv)
{
	enum { SECONDS = 256 };
	static const struct option longs[] = {
		{ "seconds", required_argument, NULL, SECONDS },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	double seconds = 0;
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case SECONDS: seconds = (double)parse_number(optarg, 0, 1000000000, "--seconds"); break;
		case 'h': fputs(usage, stdout); return 0;
		default: fputs(usage, stderr); return 2;
		}
	}
	if (argc - optind != 2)
		die("%s", usage);
	catch_signals();
	return run(argv[optind], argv[optind + 1], seconds);
}
