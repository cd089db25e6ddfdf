/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * struct vuser_capture: what is in its file, and what becomes of it when things go wrong.
 *
 * With DEVARGS FILE N it sends N frames to a back-end that sends them back, and leaves the capture of that in FILE for
 * others to read.
 */
#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define DROP_LENGTH 1000

static char path[100];

static struct vuser_capture_config config_of(const char *file)
{
	struct vuser_capture_config config;

	memset(&config, 0, sizeof(config));
	config.size = sizeof(config);
	config.fd = -1;
	snprintf(config.path, sizeof(config.path), "%s", file);
	return config;
}

static struct vuser_capture *start(struct vuser_dev *dev, struct vuser_capture_config config)
{
	struct vuser_capture *capture = NULL;

	CHECK(vuser_capture_start(dev, &config, &capture) == 0 && capture != NULL);
	return capture;
}

static struct vuser_capture_stats stats_of(const struct vuser_capture *capture)
{
	struct vuser_capture_stats stats;

	memset(&stats, 0, sizeof(stats));
	stats.size = sizeof(stats);
	CHECK(vuser_capture_get_stats(capture, &stats) == 0);
	return stats;
}

/* Waits until the writer has seen this many frames. */
static struct vuser_capture_stats settle(const struct vuser_capture *capture, uint64_t frames)
{
	struct vuser_capture_stats stats;
	double end = seconds() + 60;

	do {
		stats = stats_of(capture);
		CHECK(seconds() < end);
	} while (stats.error == 0 && stats.written + stats.dropped < frames);
	return stats;
}

static uint16_t length_of(unsigned number)
{
	return (uint16_t)(60 + number * 37 % 1400);
}

/* A frame, each third of which is in three pieces. */
static struct vuser_mbuf *frame_of(struct vuser_pool *pool, unsigned number)
{
	uint16_t len = length_of(number), part = (uint16_t)(len / 3), at;
	struct vuser_mbuf *whole = make_frame(pool, len, number), *head = NULL;

	if (number % 3 != 0)
		return whole;
	for (at = 0; at < len; at = (uint16_t)(at + part)) {
		uint16_t n = len - at < 2 * part ? (uint16_t)(len - at) : part;
		struct vuser_mbuf *m = vuser_mbuf_alloc(pool);

		CHECK(m != NULL);
		memcpy(vuser_mbuf_append(m, n), (const uint8_t *)vuser_mbuf_data(whole) + at, n);
		if (head == NULL)
			head = m;
		else
			CHECK(vuser_mbuf_chain(head, m) == 0);
		if (n != part)
			break;
	}
	vuser_mbuf_free(whole);
	return head;
}

/* Sends frames to a device that sends them back, which they all have to do. */
static void exchange(struct vuser_pool *pool, struct vuser_queue *rx, struct vuser_queue *tx, unsigned from,
		     unsigned n)
{
	double end = seconds() + 20;
	unsigned i;

	for (i = from; i < from + n; i++) {
		struct vuser_mbuf *m = frame_of(pool, i);

		while (vuser_tx_burst(tx, &m, 1) == 0)
			CHECK(seconds() < end);
		m = receive_one(rx);
		check_frame(m, length_of(i), i);
		vuser_mbuf_free(m);
	}
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint32_t word(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* Reads a file as the specification of pcapng has it: frames that came and went, numbered from `from` on, all of them and in
 * their order, with times between two. */
static void check_file(const char *file, unsigned from, unsigned n, uint32_t snaplen, uint64_t begin, uint64_t end)
{
	static uint8_t bytes[1 << 22];
	FILE *f = fopen(file, "rb");
	unsigned count[2] = { from, from }, interfaces = 0, statistics = 0;
	uint64_t last = begin;
	size_t len, at;

	CHECK(f != NULL);
	len = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	CHECK(len < sizeof(bytes) && word(bytes) == 0x0a0d0d0a && word(bytes + 8) == 0x1a2b3c4d);
	for (at = 0; at < len; at += word(bytes + at + 4)) {
		const uint8_t *block = bytes + at, *data = block + 28;
		uint32_t size = word(block + 4), i, kept, which, number;
		uint64_t time;

		CHECK(size >= 12 && size % 4 == 0 && at + size <= len && word(block + size - 4) == size);
		interfaces += word(block) == 1;
		statistics += word(block) == 5;
		if (word(block) != 6)
			continue;
		which = word(block + 8);
		CHECK(which < 2 && interfaces == 2);
		number = count[which]++;
		time = (uint64_t)word(block + 12) << 32 | word(block + 16);
		CHECK(time >= last && time <= end);
		last = time;
		kept = word(block + 20);
		CHECK(word(block + 24) == length_of(number));
		CHECK(kept == (snaplen < length_of(number) ? snaplen : length_of(number)));
		for (i = 0; i < kept; i++)
			CHECK(data[i] == (i == 0 ? 2 : (uint8_t)(number * 7 + i)));
		/* The first option: which way it went. */
		data += (kept + 3) / 4 * 4;
		CHECK((word(data) == (4u << 16 | 2)) && word(data + 4) == (which == 0 ? 1u : 2u));
	}
	CHECK(at == len && interfaces == 2 && statistics == 2);
	CHECK(count[0] == from + n && count[1] == from + n);
}

static void frames_are_written_as_they_came_and_went(void)
{
	static const char *const devices[] = { "path=loopback", "path=loopback,packed_vq=1", "path=loopback,mrg_rxbuf=0" };
	static const uint32_t snaplens[] = { 0, 64, 100 };
	unsigned i;

	for (i = 0; i < 3; i++) {
		struct rig rig = rig_open(devices[i]);
		struct vuser_capture_config config = config_of(path);
		uint64_t begin = now_ns();
		struct vuser_capture *capture;
		struct vuser_capture_stats stats;

		config.snaplen = snaplens[i];
		capture = start(rig.dev, config);
		/* Not yet started, and started anew: it is the same capture. */
		CHECK(vuser_dev_start(rig.dev) == 0);
		exchange(rig.pool, rig.rx, rig.tx, 0, 150);
		CHECK(vuser_dev_stop(rig.dev) == 0 && vuser_dev_start(rig.dev) == 0);
		exchange(rig.pool, rig.rx, rig.tx, 150, 50);
		stats = settle(capture, 400);
		CHECK(stats.captured == 400 && stats.written == 400 && stats.dropped == 0 && stats.error == 0);
		CHECK(vuser_capture_stop(capture) == 0);
		check_file(path, 0, 200, snaplens[i] == 0 ? UINT32_MAX : snaplens[i], begin, now_ns());
		/* Nothing is captured any more, and another one can be. */
		exchange(rig.pool, rig.rx, rig.tx, 200, 10);
		check_file(path, 0, 200, snaplens[i] == 0 ? UINT32_MAX : snaplens[i], begin, now_ns());
		config.snaplen = 0;
		capture = start(rig.dev, config);
		exchange(rig.pool, rig.rx, rig.tx, 210, 10);
		/* A capture outlives its device. */
		rig_close(&rig);
		CHECK(vuser_capture_stop(capture) == 0);
		check_file(path, 210, 10, UINT32_MAX, begin, now_ns());
	}
}

static void bursts_that_copy_are_captured_too(void)
{
	struct rig rig = rig_open("path=loopback");
	struct vuser_capture *capture = start(rig.dev, config_of(path));
	uint8_t data[4 * 2048];
	uint32_t offsets[4], lengths[4], n = 0;
	uint64_t begin = now_ns();
	double end = seconds() + 60;
	unsigned i, k;

	CHECK(vuser_dev_start(rig.dev) == 0);
	for (i = 0; i < 4; i++) {
		offsets[i] = 2048 * i;
		lengths[i] = length_of(i);
		for (k = 0; k < lengths[i]; k++)
			data[offsets[i] + k] = k == 0 ? 2 : (uint8_t)(i * 7 + k);
	}
	CHECK(vuser_tx_burst_copy(rig.tx, data, sizeof(data), offsets, lengths, 4) == 4);
	while (n < 4) {
		n += vuser_rx_burst_copy(rig.rx, data, sizeof(data), offsets, lengths, 4);
		CHECK(seconds() < end);
	}
	CHECK(vuser_capture_stop(capture) == 0);
	check_file(path, 0, 4, UINT32_MAX, begin, now_ns());
	rig_close(&rig);
}

/* Of a frame that is given back in parts nothing whole is left to keep: it is counted, and those after it are kept. */
static void a_frame_that_is_given_back_in_parts_is_dropped(void)
{
	static uint8_t data[9200];
	uint32_t offsets[2] = { 0, 9000 }, lengths[2] = { 9000, 100 };
	struct vuser_capture_stats stats;
	struct vuser_capture *capture;
	struct vuser_frame frames[16];
	double end = seconds() + 60;
	struct rig rig = rig_open("path=loopback");
	uint16_t n = 0, first, rest;

	memset(data, 2, sizeof(data));
	CHECK(vuser_dev_start(rig.dev) == 0);
	capture = start(rig.dev, config_of(path));
	CHECK(vuser_tx_burst_copy(rig.tx, data, sizeof(data), offsets, lengths, 2) == 2);
	while (n == 0 || frames[n - 1].len != 100) {
		n = vuser_rx_peek(rig.rx, frames, 16);
		CHECK(seconds() < end);
	}
	for (first = 1; frames[first - 1].flags & VUSER_FRAME_MORE; first++)
		;
	CHECK(first > 2 && n == first + 1);
	/* Two sent, nothing received yet. */
	vuser_rx_release(rig.rx, 2);
	stats = stats_of(capture);
	CHECK(stats.captured == 2 && stats.dropped == 0);
	for (rest = 0; rest != first - 2; rest = vuser_rx_peek(rig.rx, frames, 16))
		CHECK(seconds() < end);
	vuser_rx_release(rig.rx, (uint16_t)(first - 2));
	stats = stats_of(capture);
	CHECK(stats.captured == 2 && stats.dropped == 1);
	while (vuser_rx_peek(rig.rx, frames, 16) != 1)
		CHECK(seconds() < end);
	vuser_rx_release(rig.rx, 1);
	stats = stats_of(capture);
	CHECK(stats.captured == 3 && stats.dropped == 1 && stats.bytes == 9000 + 100 + 100);
	CHECK(vuser_capture_stop(capture) == 0);
	rig_close(&rig);
}

static void a_capture_goes_on_with_the_next_back_end(void)
{
	struct vuser_loopback *back_end = NULL;
	struct vuser_capture *capture;
	char args[128], devargs[160];
	uint64_t begin = now_ns();
	double end = seconds() + 60;
	struct rig rig;

	snprintf(args, sizeof(args), "path=%s.sock", path);
	snprintf(devargs, sizeof(devargs), "%s,reconnect_ms=10", args);
	CHECK(vuser_loopback_start(args, &back_end) == 0);
	rig = rig_open(devargs);
	CHECK(vuser_dev_start(rig.dev) == 0);
	capture = start(rig.dev, config_of(path));
	exchange(rig.pool, rig.rx, rig.tx, 0, 20);
	vuser_loopback_stop(back_end);
	while (vuser_dev_link(rig.dev))
		CHECK(seconds() < end);
	CHECK(vuser_loopback_start(args, &back_end) == 0);
	while (!vuser_dev_link(rig.dev))
		CHECK(seconds() < end);
	exchange(rig.pool, rig.rx, rig.tx, 20, 20);
	CHECK(vuser_capture_stop(capture) == 0);
	check_file(path, 0, 40, UINT32_MAX, begin, now_ns());
	rig_close(&rig);
	vuser_loopback_stop(back_end);
}

static void wrong_calls_are_refused(void)
{
	struct rig rig = rig_open("path=loopback");
	struct vuser_dev *bare = make_dev("path=loopback");
	struct vuser_capture *capture = NULL, *second = NULL;
	struct vuser_capture_config config = config_of("");
	struct vuser_capture_stats stats;
	int status;
	pid_t child;

	REFUSED(EINVAL, "neither", vuser_capture_start(rig.dev, &config, &capture));
	config.fd = open("/dev/null", O_RDONLY);
	REFUSED(EBADF, "cannot be written", vuser_capture_start(rig.dev, &config, &capture));
	snprintf(config.path, sizeof(config.path), "%s", path);
	REFUSED(EINVAL, "both", vuser_capture_start(rig.dev, &config, &capture));
	close(config.fd);
	config = config_of("/no/such/directory/file");
	REFUSED(ENOENT, "/no/such/directory/file", vuser_capture_start(rig.dev, &config, &capture));
	memset(config.path, 'x', sizeof(config.path));
	REFUSED(EINVAL, "does not end", vuser_capture_start(rig.dev, &config, &capture));
	config = config_of("/dev/full");
	REFUSED(ENOSPC, "cannot be written", vuser_capture_start(rig.dev, &config, &capture));
	config = config_of(path);
	REFUSED(EINVAL, "no queue has been set up", vuser_capture_start(bare, &config, &capture));
	REFUSED(EINVAL, "capture is NULL", vuser_capture_start(rig.dev, &config, NULL));
	REFUSED(EINVAL, "config is NULL", vuser_capture_start(rig.dev, NULL, &capture));
	config.max_bytes = 100;
	REFUSED(EINVAL, "max_bytes=100", vuser_capture_start(rig.dev, &config, &capture));
	config.max_bytes = 0;
	config.frames = UINT32_MAX;
	REFUSED(EINVAL, "frames=", vuser_capture_start(rig.dev, &config, &capture));
	config.frames = 0;
	CHECK(capture == NULL && vuser_capture_stop(NULL) == 0);
	memset(&stats, 0, sizeof(stats));
	REFUSED(EINVAL, "capture is NULL", vuser_capture_get_stats(NULL, &stats));

	capture = start(rig.dev, config);
	REFUSED(EINVAL, "size", vuser_capture_get_stats(capture, &stats));
	REFUSED(EBUSY, "already", vuser_capture_start(rig.dev, &config, &second));
	/* A child has no say in it. */
	child = fork();
	if (child == 0)
		_exit(vuser_capture_stop(capture) == -ECHILD ? 0 : 1);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(vuser_dev_start(rig.dev) == 0);
	exchange(rig.pool, rig.rx, rig.tx, 0, 10);
	CHECK(vuser_capture_stop(capture) == 0);
	check_file(path, 0, 10, UINT32_MAX, 0, UINT64_MAX);
	vuser_dev_uninit(bare);
	rig_close(&rig);
}

/* Whole blocks to the last byte. */
static void check_blocks(const char *file, uint64_t frames, uint64_t size)
{
	static uint8_t bytes[1 << 22];
	FILE *f = fopen(file, "rb");
	uint64_t found = 0;
	size_t len, at;

	CHECK(f != NULL);
	len = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	for (at = 0; at < len; at += word(bytes + at + 4)) {
		CHECK(at + 12 <= len && word(bytes + at + 4) >= 12);
		found += word(bytes + at) == 6;
	}
	CHECK(at == len && len == size && found == frames);
}

static void a_file_has_its_limits(void)
{
	struct rig rig = rig_open("path=loopback");
	struct vuser_capture_config config = config_of(path);
	struct vuser_capture *capture;
	struct vuser_capture_stats stats;
	struct rlimit before, limit;

	CHECK(vuser_dev_start(rig.dev) == 0);
	config.max_bytes = 50000;
	capture = start(rig.dev, config);
	exchange(rig.pool, rig.rx, rig.tx, 0, 100);
	stats = settle(capture, 200);
	CHECK(stats.full == 1 && stats.error == 0 && stats.written > 0 && stats.dropped > 0);
	CHECK(stats.written + stats.dropped == 200);
	CHECK(vuser_capture_stop(capture) == 0);
	config.max_bytes = 0;
	{
		/* The statistics at the end are within the limit too. */
		FILE *f = fopen(path, "rb");

		CHECK(f != NULL && fseek(f, 0, SEEK_END) == 0 && ftell(f) > 45000 && ftell(f) <= 50000);
		check_blocks(path, stats.written, (uint64_t)ftell(f));
		fclose(f);
	}

	/* A limit that is not ours: as a disc that is full. */
	CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
	limit = before;
	limit.rlim_cur = 40001;
	signal(SIGXFSZ, SIG_IGN);
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	capture = start(rig.dev, config);
	exchange(rig.pool, rig.rx, rig.tx, 0, 200);
	stats = settle(capture, 400);
	CHECK(stats.error == -EFBIG && strstr(stats.why, "cannot be written") != NULL);
	CHECK(stats.written > 0 && stats.written + stats.dropped == 400);
	REFUSED(EFBIG, "cannot be written", vuser_capture_stop(capture));
	CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
	check_blocks(path, stats.written, stats.file_bytes);
	rig_close(&rig);
}

/* A pipe that nobody reads holds nobody up. */
static void a_reader_may_be_slow_or_gone(void)
{
	struct rig rig = rig_open("path=loopback,mode=sink");
	struct vuser_capture_config config = config_of("");
	struct vuser_capture *capture;
	struct vuser_capture_stats stats;
	unsigned sent = 0, i;
	double end = seconds() + 20;
	int ends[2];

	CHECK(vuser_dev_start(rig.dev) == 0 && pipe(ends) == 0);
	config.fd = ends[1];
	config.frames = 1;
	capture = start(rig.dev, config);
	close(ends[1]);
	/* More than the pipe, the writer and the room for frames can hold. */
	while (sent < 2000) {
		struct vuser_mbuf *burst[32];

		for (i = 0; i < 32; i++)
			burst[i] = make_frame(rig.pool, DROP_LENGTH, i);
		i = vuser_tx_burst(rig.tx, burst, 32);
		sent += i;
		vuser_mbuf_free_bulk(burst + i, (uint16_t)(32 - i));
		CHECK(seconds() < end);
	}
	stats = stats_of(capture);
	CHECK(stats.captured + stats.dropped == sent && stats.dropped > 0 && stats.error == 0);
	CHECK(stats.bytes == stats.captured * DROP_LENGTH);
	/* The reader goes: no signal comes to us, and the capture ends. */
	close(ends[0]);
	stats = settle(capture, UINT64_MAX);
	CHECK(stats.error == -EPIPE && stats.written + stats.dropped == sent);
	REFUSED(EPIPE, "cannot be written", vuser_capture_stop(capture));
	/* One that has gone before. */
	CHECK(pipe(ends) == 0 && close(ends[0]) == 0);
	config = config_of("");
	config.fd = ends[1];
	REFUSED(EPIPE, "cannot be written", vuser_capture_start(rig.dev, &config, &capture));
	close(ends[1]);
	rig_close(&rig);
}

static void leave_a_file(const char *devargs, const char *file, unsigned n)
{
	struct rig rig = rig_open(devargs);
	struct vuser_capture *capture;
	uint64_t begin = now_ns();

	CHECK(vuser_dev_start(rig.dev) == 0);
	capture = start(rig.dev, config_of(file));
	exchange(rig.pool, rig.rx, rig.tx, 0, n);
	CHECK(vuser_capture_stop(capture) == 0);
	check_file(file, 0, n, UINT32_MAX, begin, now_ns());
	printf("%" PRIu64 " %" PRIu64 "\n", begin, now_ns());
	rig_close(&rig);
}

int main(int argc, char **argv)
{
	if (argc == 4) {
		leave_a_file(argv[1], argv[2], (unsigned)strtoul(argv[3], NULL, 10));
		return 0;
	}
	snprintf(path, sizeof(path), "/tmp/vuser-capi-capture-%ld.pcapng", (long)getpid());
	frames_are_written_as_they_came_and_went();
	bursts_that_copy_are_captured_too();
	a_frame_that_is_given_back_in_parts_is_dropped();
	a_capture_goes_on_with_the_next_back_end();
	wrong_calls_are_refused();
	a_file_has_its_limits();
	a_reader_may_be_slow_or_gone();
	unlink(path);
	return 0;
}
