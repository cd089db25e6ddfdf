/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * front: the driver's side of a hostile device, by the C interface.
 *
 * For each line `SOCKET TIMEOUT_MS DEVARGS CONTENT PATIENCE_MS` of its standard input it lives one life of a device: makes it, sends
 * numbered frames and checks what comes back, gives it up. What fails is told, `refused SENTENCE`, `broken SENTENCE` or `stalled`,
 * and tried again, since the device lies once and is honest from then on. The last line of a life is
 *
 *   ok frames=N corrupt=N lost=N fds=N buffers=N uncounted=N slowest=MILLISECONDS
 *
 * or `stuck SENTENCE` when it never came to its end. fds: left open; buffers: missing; lost: connections; uncounted: frames that the
 * statistics do not have, or have too much.
 *
 * CONTENT `-`: the lie is one of the control path, and the life calls all that talks to the back-end. Else it is about the rings:
 * frames move until the file SOCKET.told says that it was told, and some more; CONTENT says what may be wrong with them. Without a
 * frame for PATIENCE_MS nothing moves any more. Then the device is stopped and started, and all has to be right.
 */
#define _GNU_SOURCE

#include "../peers/peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL 1024u
#define WINDOW 32u
#define FRAMES 48u
/* The transmit ring is looked at when half of it is in use. */
#define FRAMES_OF_RINGS 300u
/* More than any fault has lies. */
#define ATTEMPTS 12
/* Nobody who works needs longer for a few frames, or meets a lie later. */
#define FRAMES_WITHIN 5.0
#define TOLD_WITHIN 20.0
/* What is under way is there, or lost. */
#define SETTLED_WITHIN 5.0
#define UP_WITHIN 5.0
/* Frames that have not come by then were lost with a connection. */
#define LOST_AFTER 0.25
#define MEMORY (2u << 20)

/* What may be wrong with frames because the device wrote it there (tests/hostile/data.rs): nothing; their length; all. */
enum content { WHOLE, LENGTH, FREE };

struct front {
    struct run run;
    struct flow *flow;
    struct vuser_config config;
    struct vuser_dev *dev;
    struct vuser_queue *rx;
    double slowest, begin;
    void *memory;
    int fd;
    enum content content;
    double patience;           /* 0: a lie of the control path. */
    char told[300];
    bool waits;                /* For the file of that name. */
    uint64_t handed, odd, uncounted; /* Frames handed out by bursts; buffers of those that are not as they were sent. */
    bool mended;               /* The device was started again. */
};

static void tell(const char *what, const char *call)
{
    printf("%s %s: %s\n", what, call, vuser_last_error());
}

/* What a call returned, with the time it took noted. */
#define TIMED(f, call) ((f)->begin = now(), timed(f, call))
static int timed(struct front *f, int rc)
{
    const double took = now() - f->begin;

    f->slowest = took > f->slowest ? took : f->slowest;
    return rc;
}

/* Calls that the device may do without are told when they fail, and no more. */
#define OPTIONAL(f, name, ...) optional(#name, TIMED(f, name(__VA_ARGS__)))
static void optional(const char *call, int rc)
{
    if (rc < 0 && rc != -ENOTSUP && rc != -ENOTCONN)
        tell("refused", call);
}

static bool failed(const char *call)
{
    tell("refused", call);
    return false;
}

static bool queues(struct front *f)
{
    if (vuser_rx_queue_setup(f->dev, 0, 0, f->run.pool) != 0 || vuser_tx_queue_setup(f->dev, 0, 0, f->run.pool) != 0)
        return failed("queue set-up");
    f->rx = vuser_rx_queue(f->dev, 0);
    f->flow->tx = vuser_tx_queue(f->dev, 0);
    return true;
}

static bool start(struct front *f)
{
    const double begin = now();

    if (TIMED(f, vuser_dev_start(f->dev)) != 0)
        return failed("vuser_dev_start");
    while (vuser_dev_link(f->dev) != 1) {
        if (now() - begin > UP_WITHIN) {
            puts("refused the link does not come up");
            return false;
        }
        usleep(500);
    }
    return true;
}

static bool restart(struct front *f)
{
    f->mended = true;
    if (TIMED(f, vuser_dev_stop(f->dev)) != 0)
        tell("refused", "vuser_dev_stop");
    flow_take_back(f->flow);
    flow_write_off(f->flow, f->flow->taken);
    return start(f);
}

static bool broken(struct front *f)
{
    if (vuser_queue_status(f->rx) != -EIO && vuser_queue_status(f->flow->tx) != -EIO)
        return false;
    printf("broken %s\n", vuser_last_error());
    return true;
}

/* Whether it lies within its buffers, and these are nobody else's. */
static bool sound(const struct vuser_mbuf *m)
{
    const uint32_t length = m->pkt_len;
    const unsigned segments = m->nb_segs;
    uint32_t bytes = 0;
    unsigned n = 0;

    for (; m != NULL && n <= segments; m = m->next, n++) {
        if (m->refcnt != 1 || (uint32_t)m->data_off + m->data_len > m->buf_len)
            return false;
        bytes += m->data_len;
    }
    return n == segments && bytes == length;
}

static void look_at(struct front *f, const struct vuser_mbuf *m)
{
    const uint64_t duplicate = f->flow->duplicate, corrupt = f->run.corrupt;
    uint64_t number;

    if (flow_of(&f->run, m, &number) != NULL)
        flow_receive(f->flow, number);
    else if (f->content == FREE || (f->content == LENGTH && flow_like(&f->run, m))) {
        f->run.corrupt--;
        f->odd += m->nb_segs;
    }
    /* What was sent once comes once, unless a connection was lost meanwhile. */
    if (f->patience > 0 && f->content == WHOLE)
        f->run.corrupt += f->flow->duplicate - duplicate;
    f->run.corrupt += !sound(m);
    if (f->run.corrupt != corrupt)
        printf("corrupt a frame of %u bytes in %u pieces%s\n", m->pkt_len, m->nb_segs, sound(m) ? "" : ", not sound");
}

static unsigned receive(struct front *f)
{
    struct vuser_mbuf *mbufs[BURST];
    const unsigned n = vuser_rx_burst(f->rx, mbufs, BURST);

    for (unsigned k = 0; k < n; k++)
        look_at(f, mbufs[k]);
    vuser_mbuf_free_bulk(mbufs, (uint16_t)n);
    f->handed += n;
    return n;
}

/* Whether the lie was told, or nobody waits for that. */
static bool told(struct front *f)
{
    f->waits = f->waits && access(f->told, F_OK) != 0;
    return !f->waits;
}

/* So many more frames there and back, after the lie was told. */
static bool exchange(struct front *f, unsigned frames)
{
    uint64_t wanted = UINT64_MAX;
    const double begin = now(), end = begin + (f->patience > 0 ? TOLD_WITHIN : FRAMES_WITHIN);
    double moved = begin, came = begin;
    unsigned sent, got;

    while (f->flow->received < wanted && f->run.corrupt == 0) {
        if (wanted == UINT64_MAX && told(f))
            wanted = f->flow->received + frames;
        if (broken(f)) {
            if (!restart(f))
                return false;
            came = now();
        }
        sent = flow_send(&f->run, f->flow, WINDOW);
        got = receive(f);
        if (sent + got > 0)
            moved = now();
        if (got > 0)
            came = moved;
        if (now() > end && (sent + got == 0 || wanted == UINT64_MAX)) {
            puts("refused no frames come any more");
            return false;
        }
        if (f->patience > 0 && now() - came > f->patience) {
            puts("stalled no frames come any more");
            if (!restart(f))
                return false;
            came = now();
        }
        if (now() - moved > LOST_AFTER) {
            flow_write_off(f->flow, f->flow->taken);
            moved = now();
        }
        if (sent + got == 0)
            usleep(50);
    }
    return true;
}

/* All that talks to the back-end of a running device. */
static void everything(struct front *f)
{
    static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 7 };
    struct vuser_dev_info info = { .size = sizeof(info) };
    uint8_t bits[MEMORY / 4096 / 8 + 8];

    OPTIONAL(f, vuser_dev_get_info, f->dev, &info);
    TIMED(f, vuser_dev_get_status(f->dev));
    OPTIONAL(f, vuser_dirty_log_start, f->dev);
    exchange(f, 4);
    OPTIONAL(f, vuser_mem_register, f->dev, f->fd, 0, MEMORY, f->memory);
    vuser_dirty_log_read(f->dev, f->memory, MEMORY, bits, sizeof(bits));
    OPTIONAL(f, vuser_mem_unregister, f->dev, f->memory);
    OPTIONAL(f, vuser_dirty_log_stop, f->dev);
    OPTIONAL(f, vuser_dev_set_mtu, f->dev, 1400);
    OPTIONAL(f, vuser_dev_announce, f->dev);
    OPTIONAL(f, vuser_dev_set_mac, f->dev, mac);
    OPTIONAL(f, vuser_dev_set_link, f->dev, 0);
    OPTIONAL(f, vuser_dev_set_link, f->dev, 1);
    OPTIONAL(f, vuser_rx_queue_stop, f->dev, 0);
    OPTIONAL(f, vuser_rx_queue_start, f->dev, 0);
    OPTIONAL(f, vuser_tx_queue_stop, f->dev, 0);
    OPTIONAL(f, vuser_tx_queue_start, f->dev, 0);
    OPTIONAL(f, vuser_dev_reset, f->dev);
}

/* Whether all frames since then that did not come are in the statistics: nothing was stopped meanwhile, and the device echoes all. */
static void settle(struct front *f, uint64_t taken, uint64_t received)
{
    struct vuser_queue_stats rx = { .size = sizeof(rx) };
    const double begin = now();
    uint64_t missing;

    do {
        receive(f);
        vuser_queue_get_stats(f->rx, &rx);
        missing = (f->flow->taken - taken) - (f->flow->received - received) - f->odd - rx.runt - rx.bad_header;
    } while (missing != 0 && now() - begin < SETTLED_WITHIN);
    f->uncounted += missing != 0;
    if (missing != 0)
        printf("uncounted %lld frames that did not come\n", (long long)missing);
}

/* Whether all that bursts took and gave is in the statistics. */
static void audit(struct front *f, uint64_t taken)
{
    struct vuser_queue_stats rx = { .size = sizeof(rx) }, tx = rx;
    uint64_t sent;

    if (vuser_queue_get_stats(f->rx, &rx) != 0 || vuser_queue_get_stats(f->flow->tx, &tx) != 0) {
        tell("refused", "vuser_queue_get_stats");
        return;
    }
    sent = tx.packets + tx.bad_packet + tx.bad_offload + tx.bad_address + tx.too_many_segments;
    f->uncounted += (rx.packets != f->handed) + (sent != taken);
    if (rx.packets != f->handed || sent != taken)
        printf("uncounted %llu of %llu received, %llu of %llu sent\n", (unsigned long long)rx.packets,
               (unsigned long long)f->handed, (unsigned long long)sent, (unsigned long long)taken);
}

static bool live(struct front *f, enum content content)
{
    const uint64_t taken = f->flow->taken, received = f->flow->received;
    bool good;

    f->handed = f->odd = 0;
    f->mended = false;
    f->content = content;
    if (TIMED(f, vuser_dev_init(&f->config, &f->dev)) != 0)
        return failed("vuser_dev_init");
    good = queues(f) && start(f) && exchange(f, f->patience > 0 ? FRAMES_OF_RINGS : FRAMES);
    if (good && f->patience > 0) {
        if (content != FREE && !f->mended)
            settle(f, taken, received);
        good = restart(f);
        f->content = WHOLE;
        good = good && exchange(f, FRAMES);
    } else if (good) {
        everything(f);
        good = start(f) && exchange(f, FRAMES);
    }
    flow_take_back(f->flow);
    flow_write_off(f->flow, f->flow->taken);
    if (good)
        OPTIONAL(f, vuser_dev_stop, f->dev);
    if (good && f->patience > 0)
        audit(f, f->flow->taken - taken);
    return good;
}

static uint64_t reconnects(struct front *f)
{
    struct vuser_dev_info info = { .size = sizeof(info) };

    return f->dev != NULL && vuser_dev_get_info(f->dev, &info) == 0 ? info.reconnects : 0;
}

static void give_up(struct front *f)
{
    f->begin = now();
    vuser_dev_uninit(f->dev);
    timed(f, 0);
    f->dev = NULL;
}

static void life(struct front *f, enum content content)
{
    const unsigned fds = count_fds();
    const uint64_t frames = f->flow->received;
    uint64_t lost = 0;
    bool good = false;

    f->slowest = 0;
    f->run.corrupt = f->uncounted = 0;
    f->waits = f->patience > 0;
    for (int n = 0; n < ATTEMPTS && !good; n++) {
        good = live(f, content);
        lost += reconnects(f);
        give_up(f);
        usleep(good ? 0 : 5000);
    }
    if (!good)
        printf("stuck after %d attempts\n", ATTEMPTS);
    else
        printf("ok frames=%llu corrupt=%llu lost=%llu fds=%d buffers=%d uncounted=%llu slowest=%.0f\n",
               (unsigned long long)(f->flow->received - frames), (unsigned long long)f->run.corrupt,
               (unsigned long long)lost, (int)(count_fds() - fds),
               (int)(POOL - vuser_pool_available(f->run.pool)), (unsigned long long)f->uncounted, f->slowest * 1e3);
    fflush(stdout);
}

/* What a life shall be; false at the end of all. */
static bool order(struct front *f, enum content *content)
{
    char path[256], devargs[256], what[16];
    int timeout, patience;

    if (scanf("%255s %d %255s %15s %d", path, &timeout, devargs, what, &patience) != 5)
        return false;
    vuser_config_init(&f->config, sizeof(f->config));
    snprintf(f->config.path, sizeof(f->config.path), "%s", path);
    snprintf(f->told, sizeof(f->told), "%s.told", path);
    if (vuser_config_parse(&f->config, devargs) != 0) {
        fprintf(stderr, "%s: %s\n", devargs, vuser_last_error());
        return false;
    }
    f->config.timeout_ms = (uint32_t)timeout;
    f->config.reconnect_ms = 20;
    f->patience = what[0] == '-' ? 0 : patience / 1e3;
    *content = what[0] == 'f' ? FREE : what[0] == 'l' ? LENGTH : WHOLE;
    return true;
}

int main(void)
{
    static const uint8_t to[6] = { 2, 0, 0, 0, 0, 1 }, from[6] = { 2, 0, 0, 0, 0, 2 };
    const struct vuser_pool_config pool = { .size = sizeof(pool), .count = POOL, .no_huge = 1 };
    static struct front f;
    enum content content;

    f.run.seed = mix((uint64_t)getpid() << 32 ^ (uint64_t)(now() * 1e9));
    f.flow = flow_add(&f.run, to, from, NULL);
    f.fd = memfd_create("front", MFD_CLOEXEC);
    if (f.fd < 0 || ftruncate(f.fd, MEMORY) != 0 || vuser_pool_create(&pool, &f.run.pool) != 0)
        return 2;
    f.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0);
    if (f.memory == MAP_FAILED)
        return 2;
    while (order(&f, &content))
        life(&f, content);
    return 0;
}
