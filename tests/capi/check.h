/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* What the test programs have in common. Every one ends with 0, or says which line was wrong and why. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vuser.h"

#define CHECK(condition)                                                                                    \
	do {                                                                                                \
		if (!(condition)) {                                                                         \
			fprintf(stderr, "%s:%d: not so: %s\nlast error: %s\n", __FILE__, __LINE__, #condition, \
				vuser_last_error());                                                        \
			exit(1);                                                                            \
		}                                                                                           \
	} while (0)

/* A control call that has to fail with this errno, and a sentence in which there is this word. */
#define REFUSED(error, word, call)                                                                          \
	do {                                                                                                \
		int rc_ = (call);                                                                           \
		if (rc_ != -(error) || strstr(vuser_last_error(), (word)) == NULL) {                        \
			fprintf(stderr, "%s:%d: %s\ngives %d (%s), not %d (%s) with the word \"%s\"\n"      \
				"last error: %s\n", __FILE__, __LINE__, #call, rc_,                         \
				strerror(rc_ < 0 ? -rc_ : 0), -(error), strerror(error), (word),            \
				vuser_last_error());                                                        \
			exit(1);                                                                            \
		}                                                                                           \
	} while (0)

#define VERSION_1   (UINT64_C(1) << 32)
#define RING_PACKED (UINT64_C(1) << 34)
#define IN_ORDER    (UINT64_C(1) << 35)
#define MRG_RXBUF   (UINT64_C(1) << 15)

/* A device with one queue pair on the built-in back-end. */
struct rig {
	struct vuser_pool *pool;
	struct vuser_dev *dev;
	struct vuser_queue *rx, *tx;
};

#define RIG_BUFFERS 1024

static inline double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline struct vuser_pool *make_pool(uint32_t count)
{
	struct vuser_pool_config config;
	struct vuser_pool *pool = NULL;

	memset(&config, 0, sizeof(config));
	config.size = sizeof(config);
	config.count = count;
	config.no_huge = 1;
	CHECK(vuser_pool_create(&config, &pool) == 0 && pool != NULL);
	return pool;
}

static inline struct vuser_dev *make_dev(const char *devargs)
{
	struct vuser_config config;
	struct vuser_dev *dev = NULL;

	CHECK(vuser_config_init(&config, sizeof(config)) == 0);
	config.huge = 0;
	CHECK(vuser_config_parse(&config, devargs) == 0);
	CHECK(vuser_dev_init(&config, &dev) == 0 && dev != NULL);
	return dev;
}

/* All but the start. */
static inline struct rig rig_open(const char *devargs)
{
	struct rig rig;

	rig.pool = make_pool(RIG_BUFFERS);
	rig.dev = make_dev(devargs);
	CHECK(vuser_rx_queue_setup(rig.dev, 0, 0, rig.pool) == 0);
	CHECK(vuser_tx_queue_setup(rig.dev, 0, 0, rig.pool) == 0);
	rig.rx = vuser_rx_queue(rig.dev, 0);
	rig.tx = vuser_tx_queue(rig.dev, 0);
	CHECK(rig.rx != NULL && rig.tx != NULL);
	return rig;
}

/* Every buffer has to be back. */
static inline void rig_close(struct rig *rig)
{
	vuser_dev_uninit(rig->dev);
	CHECK(vuser_pool_available(rig->pool) == RIG_BUFFERS);
	vuser_pool_free(rig->pool);
}

/* A frame of this length in which each byte says where it is. */
static inline struct vuser_mbuf *make_frame(struct vuser_pool *pool, uint16_t len, unsigned number)
{
	struct vuser_mbuf *m = vuser_mbuf_alloc(pool);
	uint8_t *data;
	unsigned i;

	CHECK(m != NULL);
	data = (uint8_t *)vuser_mbuf_append(m, len);
	CHECK(data != NULL);
	for (i = 0; i < len; i++)
		data[i] = (uint8_t)(number * 7 + i);
	data[0] = 2; /* one station */
	return m;
}

static inline void check_frame(const struct vuser_mbuf *m, unsigned len, unsigned number)
{
	unsigned at = 0, i;

	CHECK(m->pkt_len == len);
	for (; m != NULL; m = m->next) {
		const uint8_t *data = (const uint8_t *)vuser_mbuf_data(m);

		for (i = 0; i < m->data_len; i++, at++)
			CHECK(data[i] == (at == 0 ? 2 : (uint8_t)(number * 7 + at)));
	}
	CHECK(at == len);
}

/* Receives one frame, which has to come within five seconds. */
static inline struct vuser_mbuf *receive_one(struct vuser_queue *rx)
{
	double end = seconds() + 60;
	struct vuser_mbuf *m = NULL;

	while (vuser_rx_burst(rx, &m, 1) == 0) {
		CHECK(seconds() < end);
		vuser_queue_wait(rx, 10);
	}
	return m;
}

#endif
