/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * front: the driver's side of a hostile device, by the C interface.
 *
 * For each line `SOCKET PACKED TIMEOUT_MS` of its standard input it lives one life of a device: makes it, sends numbered
 * frames and checks what comes back, calls all that talks to the back-end, gives it up. What fails is told, `refused SENTENCE` or
 * `broken SENTENCE`, and tried again, since the device lies once and is honest from then on. The last line of a life is
 *
 *   ok frames=N corrupt=N lost=N fds=N buffers=N slowest=MILLISECONDS
 *
 * or `stuck SENTENCE` when it never came to its end. fds: left open; buffers: missing; lost: connections.
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
/* More than any fault has lies. */
#define ATTEMPTS 12
/* Nobody who works needs longer for a few frames. */
#define FRAMES_WITHIN 5.0
#define UP_WITHIN 5.0
/* Frames that have not come by then were lost with a connection. */
#define LOST_AFTER 0.25
#define MEMORY (2u << 20)

struct front {
    struct run run;
    struct flow *flow;
    struct vuser_config config;
    struct vuser_dev *dev;
    struct vuser_queue *rx;
    double slowest, begin;
    void *memory;
    int fd;
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
    puts("broken a queue");
    return true;
}

static unsigned receive(struct front *f)
{
    struct vuser_mbuf *mbufs[BURST];
    const unsigned n = vuser_rx_burst(f->rx, mbufs, BURST);
    uint64_t number;

    for (unsigned k = 0; k < n; k++)
        if (flow_of(&f->run, mbufs[k], &number) != NULL)
            flow_receive(f->flow, number);
    vuser_mbuf_free_bulk(mbufs, (uint16_t)n);
    return n;
}

/* So many more frames there and back. */
static bool exchange(struct front *f, unsigned frames)
{
    const uint64_t wanted = f->flow->received + frames;
    double begin = now(), moved = begin;
    unsigned n;

    while (f->flow->received < wanted && f->run.corrupt == 0) {
        if (broken(f) && !restart(f))
            return false;
        n = flow_send(&f->run, f->flow, WINDOW) + receive(f);
        if (n > 0) {
            moved = now();
            continue;
        }
        if (now() - begin > FRAMES_WITHIN) {
            puts("refused no frames come any more");
            return false;
        }
        if (now() - moved > LOST_AFTER) {
            flow_write_off(f->flow, f->flow->taken);
            moved = now();
        }
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

static bool live(struct front *f)
{
    bool good;

    if (TIMED(f, vuser_dev_init(&f->config, &f->dev)) != 0)
        return failed("vuser_dev_init");
    good = queues(f) && start(f) && exchange(f, FRAMES);
    if (good) {
        everything(f);
        good = start(f) && exchange(f, FRAMES);
    }
    flow_take_back(f->flow);
    flow_write_off(f->flow, f->flow->taken);
    if (good)
        OPTIONAL(f, vuser_dev_stop, f->dev);
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

static void life(struct front *f, const char *path, int packed, int timeout)
{
    const unsigned fds = count_fds();
    const uint64_t frames = f->flow->received;
    uint64_t lost = 0;
    bool good = false;

    vuser_config_init(&f->config, sizeof(f->config));
    snprintf(f->config.path, sizeof(f->config.path), "%s", path);
    f->config.packed_vq = packed != 0;
    f->config.timeout_ms = (uint32_t)timeout;
    f->config.reconnect_ms = 20;
    f->slowest = 0;
    f->run.corrupt = 0;
    for (int n = 0; n < ATTEMPTS && !good; n++) {
        good = live(f);
        lost += reconnects(f);
        give_up(f);
        usleep(good ? 0 : 5000);
    }
    if (!good)
        printf("stuck after %d attempts\n", ATTEMPTS);
    else
        printf("ok frames=%llu corrupt=%llu lost=%llu fds=%d buffers=%d slowest=%.0f\n",
               (unsigned long long)(f->flow->received - frames), (unsigned long long)f->run.corrupt,
               (unsigned long long)lost, (int)(count_fds() - fds),
               (int)(POOL - vuser_pool_available(f->run.pool)), f->slowest * 1e3);
    fflush(stdout);
}

int main(void)
{
    static const uint8_t to[6] = { 2, 0, 0, 0, 0, 1 }, from[6] = { 2, 0, 0, 0, 0, 2 };
    const struct vuser_pool_config pool = { .size = sizeof(pool), .count = POOL, .no_huge = 1 };
    static struct front f;
    char path[256];
    int packed, timeout;

    f.run.seed = mix((uint64_t)getpid() << 32 ^ (uint64_t)(now() * 1e9));
    f.flow = flow_add(&f.run, to, from, NULL);
    f.fd = memfd_create("front", MFD_CLOEXEC);
    if (f.fd < 0 || ftruncate(f.fd, MEMORY) != 0 || vuser_pool_create(&pool, &f.run.pool) != 0)
        return 2;
    f.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0);
    if (f.memory == MAP_FAILED)
        return 2;
    while (scanf("%255s %d %d", path, &packed, &timeout) == 3)
        life(&f, path, packed, timeout);
    return 0;
}
