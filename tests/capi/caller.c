/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* What a caller does wrong ends the program with a sentence, in the library that watches its callers. Each is done in a
 * process of its own. Run with that library only: any other takes what it is given. */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static void freed_twice(void)
{
	struct vuser_mbuf *m = vuser_mbuf_alloc(make_pool(8));

	vuser_mbuf_free(m);
	vuser_mbuf_free(m);
}

static void freed_twice_at_once(void)
{
	struct vuser_mbuf *two[2];

	two[0] = two[1] = vuser_mbuf_alloc(make_pool(8));
	vuser_mbuf_free_bulk(two, 2);
}

static void freed_stranger(void)
{
	struct vuser_mbuf stranger;

	memset(&stranger, 0, sizeof(stranger));
	make_pool(8);
	vuser_mbuf_free(&stranger);
}

static void freed_aslant(void)
{
	vuser_mbuf_free((struct vuser_mbuf *)((char *)vuser_mbuf_alloc(make_pool(8)) + 8));
}

static void freed_circle(void)
{
	struct vuser_mbuf *m = vuser_mbuf_alloc(make_pool(8));

	CHECK(vuser_mbuf_chain(m, m) == 0);
	vuser_mbuf_free(m);
}

static void used_after_it_was_freed(void)
{
	struct vuser_mbuf *m = vuser_mbuf_alloc(make_pool(8));

	vuser_mbuf_free(m);
	vuser_mbuf_append(m, 60);
}

static void written_after_it_was_freed(void)
{
	struct vuser_pool *pool = make_pool(8);
	struct vuser_mbuf *m = make_frame(pool, 60, 0);
	uint8_t *data = (uint8_t *)vuser_mbuf_data(m);

	vuser_mbuf_free(m);
	data[7] = 1;
	vuser_mbuf_alloc(pool);
}

static void written_behind_its_end(void)
{
	struct vuser_mbuf *m = vuser_mbuf_alloc(make_pool(8));

	((uint8_t *)m->buf_addr)[m->buf_len] = 1;
	vuser_mbuf_free(m);
}

static void pool_freed_before_its_packets(void)
{
	struct vuser_pool *pool = make_pool(8);

	vuser_mbuf_alloc(pool);
	vuser_pool_free(pool);
}

static void pool_freed_twice(void)
{
	struct vuser_pool *pool = make_pool(8);

	vuser_pool_free(pool);
	vuser_pool_free(pool);
}

static void pool_used_after_it_was_freed(void)
{
	struct vuser_pool *pool = make_pool(8);

	vuser_pool_free(pool);
	vuser_mbuf_alloc(pool);
}

static struct rig started(const char *devargs)
{
	struct rig rig = rig_open(devargs);

	CHECK(vuser_dev_start(rig.dev) == 0);
	return rig;
}

static void sent_twice(void)
{
	struct rig rig = started("path=loopback");
	struct vuser_mbuf *m[2];

	m[0] = m[1] = make_frame(rig.pool, 60, 1);
	vuser_tx_burst(rig.tx, m, 2);
}

static void freed_after_it_was_sent(void)
{
	struct rig rig = started("path=loopback");
	struct vuser_mbuf *m = make_frame(rig.pool, 60, 1);

	CHECK(vuser_tx_burst(rig.tx, &m, 1) == 1);
	vuser_mbuf_free(m);
}

static void sent_stranger(void)
{
	struct vuser_mbuf stranger, *m = &stranger;

	memset(&stranger, 0, sizeof(stranger));
	vuser_tx_burst(started("path=loopback").tx, &m, 1);
}

static void sent_null(void)
{
	struct vuser_mbuf *m = NULL;

	vuser_tx_burst(started("path=loopback").tx, &m, 1);
}

static void burst_into_nothing(void)
{
	vuser_rx_burst(started("path=loopback").rx, NULL, 1);
}

static void burst_of_null(void)
{
	struct vuser_mbuf *m;

	vuser_rx_burst(NULL, &m, 1);
}

static void burst_of_what_is_no_queue(void)
{
	struct rig rig = started("path=loopback");
	struct vuser_mbuf *m;

	vuser_rx_burst((struct vuser_queue *)rig.dev, &m, 1);
}

static void burst_after_uninit(void)
{
	struct rig rig = started("path=loopback");
	struct vuser_mbuf *m;

	vuser_dev_uninit(rig.dev);
	vuser_rx_burst(rig.rx, &m, 1);
}

static void status_after_uninit(void)
{
	struct rig rig = started("path=loopback");

	vuser_dev_uninit(rig.dev);
	vuser_queue_status(rig.rx);
}

static void call_after_uninit(void)
{
	struct rig rig = started("path=loopback");

	vuser_dev_uninit(rig.dev);
	vuser_dev_stop(rig.dev);
}

static void uninit_twice(void)
{
	struct rig rig = started("path=loopback");

	vuser_dev_uninit(rig.dev);
	vuser_dev_uninit(rig.dev);
}

/* A queue with an allocator that, while a burst waits for it, does what it is told. */
static struct vuser_queue *shared;
static struct vuser_dev *owner;
static void (*meanwhile)(void);

static int get_bulk(void *ctx, struct vuser_mbuf **mbufs, unsigned n)
{
	if (meanwhile != NULL)
		meanwhile();
	return vuser_mbuf_alloc_bulk((struct vuser_pool *)ctx, mbufs, (uint16_t)n);
}

static void put_bulk(void *ctx, struct vuser_mbuf *const *mbufs, unsigned n)
{
	(void)ctx;
	vuser_mbuf_free_bulk(mbufs, (uint16_t)n);
}

static void free_one(void *ctx, struct vuser_mbuf *m)
{
	(void)ctx;
	vuser_mbuf_free(m);
}

static void share(void)
{
	struct vuser_mbuf_source source;

	memset(&source, 0, sizeof(source));
	source.size = sizeof(source);
	/* The ring has room for more buffers than there are: each burst asks for some. */
	source.ctx = make_pool(64);
	source.get_bulk = get_bulk;
	source.put_bulk = put_bulk;
	source.free = free_one;
	source.buf_len = 2176;
	source.headroom = 128;
	owner = make_dev("path=loopback,queue_size=128");
	CHECK(vuser_rx_queue_setup_source(owner, 0, 0, &source) == 0);
	CHECK(vuser_tx_queue_setup_source(owner, 0, 0, &source) == 0);
	shared = vuser_rx_queue(owner, 0);
	CHECK(vuser_dev_start(owner) == 0);
}

static void burst(void)
{
	struct vuser_mbuf *m;

	CHECK(vuser_rx_burst(shared, &m, 1) == 0);
}

static void *burst_in_thread(void *arg)
{
	burst();
	return arg;
}

static void burst_elsewhere(void)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, burst_in_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
}

static void uninit(void)
{
	vuser_dev_uninit(owner);
}

static void used_by_two_threads(void)
{
	share();
	meanwhile = burst_elsewhere;
	burst();
}

static void used_inside_of_itself(void)
{
	share();
	meanwhile = burst;
	burst();
}

static void uninit_under_a_burst(void)
{
	share();
	meanwhile = uninit;
	burst();
}

static void used_in_a_child(void)
{
	int status;
	pid_t pid;

	share();
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		burst();
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	abort();
}

/* Not wrong: a packet with two owners is sent and given up by both, a clone outlives what it is of, packets of another
 * allocator's are not looked at, and one thread may use a queue after another. */
/* The descriptors are its own, and their data are its parent's. */
static void free_in_a_child(void)
{
	struct vuser_pool *pool;
	struct vuser_mbuf *m;
	int status;
	pid_t pid;

	CHECK(vuser_pool_create(NULL, &pool) == 0);
	m = make_frame(pool, 60, 3);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		vuser_mbuf_free(m);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	check_frame(m, 60, 3);
	vuser_mbuf_free(m);
	vuser_pool_free(pool);
}

static void what_is_right(void)
{
	struct rig rig = started("path=loopback");
	struct vuser_mbuf *m[2], stranger, *other = &stranger;
	unsigned char data[256];

	m[0] = m[1] = make_frame(rig.pool, 60, 1);
	m[0]->refcnt = 2;
	CHECK(vuser_tx_burst(rig.tx, m, 2) == 2);
	vuser_mbuf_free(receive_one(rig.rx));
	m[0] = receive_one(rig.rx);
	m[1] = vuser_mbuf_clone(rig.pool, m[0]);
	CHECK(m[1] != NULL);
	vuser_mbuf_free(m[0]);
	check_frame(m[1], 60, 1);
	vuser_mbuf_free(m[1]);
	rig_close(&rig);
	free_in_a_child();
	share();
	burst_elsewhere();
	burst();
	memset(&stranger, 0, sizeof(stranger));
	stranger.buf_addr = data;
	stranger.buf_len = sizeof(data);
	stranger.refcnt = 1;
	stranger.nb_segs = 1;
	CHECK(vuser_mbuf_append(other, 60) == data && stranger.pkt_len == 60);
	vuser_dev_uninit(owner);
}

static const struct {
	const char *name;
	void (*error)(void);
	const char *says[2];
} errors[] = {
	{ "a packet given up twice", freed_twice, { "vuser_mbuf_free: the packet", "given up before" } },
	{ "the same, at once", freed_twice_at_once, { "vuser_mbuf_free_bulk: the packet", "given up before" } },
	{ "a packet of nobody given up", freed_stranger, { "vuser_mbuf_free: the packet", "of no pool" } },
	{ "a pointer into a packet given up", freed_aslant, { "vuser_mbuf_free: the packet", "of no pool" } },
	{ "a packet in a circle", freed_circle, { "vuser_mbuf_free: the segments", "circle" } },
	{ "a packet used after it was given up", used_after_it_was_freed, { "vuser_mbuf_append: the packet", "given up before" } },
	{ "written after it was given up", written_after_it_was_freed, { "to the free buffer", "gave up" } },
	{ "written behind a buffer", written_behind_its_end, { "behind the end of the buffer", "buf_len" } },
	{ "a pool given up before its packets", pool_freed_before_its_packets, { "vuser_pool_free: 1 of", "free all packets" } },
	{ "a pool given up twice", pool_freed_twice, { "vuser_pool_free:", "no pool that exists" } },
	{ "a pool used after it was given up", pool_used_after_it_was_freed, { "vuser_mbuf_alloc:", "no pool that exists" } },
	{ "a packet sent twice", sent_twice, { "vuser_tx_burst: the packet", "under way" } },
	{ "a packet given up after it was sent", freed_after_it_was_sent, { "vuser_mbuf_free: the packet", "" } },
	{ "a packet of nobody sent", sent_stranger, { "vuser_tx_burst: the packet", "of no pool" } },
	{ "NULL sent", sent_null, { "vuser_tx_burst: the packet", "NULL" } },
	{ "a burst into no array", burst_into_nothing, { "vuser_rx_burst:", "array for 1 packets is NULL" } },
	{ "a burst of NULL", burst_of_null, { "vuser_rx_burst:", "queue is NULL" } },
	{ "a burst of a device", burst_of_what_is_no_queue, { "vuser_rx_burst:", "no queue that exists" } },
	{ "a burst after uninit", burst_after_uninit, { "vuser_rx_burst:", "no queue that exists" } },
	{ "a status after uninit", status_after_uninit, { "vuser_queue_status:", "no queue that exists" } },
	{ "a control call after uninit", call_after_uninit, { "vuser_dev_stop:", "no dev that exists" } },
	{ "uninit twice", uninit_twice, { "vuser_dev_uninit:", "no dev that exists" } },
	{ "a queue used by two threads", used_by_two_threads, { "vuser_rx_burst: another thread is in vuser_rx_burst", "its own" } },
	{ "a queue used inside of itself", used_inside_of_itself, { "vuser_rx_burst: this thread is in vuser_rx_burst", "" } },
	{ "uninit under a burst", uninit_under_a_burst, { "vuser_dev_uninit: vuser_rx_burst is using", "end first" } },
	{ "a queue used in a child", used_in_a_child, { "vuser_rx_burst: the queue is of the process", "forked" } },
};

/* Runs it in a child, and what that said before it ended. */
static int run(void (*error)(void), char *said, size_t size)
{
	size_t len = 0;
	ssize_t n;
	int out[2], status;
	pid_t pid;

	CHECK(pipe(out) == 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		dup2(out[1], STDERR_FILENO);
		close(out[0]);
		close(out[1]);
		error();
		exit(0);
	}
	close(out[1]);
	while (len + 1 < size && (n = read(out[0], said + len, size - 1 - len)) > 0)
		len += (size_t)n;
	said[len] = '\0';
	close(out[0]);
	CHECK(waitpid(pid, &status, 0) == pid);
	return status;
}

int main(void)
{
	unsigned i, missed = 0;
	char said[2048];

	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		int status = run(errors[i].error, said, sizeof(said));

		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(said, "vuser: caller error: ") != NULL &&
		    strstr(said, errors[i].says[0]) != NULL && strstr(said, errors[i].says[1]) != NULL)
			continue;
		fprintf(stderr, "%s: status %#x, and it said: %s\n", errors[i].name, (unsigned)status, said);
		missed++;
	}
	CHECK(run(what_is_right, said, sizeof(said)) == 0 && said[0] == '\0');
	return missed != 0;
}
