/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * changes: keeps frames going round while something of the device changes, and checks what comes.
 *
 * The peer sends every frame back on the queue that it came from (DPDK's vhost in testpmd, "io" mode). A frame's bytes
 * are a function of its queue, its number and its length; those that come must come once, in order and undamaged.
 *
 * usage: changes DEVARGS SCENARIO ROUNDS
 *
 *   memory   a second thread registers memory while frames move; from then on they are sent from it and received
 *            into it, until its buffers are taken out of use again and it is unregistered
 *   queues   single queues are stopped and started, and wait at the start
 *   link     a second thread sets the link down and up while frames move
 *   pairs    the device is started with one and with two of its pairs, and with half a pair
 *
 * Prints one line of JSON. Exit status: 0 all right, 1 anything else wrong, 2 wrong usage.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vuser.h"

#define QUEUES   2u
#define BURST    32u
#define WINDOW   64u   /* frames of a queue on their way: the receive ring never runs dry */
#define BUFFER   2048u
#define HEADROOM 128u
#define BASE     1536u /* buffers that are always there: both rings of both queues, and some */
#define MORE     512u  /* buffers that come and go */
#define QUIET    0.3   /* seconds after which a frame does not come any more */
#define ETH      14u

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what, const char *why)
{
	printf("{\"ok\":false,\"error\":\"%s: %s\"}\n", what, why);
	exit(1);
}

static void check(int rc, const char *what)
{
	if (rc != 0)
		die(what, vuser_last_error());
}

/* ---------------------------------------------------------------- buffers of our own */

struct chunk {
	int fd;
	uint8_t *base;
	size_t size;
	struct vuser_mbuf *mbufs;
	unsigned count, home; /* buffers, and how many of them nobody uses */
	bool retired;         /* buffers that come home stay there */
	uint64_t sent, received;
};

static struct vuser_mbuf *stack[BASE + MORE];
static unsigned top;
static struct chunk base, more;

static void open_chunk(struct chunk *c, unsigned count)
{
	unsigned i;

	memset(c, 0, sizeof(*c));
	c->count = count;
	c->size = (size_t)count * BUFFER;
	c->fd = memfd_create("changes", MFD_CLOEXEC);
	if (c->fd < 0 || ftruncate(c->fd, (off_t)c->size) != 0)
		die("memfd", "no memory");
	c->base = mmap(NULL, c->size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (c->base == MAP_FAILED || posix_memalign((void **)&c->mbufs, 128, count * sizeof(*c->mbufs)) != 0)
		die("mmap", "no memory");
	memset(c->mbufs, 0, count * sizeof(*c->mbufs));
	for (i = 0; i < count; i++) {
		c->mbufs[i].buf_addr = c->base + (size_t)i * BUFFER;
		c->mbufs[i].buf_len = BUFFER;
		c->mbufs[i].data_off = HEADROOM;
		c->mbufs[i].refcnt = 1;
		c->mbufs[i].nb_segs = 1;
		c->mbufs[i].pool = c;
	}
	c->home = count;
}

static void close_chunk(struct chunk *c)
{
	munmap(c->base, c->size);
	close(c->fd);
	free(c->mbufs);
}

static struct chunk *chunk_of(const struct vuser_mbuf *m)
{
	return m >= more.mbufs && m < more.mbufs + more.count ? &more : &base;
}

static void use_chunk(struct chunk *c)
{
	for (c->home = 0; c->home < c->count; c->home++)
		stack[top++] = &c->mbufs[c->home];
}

/* No buffer of it is given out any more. */
static void retire_chunk(struct chunk *c)
{
	unsigned from, to = 0;

	c->home = 0;
	c->retired = true;
	for (from = 0; from < top; from++) {
		if (chunk_of(stack[from]) == c)
			c->home++;
		else
			stack[to++] = stack[from];
	}
	top = to;
}

static int get_bulk(void *ctx, struct vuser_mbuf **mbufs, unsigned n)
{
	(void)ctx;
	if (n > top)
		return -1;
	while (n-- > 0)
		mbufs[n] = stack[--top];
	return 0;
}

static void put_bulk(void *ctx, struct vuser_mbuf *const *mbufs, unsigned n)
{
	unsigned i;

	(void)ctx;
	for (i = 0; i < n; i++) {
		struct chunk *c = chunk_of(mbufs[i]);

		if (c->retired)
			c->home++;
		else
			stack[top++] = mbufs[i];
	}
}

static void give_up(void *ctx, struct vuser_mbuf *m)
{
	while (m != NULL) {
		struct vuser_mbuf *next = m->next;

		m->next = NULL;
		m->nb_segs = 1;
		put_bulk(ctx, &m, 1);
		m = next;
	}
}

/* ---------------------------------------------------------------- frames going round */

struct lane {
	struct vuser_queue *rx, *tx;
	uint64_t built, expected;
	double heard;
};

static struct vuser_dev *dev;
static struct lane lanes[QUEUES];
static unsigned nlanes = 1;
static uint64_t sent, received, lost, damaged, unordered;

static unsigned length_of(uint64_t number)
{
	return 60 + (unsigned)(number * 97 % 1400);
}

static uint8_t byte_of(unsigned queue, uint64_t number, unsigned at)
{
	return (uint8_t)(number * 131 + queue * 17 + at * 7 + (number >> 8));
}

static bool send_one(unsigned q)
{
	struct lane *l = &lanes[q];
	unsigned length = length_of(l->built), i;
	struct chunk *c;
	struct vuser_mbuf *m;
	uint8_t *data;

	if (get_bulk(NULL, &m, 1) != 0)
		return false;
	m->data_off = HEADROOM;
	m->data_len = (uint16_t)length;
	m->pkt_len = length;
	m->ol_flags = 0;
	data = vuser_mbuf_data(m);
	memset(data, 2, ETH);
	memcpy(data + ETH, &l->built, 8);
	for (i = ETH + 8; i < length; i++)
		data[i] = byte_of(q, l->built, i);
	c = chunk_of(m);
	if (vuser_tx_burst(l->tx, &m, 1) == 0) {
		put_bulk(NULL, &m, 1);
		return false;
	}
	c->sent++;
	sent++;
	if (l->built++ == l->expected)
		l->heard = now();
	return true;
}

static void receive(unsigned q)
{
	struct lane *l = &lanes[q];
	struct vuser_mbuf *got[BURST];
	unsigned n = vuser_rx_burst(l->rx, got, BURST), k, i;

	for (k = 0; k < n; k++) {
		const struct vuser_mbuf *m = got[k];
		const uint8_t *data = vuser_mbuf_data(m);
		uint64_t number;
		bool good;

		memcpy(&number, data + ETH, 8);
		good = m->nb_segs == 1 && m->data_len >= ETH + 8 && number < l->built && m->pkt_len == length_of(number);
		for (i = ETH + 8; good && i < m->data_len; i++)
			good = data[i] == byte_of(q, number, i);
		chunk_of(m)->received++;
		if (!good) {
			damaged++;
		} else if (number < l->expected) {
			unordered++;
		} else {
			lost += number - l->expected;
			l->expected = number + 1;
			received++;
		}
		l->heard = now();
		give_up(NULL, got[k]);
	}
}

/* Moves what can be moved. */
static void turn(bool send)
{
	unsigned q, i;

	for (q = 0; q < nlanes; q++) {
		for (i = 0; send && i < BURST && lanes[q].built - lanes[q].expected < WINDOW; i++)
			if (!send_one(q))
				break;
		receive(q);
		if (vuser_queue_status(lanes[q].rx) == -EIO || vuser_queue_status(lanes[q].tx) == -EIO)
			die("a queue broke", vuser_last_error());
	}
	sched_yield();
}

/* Whatever has not come for so long will not come. */
static void forget_lost(void)
{
	unsigned q;

	for (q = 0; q < nlanes; q++) {
		struct lane *l = &lanes[q];

		if (l->expected < l->built && now() - l->heard > QUIET) {
			lost += l->built - l->expected;
			l->expected = l->built;
		}
	}
}

static void move_frames(uint64_t frames)
{
	uint64_t end = received + frames;
	double deadline = now() + 20;

	while (received < end) {
		turn(true);
		forget_lost();
		if (now() > deadline)
			die("frames do not come back", "");
	}
}

/* Until everything that was sent is back or lost. */
static void settle(void)
{
	unsigned q;

	for (q = 0; q < nlanes;) {
		turn(false);
		forget_lost();
		q = lanes[q].expected == lanes[q].built ? q + 1 : 0;
	}
}

/* Asked from within a burst, while the other thread may be changing the memory. */
static int accepts(void *ctx, void *pool)
{
	const struct chunk *c = pool;

	(void)ctx;
	return vuser_mem_contains(dev, c->base, c->size);
}

static void set_up(unsigned pairs_of_rx, unsigned pairs_of_tx)
{
	struct vuser_mbuf_source source;
	unsigned q;

	memset(&source, 0, sizeof(source));
	source.size = sizeof(source);
	source.get_bulk = get_bulk;
	source.put_bulk = put_bulk;
	source.free = give_up;
	source.buf_len = BUFFER;
	source.headroom = HEADROOM;
	/* Frames are sent from either chunk: a queue that adapts. */
	source.accepts = accepts;
	for (q = 0; q < pairs_of_rx; q++)
		check(vuser_rx_queue_setup_source(dev, (uint16_t)q, 0, &source), "rx set-up");
	for (q = 0; q < pairs_of_tx; q++)
		check(vuser_tx_queue_setup_source(dev, (uint16_t)q, 0, &source), "tx set-up");
}

static void start(void)
{
	unsigned q;

	check(vuser_dev_start(dev), "start");
	for (q = 0; q < nlanes; q++) {
		lanes[q].rx = vuser_rx_queue(dev, (uint16_t)q);
		lanes[q].tx = vuser_tx_queue(dev, (uint16_t)q);
	}
}

/* ---------------------------------------------------------------- the second thread */

/* What the other thread is to do next, and what it has done: it is the caller of control calls, we of bursts. */
enum step { IDLE, ADD, ADDED, REMOVE, REMOVED, DOWN, IS_DOWN, UP, IS_UP, END };
static enum step step;

static enum step look(void)
{
	return __atomic_load_n(&step, __ATOMIC_ACQUIRE);
}

static void say(enum step next)
{
	__atomic_store_n(&step, next, __ATOMIC_RELEASE);
}

static void *control(void *arg)
{
	size_t half = (size_t)MORE / 2 * BUFFER;

	(void)arg;
	for (;;) {
		switch (look()) {
		case ADD:
			/* In two pieces that follow one another. */
			check(vuser_mem_register(dev, more.fd, 0, half, more.base), "register");
			check(vuser_mem_register(dev, more.fd, half, half, more.base + half), "register");
			say(ADDED);
			break;
		case REMOVE:
			check(vuser_mem_unregister(dev, more.base), "unregister");
			check(vuser_mem_unregister(dev, more.base + half), "unregister");
			say(REMOVED);
			break;
		case DOWN:
			check(vuser_dev_set_link(dev, 0), "link down");
			say(IS_DOWN);
			break;
		case UP:
			check(vuser_dev_set_link(dev, 1), "link up");
			say(IS_UP);
			break;
		case END:
			return NULL;
		default:
			usleep(100);
		}
	}
}

/* Has it done while frames move. */
static void have_done(enum step ask, enum step done)
{
	say(ask);
	while (look() != done) {
		turn(true);
		forget_lost();
	}
}

/* ---------------------------------------------------------------- scenarios */

static uint64_t more_sent, more_received;

static void change_memory(void)
{
	double deadline;

	open_chunk(&more, MORE);
	have_done(ADD, ADDED);
	use_chunk(&more);
	move_frames(2000);
	retire_chunk(&more);
	deadline = now() + 20;
	while (more.home < more.count) {
		unsigned q;

		turn(true);
		forget_lost();
		for (q = 0; q < nlanes; q++)
			vuser_tx_done_cleanup(lanes[q].tx, UINT16_MAX);
		if (now() > deadline)
			die("buffers do not come home", "");
	}
	have_done(REMOVE, REMOVED);
	move_frames(1000);
	more_sent += more.sent;
	more_received += more.received;
	close_chunk(&more);
	memset(&more, 0, sizeof(more));
}

static void change_queues(void)
{
	unsigned q;

	for (q = 0; q < nlanes; q++) {
		uint16_t pair = (uint16_t)q;
		uint64_t before;

		/* Under load: what is in the ring is sent or waits there. */
		move_frames(500);
		check(vuser_tx_queue_stop(dev, pair), "tx stop");
		before = lanes[q].built;
		turn(true);
		if (lanes[q].built != before)
			die("a stopped queue", "took a frame");
		check(vuser_tx_queue_start(dev, pair), "tx start");
		move_frames(500);
		settle();
		check(vuser_rx_queue_stop(dev, pair), "rx stop");
		check(vuser_rx_queue_start(dev, pair), "rx start");
	}
	move_frames(500);
	settle();
	/* Each waits at the start. */
	check(vuser_dev_stop(dev), "stop");
	for (q = 0; q < nlanes; q++) {
		check(vuser_rx_queue_stop(dev, (uint16_t)q), "rx shall wait");
		check(vuser_tx_queue_stop(dev, (uint16_t)q), "tx shall wait");
	}
	start();
	for (q = 0; q < nlanes; q++) {
		check(vuser_rx_queue_start(dev, (uint16_t)q), "rx start");
		check(vuser_tx_queue_start(dev, (uint16_t)q), "tx start");
	}
	move_frames(500);
	settle();
}

static void change_link(void)
{
	double end;

	move_frames(1000);
	have_done(DOWN, IS_DOWN);
	/* What was on its way may still come; then nothing does. */
	for (end = now() + 0.05; now() < end;)
		turn(true);
	if (vuser_dev_link(dev) != 0)
		die("link", "is up though it was set down");
	have_done(UP, IS_UP);
	if (vuser_dev_link(dev) != 1)
		die("link", "is down though it was set up");
	move_frames(1000);
}

static void change_pairs(void)
{
	static const unsigned pairs[] = { 1, 2, 1 };
	unsigned i;

	for (i = 0; i < 3; i++) {
		settle();
		check(vuser_dev_stop(dev), "stop");
		check(vuser_dev_set_queue_pairs(dev, (uint16_t)pairs[i]), "pairs");
		nlanes = pairs[i];
		start();
		move_frames(1000);
	}
	settle();
	check(vuser_dev_stop(dev), "stop");
	check(vuser_dev_set_queue_pairs(dev, 2), "pairs");
}

int main(int argc, char **argv)
{
	struct vuser_config config;
	pthread_t thread;
	bool good;
	unsigned long rounds;
	uint64_t may_be_lost;
	void (*scenario)(void);

	if (argc != 4)
		return 2;
	rounds = strtoul(argv[3], NULL, 10);
	scenario = strcmp(argv[2], "memory") == 0 ? change_memory
		 : strcmp(argv[2], "queues") == 0 ? change_queues
		 : strcmp(argv[2], "link") == 0	  ? change_link
		 : strcmp(argv[2], "pairs") == 0  ? change_pairs : NULL;
	if (scenario == NULL)
		return 2;
	/* A pause costs what the peer has in its hands, a burst a queue: there are four of them when memory comes in two
	 * pieces and goes, and what is sent to a link that is down may go lost altogether. */
	may_be_lost = scenario == change_memory ? rounds * 4 * QUEUES * BURST
		    : scenario == change_link	? rounds * QUEUES * WINDOW : 0;
	check(vuser_config_init(&config, sizeof(config)), "config");
	check(vuser_config_parse(&config, argv[1]), "config");
	check(vuser_dev_init(&config, &dev), "init");
	nlanes = config.queues;
	open_chunk(&base, BASE);
	use_chunk(&base);
	check(vuser_mem_register(dev, base.fd, 0, base.size, base.base), "register");
	/* In the last scenario the second pair has no transmit queue at first. */
	set_up(nlanes, scenario == change_pairs ? 1 : nlanes);
	if (scenario == change_pairs) {
		nlanes = 1;
		start();
		move_frames(1000);
		settle();
		check(vuser_dev_stop(dev), "stop");
		set_up(2, 2);
	}
	start();
	if (pthread_create(&thread, NULL, control, NULL) != 0)
		die("pthread_create", "no thread");
	while (rounds-- > 0) {
		scenario();
		if (scenario == change_pairs)
			start();
	}
	say(END);
	pthread_join(thread, NULL);
	settle();
	check(vuser_dev_stop(dev), "stop");
	good = damaged == 0 && unordered == 0 && top == BASE && lost <= may_be_lost &&
	       (scenario != change_memory || (more_sent > 0 && more_received > 0));
	printf("{\"ok\":%s,\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"damaged\":%" PRIu64
	       ",\"unordered\":%" PRIu64 ",\"missing\":%u,\"more_sent\":%" PRIu64 ",\"more_received\":%" PRIu64
	       ",\"error\":\"\"}\n",
	       good ? "true" : "false", sent, received, lost, damaged, unordered, BASE - top, more_sent, more_received);
	vuser_dev_uninit(dev);
	close_chunk(&base);
	return good ? 0 : 1;
}
