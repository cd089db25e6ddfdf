/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * What the example programs have in common: opening a device, saying what it is, a rate once a second,
 * a clean end on Ctrl-C. Nothing here is part of the library; copy what you need.
 *
 * Define _POSIX_C_SOURCE 200809L before including it.
 */
#ifndef VUSER_EXAMPLES_COMMON_H
#define VUSER_EXAMPLES_COMMON_H

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vuser.h"

#ifndef BURST
#define BURST     32 /* frames per call: enough to spread the cost of a call, few enough to stay in cache */
#endif
#define MAX_PAIRS 64

/* ---- the end ---- */

static volatile sig_atomic_t stopping;

static inline void on_signal(int signal_number)
{
	(void)signal_number;
	stopping = 1;
}

/* The first Ctrl-C ends the loop, so that the device is stopped properly; a second one kills. */
static inline void catch_signals(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = on_signal;
	action.sa_flags = (int)SA_RESETHAND;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

/* For mistakes on the command line. */
static inline void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

/* Every control call of the library returns 0 or a negative errno, and has a sentence about it. */
static inline void check(int rc, const char *what)
{
	if (rc == 0)
		return;
	fprintf(stderr, "%s: %s (%s)\n", what, vuser_last_error(), strerror(-rc));
	exit(1);
}

static inline uint64_t parse_number(const char *text, uint64_t min, uint64_t max, const char *option)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno != 0 || end == text || *end != '\0' || *text == '-' || value < min || value > max)
		die("%s %s: a number from %" PRIu64 " to %" PRIu64 " is expected", option, text, min, max);
	return value;
}

/* ---- time ---- */

static inline double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline void sleep_seconds(double seconds)
{
	struct timespec t;

	t.tv_sec = (time_t)seconds;
	t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
	nanosleep(&t, NULL); /* a signal ends it early, as it should */
}

/* ---- a device with all its queues ---- */

struct port {
	struct vuser_dev *dev;
	unsigned pairs;
	struct vuser_queue *rx[MAX_PAIRS], *tx[MAX_PAIRS];
};

static inline struct vuser_config read_devargs(const char *devargs)
{
	struct vuser_config config;

	vuser_config_init(&config, sizeof(config));
	check(vuser_config_parse(&config, devargs), devargs);
	if (config.queues == 0 || config.queues > MAX_PAIRS)
		die("%s: the examples take 1 to %d queue pairs", devargs, MAX_PAIRS);
	return config;
}

/*
 * Buffers for `ports` devices like this one. Receive and transmit rings can hold one buffer per
 * descriptor each; on top of that come the bursts that the program has in its hands.
 * Frames go from one device to another without a copy only if both know the memory they are in: use one
 * pool for all devices that exchange frames.
 */
static inline struct vuser_pool *make_pool(const struct vuser_config *config, unsigned ports)
{
	struct vuser_pool_config pc;
	struct vuser_pool *pool;

	memset(&pc, 0, sizeof(pc));
	pc.size = sizeof(pc);
	pc.count = ports * config->queues * (2u * config->queue_size + 4 * BURST);
	pc.data_size = 2176; /* a whole Ethernet frame and 128 bytes to put headers before it */
	pc.headroom = 128;
	pc.no_huge = !config->huge;
	check(vuser_pool_create(&pc, &pool), "packet buffers");
	return pool;
}

/* Connects, sets every queue pair up and starts the device. */
static inline void open_port(struct port *port, const struct vuser_config *config, struct vuser_pool *pool)
{
	unsigned i;

	memset(port, 0, sizeof(*port));
	check(vuser_dev_init(config, &port->dev), config->path);
	port->pairs = config->queues;
	for (i = 0; i < port->pairs; i++) {
		check(vuser_rx_queue_setup(port->dev, (uint16_t)i, 0, pool), "receive queue");
		check(vuser_tx_queue_setup(port->dev, (uint16_t)i, 0, pool), "transmit queue");
	}
	check(vuser_dev_start(port->dev), config->path);
	for (i = 0; i < port->pairs; i++) {
		port->rx[i] = vuser_rx_queue(port->dev, (uint16_t)i);
		port->tx[i] = vuser_tx_queue(port->dev, (uint16_t)i);
	}
}

/* All buffers in the rings go back to their pool; free the pool after that. */
static inline void close_port(struct port *port)
{
	check(vuser_dev_stop(port->dev), "stop");
	vuser_dev_uninit(port->dev);
}

/* A queue that the other side broke moves nothing for ever; say so instead of showing zeroes. */
static inline bool port_works(const struct port *port)
{
	unsigned i;

	for (i = 0; i < port->pairs; i++) {
		int rx = vuser_queue_status(port->rx[i]), tx = vuser_queue_status(port->tx[i]);

		if (rx != 0 || tx != 0) {
			fprintf(stderr, "queue pair %u stopped working: %s\n", i, strerror(rx != 0 ? -rx : -tx));
			return false;
		}
	}
	return true;
}

static inline void print_port(const char *name, const struct port *port)
{
	struct vuser_feature feature;
	struct vuser_dev_info info;
	unsigned i;

	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	check(vuser_dev_get_info(port->dev, &info), "information about the device");
	printf("%s: %s, %s ring%s%s, %u queue pair%s of %u descriptors\n", name, info.backend,
	       info.packed ? "packed" : "split", info.in_order ? ", in order" : "",
	       info.mergeable ? ", mergeable buffers" : "", info.queue_pairs, info.queue_pairs == 1 ? "" : "s",
	       info.queue_size);
	printf("%s: MAC %02x:%02x:%02x:%02x:%02x:%02x, MTU %u, link %s", name, info.mac[0], info.mac[1],
	       info.mac[2], info.mac[3], info.mac[4], info.mac[5], info.mtu, info.link_up ? "up" : "down");
	if (info.speed != UINT32_MAX)
		printf(", %" PRIu32 " Mb/s", info.speed);
	printf("\n%s: features 0x%" PRIx64 ":", name, info.features);
	memset(&feature, 0, sizeof(feature));
	feature.size = sizeof(feature);
	for (i = 0; vuser_dev_feature(port->dev, i, &feature) == 0; i++)
		if (feature.kind == VUSER_FEATURE_VIRTIO && (info.features >> feature.bit & 1) != 0)
			printf(" %s", feature.name);
	putchar('\n');
}

static inline void print_port_statistics(const char *name, const struct port *port)
{
	struct vuser_queue_stats rx, tx;
	unsigned i;

	for (i = 0; i < port->pairs; i++) {
		memset(&rx, 0, sizeof(rx));
		memset(&tx, 0, sizeof(tx));
		rx.size = tx.size = sizeof(rx);
		check(vuser_queue_get_stats(port->rx[i], &rx), "statistics");
		check(vuser_queue_get_stats(port->tx[i], &tx), "statistics");
		printf("%s, queue pair %u: received %" PRIu64 " frames, %" PRIu64 " bytes; sent %" PRIu64
		       " frames, %" PRIu64 " bytes\n", name, i, rx.packets, rx.bytes, tx.packets, tx.bytes);
	}
}

/* ---- a line per second ---- */

struct meter {
	double start, last, limit; /* limit: seconds to run, 0 for ever */
	uint64_t before;
	unsigned skip;
};

static inline void meter_start(struct meter *m, double limit)
{
	memset(m, 0, sizeof(*m));
	m->start = m->last = seconds_now();
	m->limit = limit;
	setvbuf(stdout, NULL, _IOLBF, 0); /* so that the lines are there when they are read through a pipe */
}

/* To be called once per round with the frames moved so far; false when the time is over. Looks at the
 * clock only now and then: a round may take less time than the question. */
static inline bool meter_tick(struct meter *m, uint64_t frames, const char *verb)
{
	double t;

	if (++m->skip % 64 != 0)
		return true;
	t = seconds_now();
	if (t - m->last >= 1) {
		printf("%4.0f s  %10.3f Mpps  %14" PRIu64 " frames %s\n", t - m->start,
		       (double)(frames - m->before) / (t - m->last) / 1e6, frames, verb);
		m->last = t;
		m->before = frames;
	}
	return m->limit == 0 || t - m->start < m->limit;
}

static inline void meter_total(const struct meter *m, uint64_t frames, const char *verb)
{
	double t = seconds_now() - m->start;

	printf("total: %" PRIu64 " frames %s in %.2f s, %.3f Mpps\n", frames, verb, t,
	       t > 0 ? (double)frames / t / 1e6 : 0.0);
}

#endif
