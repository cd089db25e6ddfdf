/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * traffic: sends frames to a peer that sends every one of them back, and checks what comes.
 *
 * The peer is somebody else's code: DPDK's vhost in testpmd, forwarding in "io" mode (queue n in,
 * queue n out, nothing changed). So whatever returns damaged, twice, late or not at all was damaged
 * by our driver or understood differently by the two sides.
 *
 * A frame's bytes are a function of (seed, queue, sequence number, length). The receiver reads those
 * three numbers out of the frame, makes the frame again and compares all of it: a checksum would only
 * say less. Because a random seed per run is part of the frame, a frame left over from an earlier run
 * counts as damaged.
 *
 * Frames in flight are bounded so that the receive ring never runs dry: a switch drops what the guest
 * has no room for, and such a loss would be nobody's fault.
 *
 * Prints one line of JSON. Exit status: 0 all right, 1 anything else wrong, 2 wrong options.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vuser.h"

#define MAX_QUEUES 16
#define MAX_SIZES  16
#define MAX_BURST  256
#define MAX_FRAME  65535
#define NET_HDR    12      /* struct virtio_net_hdr as VIRTIO 1.x has it: every frame carries one */
#define SEEN       65536u  /* sequence numbers remembered per queue; more than can be in flight */

#define F_RING_PACKED (UINT64_C(1) << 34)

/* ---------------------------------------------------------------- what is asked */

struct options {
	const char *devargs;
	unsigned queues, queue_size; /* 0: what devargs say */
	uint64_t frames;             /* per run, all queues together */
	unsigned sizes[MAX_SIZES], nsizes;
	unsigned burst;
	bool jitter;        /* bursts of 1..burst instead of always burst */
	bool mix;           /* receive in turn by bursts, by borrowing and by copying; send by copying, too */
	unsigned segment;   /* cut transmitted frames into mbufs of at most so many bytes; 0: as they fit */
	unsigned data_size; /* bytes per buffer, headroom included; 0: the library's default */
	unsigned window;    /* receive slots that may be in use by frames in flight; 0: half the ring */
	unsigned timeout;   /* seconds without progress before we give up */
	unsigned restarts;  /* stop and start so many times on the way */
	bool hot;           /* ... with frames in flight, which may then be lost */
	bool renegotiate;   /* reset half way and start again without the features in `remove` */
	uint64_t remove;
	bool hold;          /* half way: print "hold" on stderr and wait for a line on stdin */
	bool events;        /* sleep on the queues' event fds when there is nothing to do */
	bool seeded;
	uint64_t seed;
	const char *expect_layout;
	uint64_t expect, forbid; /* feature bits that must / must not have been negotiated */
	bool verbose;
};

static const char usage[] =
	"usage: traffic --devargs ARGS [options]\n"
	"  --devargs ARGS         the device, e.g. path=/tmp/sock,packed_vq=1\n"
	"  --queues N             queue pairs (overrides devargs)\n"
	"  --queue-size N         descriptors per queue (overrides devargs)\n"
	"  --frames N             frames to send, all queues together (20000)\n"
	"  --sizes A,B,...        frame lengths, taken in turn (64)\n"
	"  --burst N              frames per call (32)\n"
	"  --jitter               calls of 1..burst frames\n"
	"  --mix                  borrow and copy frames as well as receiving and sending packets\n"
	"  --segment N            send chains of mbufs with at most N bytes each\n"
	"  --data-size N          bytes per packet buffer, headroom included\n"
	"  --window N             receive slots used by frames in flight (half the ring)\n"
	"  --timeout S            seconds without progress that end the run (10)\n"
	"  --restart[=N]          stop and start the device N times (1), nothing in flight\n"
	"  --restart-hot[=N]      the same with frames in flight; these may be lost, nothing else\n"
	"  --renegotiate MASK     half way: reset, take these features away, start again\n"
	"  --hold                 half way: say \"hold\" on stderr, go on after a line on stdin\n"
	"  --events               sleep on the receive queues' fds instead of spinning\n"
	"  --seed N               what the frames' bytes are made from (random)\n"
	"  --expect-layout L      split or packed\n"
	"  --expect-features M    these must be negotiated\n"
	"  --forbid-features M    these must not\n"
	"  --verbose              the library's log on stderr\n";

static uint64_t number(const char *name, const char *text, uint64_t max)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno != 0 || end == text || *end != '\0' || *text == '-' || value > max) {
		fprintf(stderr, "traffic: --%s %s: not a number up to %" PRIu64 "\n", name, text, max);
		exit(2);
	}
	return value;
}

static void parse_sizes(struct options *o, const char *text)
{
	char item[16];

	o->nsizes = 0;
	for (;;) {
		size_t len = strcspn(text, ",");

		if (len == 0 || len >= sizeof(item) || o->nsizes == MAX_SIZES) {
			fprintf(stderr, "traffic: --sizes: up to %d numbers with commas between\n", MAX_SIZES);
			exit(2);
		}
		memcpy(item, text, len);
		item[len] = '\0';
		o->sizes[o->nsizes] = (unsigned)number("sizes", item, MAX_FRAME);
		if (o->sizes[o->nsizes++] < 60) {
			fprintf(stderr, "traffic: --sizes: a frame has 60 bytes or more\n");
			exit(2);
		}
		if (text[len] == '\0')
			return;
		text += len + 1;
	}
}

static void parse_options(struct options *o, int argc, char **argv)
{
	enum { DEVARGS = 256, QUEUES, QUEUE_SIZE, FRAMES, SIZES, BURST, JITTER, MIX, SEGMENT, DATA_SIZE, WINDOW,
	       TIMEOUT, RESTART, RESTART_HOT, RENEGOTIATE, HOLD, EVENTS, SEED, LAYOUT, EXPECT, FORBID,
	       VERBOSE };
	static const struct option longs[] = {
		{ "devargs", required_argument, NULL, DEVARGS },
		{ "queues", required_argument, NULL, QUEUES },
		{ "queue-size", required_argument, NULL, QUEUE_SIZE },
		{ "frames", required_argument, NULL, FRAMES },
		{ "sizes", required_argument, NULL, SIZES },
		{ "burst", required_argument, NULL, BURST },
		{ "jitter", no_argument, NULL, JITTER },
		{ "mix", no_argument, NULL, MIX },
		{ "segment", required_argument, NULL, SEGMENT },
		{ "data-size", required_argument, NULL, DATA_SIZE },
		{ "window", required_argument, NULL, WINDOW },
		{ "timeout", required_argument, NULL, TIMEOUT },
		{ "restart", optional_argument, NULL, RESTART },
		{ "restart-hot", optional_argument, NULL, RESTART_HOT },
		{ "renegotiate", required_argument, NULL, RENEGOTIATE },
		{ "hold", no_argument, NULL, HOLD },
		{ "events", no_argument, NULL, EVENTS },
		{ "seed", required_argument, NULL, SEED },
		{ "expect-layout", required_argument, NULL, LAYOUT },
		{ "expect-features", required_argument, NULL, EXPECT },
		{ "forbid-features", required_argument, NULL, FORBID },
		{ "verbose", no_argument, NULL, VERBOSE },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*o = (struct options){ .frames = 20000, .sizes = { 64 }, .nsizes = 1, .burst = 32, .timeout = 10 };
	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case DEVARGS: o->devargs = optarg; break;
		case QUEUES: o->queues = (unsigned)number("queues", optarg, MAX_QUEUES); break;
		case QUEUE_SIZE: o->queue_size = (unsigned)number("queue-size", optarg, 32768); break;
		case FRAMES: o->frames = number("frames", optarg, UINT64_MAX); break;
		case SIZES: parse_sizes(o, optarg); break;
		case BURST: o->burst = (unsigned)number("burst", optarg, MAX_BURST); break;
		case JITTER: o->jitter = true; break;
		case MIX: o->mix = true; break;
		case SEGMENT: o->segment = (unsigned)number("segment", optarg, UINT16_MAX); break;
		case DATA_SIZE: o->data_size = (unsigned)number("data-size", optarg, UINT16_MAX); break;
		case WINDOW: o->window = (unsigned)number("window", optarg, 32768); break;
		case TIMEOUT: o->timeout = (unsigned)number("timeout", optarg, 86400); break;
		case RESTART_HOT: o->hot = true; /* fall through */
		case RESTART: o->restarts = optarg ? (unsigned)number("restart", optarg, 1000000) : 1; break;
		case RENEGOTIATE:
			o->renegotiate = true;
			o->remove = number("renegotiate", optarg, UINT64_MAX);
			break;
		case HOLD: o->hold = true; break;
		case EVENTS: o->events = true; break;
		case SEED:
			o->seeded = true;
			o->seed = number("seed", optarg, UINT64_MAX);
			break;
		case LAYOUT: o->expect_layout = optarg; break;
		case EXPECT: o->expect = number("expect-features", optarg, UINT64_MAX); break;
		case FORBID: o->forbid = number("forbid-features", optarg, UINT64_MAX); break;
		case VERBOSE: o->verbose = true; break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			fputs(usage, stderr);
			exit(2);
		}
	}
	if (o->devargs == NULL || optind != argc || o->burst == 0 || o->timeout == 0) {
		fputs(usage, stderr);
		exit(2);
	}
}

/* ---------------------------------------------------------------- time and the watchdog */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The loops below notice a peer that has gone quiet. The alarm is for what they cannot notice: a call
 * into the library that never returns. */
static const char *volatile phase = "starting";

static void on_alarm(int sig)
{
	static const char head[] = "traffic: watchdog: hangs while ";
	const char *p = phase;
	ssize_t ignored;

	(void)sig;
	ignored = write(2, head, sizeof(head) - 1);
	ignored = write(2, p, strlen(p));
	ignored = write(2, "\n", 1);
	(void)ignored;
	_exit(1);
}

static void enter(const char *name, const struct options *o)
{
	phase = name;
	alarm(o->timeout + 20); /* more than the library's own deadline for one message */
}

/* ---------------------------------------------------------------- frames */

struct stamp {
	uint32_t magic;
	uint16_t queue;
	uint16_t length;
	uint64_t sequence;
};
#define MAGIC  UINT32_C(0x76757365) /* "vuse" */
#define ETH    14
#define FILL   (ETH + sizeof(struct stamp)) /* what is left of a frame is pseudo-random */

/* One step of splitmix64: cheap, and any two inputs give unrelated outputs. */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static void make_frame(uint8_t *frame, uint64_t seed, unsigned queue, uint64_t sequence, unsigned length)
{
	static const uint8_t ether[ETH] = {
		0x02, 0, 0, 0, 0, 0x02, 0x02, 0, 0, 0, 0, 0x01, 0x88, 0xb5 /* local experiments */
	};
	struct stamp stamp = { MAGIC, (uint16_t)queue, (uint16_t)length, sequence };
	uint64_t state = mix(seed ^ mix(sequence ^ ((uint64_t)queue << 48)) ^ length);
	size_t at = FILL;

	memcpy(frame, ether, ETH);
	memcpy(frame + ETH, &stamp, sizeof(stamp));
	for (; at + 8 <= length; at += 8) {
		uint64_t word = state * UINT64_C(0x9e3779b97f4a7c15);

		word ^= word >> 29;
		memcpy(frame + at, &word, 8);
		state += UINT64_C(0xd1342543de82ef95);
	}
	state = mix(state);
	memcpy(frame + at, &state, length - at);
}

/* ---------------------------------------------------------------- one queue pair */

struct lane {
	struct vuser_queue *rx, *tx;
	uint64_t target;    /* frames this lane sends up to the end of the current leg */
	uint64_t built;     /* next sequence number to build */
	uint64_t taken;     /* frames the transmit burst took */
	uint64_t expected;  /* next sequence number to receive */
	uint64_t floor;     /* sequence numbers below were in flight at a hot restart */
	uint64_t slots;     /* receive slots that frames taken and not yet back will need */
	struct vuser_mbuf *pending[MAX_BURST]; /* built, not taken yet */
	unsigned first, npending;
	uint64_t *seen;     /* bitmap over the last SEEN sequence numbers */
	uint64_t received, corrupt, reordered, duplicate, late;
};

struct run {
	struct options o;
	struct vuser_config config;
	struct vuser_dev *dev;
	struct vuser_pool *pool;
	uint32_t pool_count;
	unsigned room; /* bytes of a frame that one buffer holds */
	struct lane lanes[MAX_QUEUES];
	unsigned nlanes;
	unsigned window;
	uint64_t random;
	uint64_t chains_sent, chains_received, wakes;
	uint64_t leaked;
	double busy, max_gap;
	bool stalled;
	char error[512];
	uint8_t frame[MAX_FRAME + 1];
};

static bool failed(struct run *r, const char *what)
{
	if (r->error[0] == '\0')
		snprintf(r->error, sizeof(r->error), "%s: %s", what, vuser_last_error());
	return false;
}

static bool wrong(struct run *r, const char *what)
{
	if (r->error[0] == '\0')
		snprintf(r->error, sizeof(r->error), "%s", what);
	return false;
}

static unsigned frame_size(const struct run *r, uint64_t sequence)
{
	return r->o.sizes[sequence % r->o.nsizes];
}

/* Receive slots a frame needs. The header may or may not share the first buffer with the frame,
 * depending on how the library lays buffers out: count it. */
static unsigned frame_slots(const struct run *r, uint64_t sequence)
{
	return (frame_size(r, sequence) + NET_HDR + r->room - 1) / r->room;
}

static bool seen_test(const struct lane *l, uint64_t sequence)
{
	return l->seen[sequence % SEEN / 64] >> (sequence % 64) & 1;
}

static void seen_set(struct lane *l, uint64_t sequence)
{
	l->seen[sequence % SEEN / 64] |= UINT64_C(1) << (sequence % 64);
}

static void seen_clear(struct lane *l, uint64_t sequence)
{
	l->seen[sequence % SEEN / 64] &= ~(UINT64_C(1) << (sequence % 64));
}

/* ---------------------------------------------------------------- transmit */

/* A frame in as many mbufs as it needs. NULL when the pool has none left: the next round tries again. */
static struct vuser_mbuf *pack(struct run *r, const uint8_t *frame, unsigned length)
{
	unsigned piece = r->o.segment ? r->o.segment : r->room;
	struct vuser_mbuf *head = NULL;
	unsigned at;

	if (piece > r->room)
		piece = r->room;
	for (at = 0; at < length;) {
		unsigned part = length - at < piece ? length - at : piece;
		struct vuser_mbuf *m = vuser_mbuf_alloc(r->pool);
		void *to = m ? vuser_mbuf_append(m, (uint16_t)part) : NULL;

		if (to == NULL) {
			vuser_mbuf_free(m);
			vuser_mbuf_free(head);
			return NULL;
		}
		memcpy(to, frame + at, part);
		at += part;
		if (head == NULL) {
			head = m;
		} else if (vuser_mbuf_chain(head, m) != 0) {
			vuser_mbuf_free(m);
			vuser_mbuf_free(head);
			failed(r, "vuser_mbuf_chain");
			return NULL;
		}
	}
	return head;
}

static unsigned burst_size(struct run *r)
{
	if (!r->o.jitter)
		return r->o.burst;
	r->random = mix(r->random);
	return 1 + (unsigned)(r->random % r->o.burst);
}

static unsigned transmit(struct run *r, unsigned q)
{
	struct lane *l = &r->lanes[q];
	unsigned want = burst_size(r), sent, i;

	if (l->npending == 0) {
		l->first = 0;
		while (l->npending < want && l->built < l->target) {
			unsigned length = frame_size(r, l->built);
			unsigned slots = frame_slots(r, l->built);
			struct vuser_mbuf *m;

			/* One frame may always travel, or a small ring would stop for good. */
			if (l->slots + slots > r->window && l->slots > 0)
				break;
			make_frame(r->frame, r->o.seed, q, l->built, length);
			m = pack(r, r->frame, length);
			if (m == NULL)
				break;
			r->chains_sent += m->nb_segs > 1;
			l->pending[l->npending++] = m;
			l->slots += slots;
			seen_clear(l, l->built++);
		}
	}
	if (l->npending == 0)
		return 0;
	sent = vuser_tx_burst(l->tx, l->pending + l->first, (uint16_t)l->npending);
	if (sent > l->npending) {
		wrong(r, "vuser_tx_burst took more frames than it was given");
		sent = l->npending;
	}
	for (i = 0; i < sent; i++)
		l->pending[l->first + i] = NULL; /* the library's now */
	l->first += sent;
	l->npending -= sent;
	l->taken += sent;
	return sent;
}

/* Frames built and not taken are built again later, so that the sequence goes on without a gap. */
static void take_back(struct run *r, struct lane *l)
{
	while (l->npending > 0) {
		vuser_mbuf_free(l->pending[l->first + --l->npending]);
		l->slots -= frame_slots(r, --l->built);
	}
}

/* ---------------------------------------------------------------- receive */

/* Does the chain hold exactly these bytes, and do its lengths add up? */
static bool same(const struct vuser_mbuf *m, const uint8_t *frame, unsigned length)
{
	unsigned at = 0, segments = 0, claimed = m->nb_segs;

	if (m->pkt_len != length)
		return false;
	for (; m != NULL; m = m->next, segments++) {
		if (m->data_len > length - at || memcmp(vuser_mbuf_data(m), frame + at, m->data_len) != 0)
			return false;
		at += m->data_len;
	}
	return at == length && segments == claimed;
}

static void accept_frame(struct run *r, unsigned q, struct vuser_mbuf *m)
{
	struct lane *l = &r->lanes[q];
	struct stamp stamp;

	r->chains_received += m->nb_segs > 1;
	/* Whoever sends 60 bytes puts the stamp into the first buffer; a peer that cuts frames shorter
	 * than 30 bytes would show here as damage, and none does. */
	if (m->data_len < FILL) {
		l->corrupt++;
		return;
	}
	memcpy(&stamp, (const uint8_t *)vuser_mbuf_data(m) + ETH, sizeof(stamp));
	if (stamp.magic != MAGIC || stamp.queue != q || stamp.sequence >= l->built ||
	    stamp.length != frame_size(r, stamp.sequence)) {
		l->corrupt++;
		return;
	}
	make_frame(r->frame, r->o.seed, q, stamp.sequence, stamp.length);
	if (!same(m, r->frame, stamp.length)) {
		l->corrupt++;
		return;
	}

	if (stamp.sequence + SEEN < l->built || seen_test(l, stamp.sequence)) {
		l->duplicate++;
		return;
	}
	seen_set(l, stamp.sequence);
	l->received++;
	if (stamp.sequence < l->floor) {
		l->late++;
		return;
	}
	if (stamp.sequence < l->expected) {
		l->reordered++;
		return;
	}
	/* Frames passed over are lost or late; either way their slots are free again. */
	for (; l->expected <= stamp.sequence; l->expected++)
		l->slots -= frame_slots(r, l->expected);
}

/* A packet that stands for bytes somewhere: what accept_frame wants to see. */
static struct vuser_mbuf stand_in(const void *data, unsigned length)
{
	struct vuser_mbuf m;

	memset(&m, 0, sizeof(m));
	m.buf_addr = (void *)(uintptr_t)data;
	m.data_len = (uint16_t)length;
	m.pkt_len = length;
	m.nb_segs = 1;
	return m;
}

/* Looks at frames where they are, and gives some of them back: the others come again. */
static unsigned borrow(struct run *r, unsigned q, unsigned want)
{
	struct vuser_frame lent[MAX_BURST];
	struct vuser_mbuf parts[MAX_BURST];
	unsigned n = vuser_rx_peek(r->lanes[q].rx, lent, (uint16_t)want), i, done = 0, first = 0, frames = 0;

	if (n > want) {
		wrong(r, "vuser_rx_peek lent more than there was room for");
		return 0;
	}
	for (i = 0; i < n; i++) {
		parts[i] = stand_in(lent[i].data, lent[i].len);
		if (i > first) {
			parts[i - 1].next = &parts[i];
			parts[first].nb_segs++;
			parts[first].pkt_len += lent[i].len;
		}
		if ((lent[i].flags & VUSER_FRAME_MORE) != 0)
			continue;
		accept_frame(r, q, &parts[first]);
		frames++;
		first = done = i + 1;
		r->random = mix(r->random);
		if (r->random % 8 == 0)
			break;
	}
	vuser_rx_release(r->lanes[q].rx, (uint16_t)done);
	/* One that is lent in part has more buffers than there are places: it is received. */
	return frames;
}

static unsigned copy_out(struct run *r, unsigned q, unsigned want)
{
	static uint8_t data[128 << 10];
	uint32_t offsets[MAX_BURST], lengths[MAX_BURST];
	unsigned n = vuser_rx_burst_copy(r->lanes[q].rx, data, sizeof(data), offsets, lengths, (uint16_t)want), i;

	if (n > want) {
		wrong(r, "vuser_rx_burst_copy gave more frames than there was room for");
		return 0;
	}
	for (i = 0; i < n; i++) {
		struct vuser_mbuf m = stand_in(data + offsets[i], lengths[i]);

		accept_frame(r, q, &m);
	}
	return n;
}

static unsigned receive(struct run *r, unsigned q)
{
	struct vuser_mbuf *got[MAX_BURST];
	unsigned want = burst_size(r), n, i;

	if (r->o.mix) {
		r->random = mix(r->random);
		if (r->random % 4 == 0)
			return copy_out(r, q, want);
		/* Burst now and then, for those that are lent in part only. */
		if (r->random % 4 != 1)
			return borrow(r, q, want);
	}
	n = vuser_rx_burst(r->lanes[q].rx, got, (uint16_t)want);
	if (n > want) {
		wrong(r, "vuser_rx_burst gave more frames than there was room for");
		return 0;
	}
	for (i = 0; i < n; i++)
		accept_frame(r, q, got[i]);
	vuser_mbuf_free_bulk(got, (uint16_t)n);
	return n;
}

/* Sleep until a receive queue calls. The order matters: ask for calls first, look for frames that came
 * before the asking second, sleep third. vuser_queue_call does the first two. */
static void wait_for_call(struct run *r)
{
	struct pollfd fds[MAX_QUEUES];
	bool waiting = false;
	unsigned q;
	int n;

	for (q = 0; q < r->nlanes; q++) {
		fds[q] = (struct pollfd){ vuser_queue_fd(r->lanes[q].rx), POLLIN, 0 };
		waiting |= vuser_queue_call(r->lanes[q].rx, true) > 0;
	}
	n = waiting ? 0 : poll(fds, r->nlanes, 1000);
	for (q = 0; q < r->nlanes; q++) {
		vuser_queue_call(r->lanes[q].rx, false);
		if (n > 0 && (fds[q].revents & POLLIN) != 0) {
			uint64_t calls;

			if (read(fds[q].fd, &calls, sizeof(calls)) == (ssize_t)sizeof(calls))
				r->wakes++;
		}
	}
}

/* ---------------------------------------------------------------- a run */

static bool lane_done(const struct lane *l, bool drain)
{
	return l->taken >= l->target && (!drain || l->expected >= l->target);
}

/* Every lane up to its target; with `drain`, until all of it is back. */
static bool leg(struct run *r, bool drain)
{
	double start = now(), last = start, rearm = start;
	bool all = false;

	enter("moving frames", &r->o);
	while (!all && r->error[0] == '\0') {
		unsigned moved = 0, came = 0, q;
		double t;

		all = true;
		for (q = 0; q < r->nlanes; q++) {
			moved += transmit(r, q);
			came += receive(r, q);
			all &= lane_done(&r->lanes[q], drain);
			if (vuser_queue_status(r->lanes[q].rx) != 0 || vuser_queue_status(r->lanes[q].tx) != 0)
				return failed(r, "a queue stopped working");
		}
		if (moved + came == 0 && !all) {
			if (r->o.events)
				wait_for_call(r);
			else
				sched_yield(); /* the peer may need this CPU */
		}
		t = now();
		if (came > 0) {
			if (t - last > r->max_gap)
				r->max_gap = t - last;
			last = t;
		} else if (t - last > r->o.timeout) {
			r->stalled = true;
			return wrong(r, "no progress: frames do not come back");
		}
		if (t - rearm > 1) {
			rearm = t;
			alarm(r->o.timeout + 20);
		}
	}
	r->busy += now() - start;
	return r->error[0] == '\0';
}

static bool fetch_queues(struct run *r)
{
	unsigned q;

	for (q = 0; q < r->nlanes; q++) {
		r->lanes[q].rx = vuser_rx_queue(r->dev, (uint16_t)q);
		r->lanes[q].tx = vuser_tx_queue(r->dev, (uint16_t)q);
		if (r->lanes[q].rx == NULL || r->lanes[q].tx == NULL)
			return wrong(r, "a queue that was set up is not there");
	}
	return true;
}

static bool start(struct run *r)
{
	enter("starting the device", &r->o);
	return vuser_dev_start(r->dev) == 0 ? fetch_queues(r) : failed(r, "vuser_dev_start");
}

/* After a stop every buffer is home again, or it never will be. */
static void count_leaks(struct run *r)
{
	uint32_t home = vuser_pool_available(r->pool);

	if (home != r->pool_count)
		r->leaked += r->pool_count > home ? r->pool_count - home : home - r->pool_count;
}

static bool stop(struct run *r, bool reset)
{
	unsigned q;
	int rc;

	enter(reset ? "resetting the device" : "stopping the device", &r->o);
	rc = reset ? vuser_dev_reset(r->dev) : vuser_dev_stop(r->dev);
	if (rc != 0)
		return failed(r, reset ? "vuser_dev_reset" : "vuser_dev_stop");
	for (q = 0; q < r->nlanes; q++) {
		struct lane *l = &r->lanes[q];

		take_back(r, l);
		if (r->o.hot) {
			l->expected = l->floor = l->built;
			l->slots = 0;
		}
	}
	count_leaks(r);
	return true;
}

static bool wait_for_line(struct run *r)
{
	char line[64];

	fputs("hold\n", stderr);
	fflush(stderr);
	alarm(0); /* whoever holds us has a watchdog of his own; if he dies we read end of file */
	if (fgets(line, sizeof(line), stdin) == NULL)
		return wrong(r, "held, and nobody said go");
	return true;
}

static void set_targets(struct run *r, uint64_t frames)
{
	unsigned q;

	for (q = 0; q < r->nlanes; q++)
		r->lanes[q].target = frames / r->nlanes + (q < frames % r->nlanes);
}

static bool move_frames(struct run *r)
{
	unsigned legs = r->o.restarts + 1, i;

	if (r->o.hold || r->o.renegotiate) {
		set_targets(r, r->o.frames / 2);
		if (!leg(r, true))
			return false;
		if (r->o.hold && !wait_for_line(r))
			return false;
		if (r->o.renegotiate) {
			uint64_t features = vuser_dev_features(r->dev);

			if (!stop(r, true))
				return false;
			if (vuser_dev_set_features(r->dev, features & ~r->o.remove) != 0)
				return failed(r, "vuser_dev_set_features");
			if (!start(r))
				return false;
			if ((vuser_dev_features(r->dev) & r->o.remove) != 0)
				return wrong(r, "features taken away are still there");
		}
	}
	for (i = 1; i <= legs; i++) {
		uint64_t upto = r->o.frames / legs * i + (i == legs ? r->o.frames % legs : 0);

		set_targets(r, upto);
		if (!leg(r, i == legs || !r->o.hot))
			return false;
		if (i < legs && !(stop(r, false) && start(r)))
			return false;
	}
	return true;
}

static bool check_info(struct run *r, struct vuser_dev_info *info)
{
	char text[160];

	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	if (vuser_dev_get_info(r->dev, info) != 0)
		return failed(r, "vuser_dev_get_info");
	if (r->o.expect_layout != NULL && strcmp(r->o.expect_layout, info->packed ? "packed" : "split") != 0)
		return wrong(r, info->packed ? "the layout is packed" : "the layout is split");
	if (info->packed != ((info->features & F_RING_PACKED) != 0))
		return wrong(r, "the layout and the feature bit do not agree");
	if ((info->features & r->o.expect) != r->o.expect || (info->features & r->o.forbid) != 0) {
		snprintf(text, sizeof(text),
			 "features 0x%" PRIx64 ": missing 0x%" PRIx64 ", unwanted 0x%" PRIx64, info->features,
			 r->o.expect & ~info->features, info->features & r->o.forbid);
		return wrong(r, text);
	}
	return true;
}

static bool open_device(struct run *r, struct vuser_dev_info *info)
{
	struct vuser_pool_config pc = { 0 };
	unsigned size, q;

	vuser_config_init(&r->config, sizeof(r->config));
	if (vuser_config_parse(&r->config, r->o.devargs) != 0)
		return failed(r, "vuser_config_parse");
	if (r->o.queues != 0)
		r->config.queues = (uint16_t)r->o.queues;
	if (r->o.queue_size != 0)
		r->config.queue_size = (uint16_t)r->o.queue_size;
	size = r->config.queue_size;
	r->nlanes = r->config.queues;
	if (r->nlanes == 0 || r->nlanes > MAX_QUEUES)
		return wrong(r, "1 to 16 queues");
	r->window = r->o.window ? r->o.window : size / 2;

	pc.size = sizeof(pc);
	pc.data_size = (uint16_t)(r->o.data_size ? r->o.data_size : 2176);
	pc.headroom = 128;
	pc.no_huge = !r->config.huge;
	if (pc.data_size < pc.headroom + 64)
		return wrong(r, "--data-size: 192 or more");
	r->room = pc.data_size - pc.headroom;
	/* Both rings full, frames in hand, and the mbufs of the chains that wait to be taken. */
	pc.count = r->nlanes * (2 * size + 2 * MAX_BURST + MAX_BURST * (MAX_FRAME / r->room + 1) / 4) + 256;
	r->pool_count = pc.count;
	enter("making the pool", &r->o);
	if (vuser_pool_create(&pc, &r->pool) != 0)
		return failed(r, "vuser_pool_create");
	r->pool_count = vuser_pool_available(r->pool);
	if (r->pool_count < pc.count)
		return wrong(r, "the pool is smaller than asked for");

	enter("connecting", &r->o);
	if (vuser_dev_init(&r->config, &r->dev) != 0)
		return failed(r, "vuser_dev_init");
	for (q = 0; q < r->nlanes; q++) {
		r->lanes[q].seen = calloc(SEEN / 64, 8);
		if (r->lanes[q].seen == NULL)
			return wrong(r, "out of memory");
		if (vuser_rx_queue_setup(r->dev, (uint16_t)q, 0, r->pool) != 0)
			return failed(r, "vuser_rx_queue_setup");
		if (vuser_tx_queue_setup(r->dev, (uint16_t)q, 0, r->pool) != 0)
			return failed(r, "vuser_tx_queue_setup");
	}
	return start(r) && check_info(r, info);
}

static uint64_t hugetlb_kb(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	uint64_t kb = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "HugetlbPages: %" SCNu64, &kb) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return kb;
}

static void queue_totals(struct run *r, uint64_t *rx, uint64_t *tx)
{
	struct vuser_queue_stats s;
	unsigned q;

	*rx = *tx = 0;
	for (q = 0; q < r->nlanes; q++) {
		memset(&s, 0, sizeof(s));
		s.size = sizeof(s);
		if (r->lanes[q].rx != NULL && vuser_queue_get_stats(r->lanes[q].rx, &s) == 0)
			*rx += s.packets;
		memset(&s, 0, sizeof(s));
		s.size = sizeof(s);
		if (r->lanes[q].tx != NULL && vuser_queue_get_stats(r->lanes[q].tx, &s) == 0)
			*tx += s.packets;
	}
}

static void print_text(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			putchar('\\');
		putchar((unsigned char)*text < ' ' ? ' ' : *text);
	}
	putchar('"');
}

static void on_log(int level, const char *message, void *ctx)
{
	(void)ctx;
	fprintf(stderr, "vuser<%d> %s\n", level, message);
}

/* The result, and whether it is a good one. */
static bool report(struct run *r, const struct vuser_dev_info *info, uint64_t huge)
{
	uint64_t sent = 0, received = 0, corrupt = 0, reordered = 0, duplicate = 0, late = 0, lost;
	uint64_t stat_rx, stat_tx, features = r->dev ? vuser_dev_features(r->dev) : 0;
	unsigned q;
	bool good;

	for (q = 0; q < r->nlanes; q++) {
		const struct lane *l = &r->lanes[q];

		sent += l->taken;
		received += l->received;
		corrupt += l->corrupt;
		reordered += l->reordered;
		duplicate += l->duplicate;
		late += l->late;
	}
	queue_totals(r, &stat_rx, &stat_tx);
	lost = sent - received; /* unique frames only: never below 0 */
	good = r->error[0] == '\0' && corrupt + reordered + duplicate + r->leaked == 0 &&
	       (lost == 0 || r->o.hot) && sent == r->o.frames;
	printf("{\"ok\":%s,\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"corrupt\":%" PRIu64 ",\"lost\":%" PRIu64
	       ",\"reordered\":%" PRIu64 ",\"duplicate\":%" PRIu64 ",\"late\":%" PRIu64 ",\"leaked\":%" PRIu64,
	       good ? "true" : "false", sent, received, corrupt, lost, reordered, duplicate, late, r->leaked);
	printf(",\"stalled\":%s,\"seconds\":%.3f,\"mpps\":%.3f,\"max_gap_ms\":%.1f,\"wakes\":%" PRIu64,
	       r->stalled ? "true" : "false", r->busy, r->busy > 0 ? (double)received / r->busy / 1e6 : 0.0,
	       r->max_gap * 1e3, r->wakes);
	printf(",\"chains_sent\":%" PRIu64 ",\"chains_received\":%" PRIu64 ",\"stat_rx\":%" PRIu64
	       ",\"stat_tx\":%" PRIu64 ",\"hugetlb_kb\":%" PRIu64,
	       r->chains_sent, r->chains_received, stat_rx, stat_tx, huge);
	printf(",\"layout\":\"%s\",\"mergeable\":%s,\"in_order\":%s,\"features\":\"0x%" PRIx64
	       "\",\"device_features\":\"0x%" PRIx64 "\",\"queues\":%u,\"seed\":%" PRIu64 ",\"error\":",
	       (features & F_RING_PACKED) != 0 ? "packed" : "split", info->mergeable ? "true" : "false",
	       info->in_order ? "true" : "false", features, info->device_features, r->nlanes, r->o.seed);
	print_text(r->error);
	puts("}");
	return good;
}

int main(int argc, char **argv)
{
	static struct run r;
	struct vuser_dev_info info = { 0 };
	struct sigaction alarmed;
	uint64_t huge = 0;
	bool good;
	unsigned q;

	parse_options(&r.o, argc, argv);
	memset(&alarmed, 0, sizeof(alarmed));
	alarmed.sa_handler = on_alarm;
	sigaction(SIGALRM, &alarmed, NULL);
	if (!r.o.seeded) {
		struct timespec t;

		clock_gettime(CLOCK_REALTIME, &t);
		r.o.seed = mix((uint64_t)t.tv_sec * 1000000007u + (uint64_t)t.tv_nsec) ^ (uint64_t)getpid();
	}
	r.random = mix(r.o.seed + 1);
	if (r.o.verbose)
		vuser_set_log(4, on_log, NULL);

	if (open_device(&r, &info)) {
		huge = hugetlb_kb();
		if (move_frames(&r))
			stop(&r, false);
	}
	good = report(&r, &info, huge);
	fflush(stdout);

	enter("closing the device", &r.o);
	for (q = 0; q < r.nlanes; q++) {
		take_back(&r, &r.lanes[q]);
		free(r.lanes[q].seen);
	}
	if (r.dev != NULL)
		vuser_dev_uninit(r.dev);
	if (r.pool != NULL)
		vuser_pool_free(r.pool);
	return good ? 0 : 1;
}
