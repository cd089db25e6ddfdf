/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * switch: devices at the ports of one learning switch, which is somebody else's program.
 *
 *   switch --device ARGS --device ARGS --device ARGS [--frames N] [--hold]
 *
 * Learning first: a frame to an address that nobody has is seen at all other ports, one to an address that has sent
 * something at its port only. Then N frames from the first device to the second and N back, of which none may be
 * missing and none may show up at the third.
 *
 * With --hold, frames then go on until a line `end` comes on standard input, while somebody restarts the switch. On
 * standard output it says `down` when a device has lost its link, `up` when all have one and frames arrive again both ways.
 * What the switch had in its hands is lost, and there is nothing else: no frame twice, none damaged, none out of turn,
 * and afterwards all is as in the beginning, again with N frames.
 *
 * The last line is a JSON object. Exit status 0: all right.
 */
#define _POSIX_C_SOURCE 200809L

#include "peers.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_DEVICES 3
#define MAX_PAIRS 4
#define POOL 8192u
#define WAIT 10.0      /* Seconds for what has to come. */
#define PATIENCE 0.3   /* Seconds after which a frame is lost, while the switch may be restarted. */

struct device {
    const char *args;
    struct vuser_dev *dev;
    uint8_t address[6];
    unsigned pairs;
    uint64_t strays;    /* Frames for another device. */
};

struct bench {
    struct run run;
    struct device devices[MAX_DEVICES];
    unsigned n;
    struct flow *probes[MAX_DEVICES];  /* Broadcasts, one flow for each device ... */
    uint32_t probed[MAX_DEVICES];      /* ... and the devices that have seen the last of it. */
    struct flow *flows[2];             /* From the first to the second, and back. */
    unsigned window;
    uint64_t frames, floods, downs;
    bool hold;
};

static bool failed(struct bench *b, const char *what)
{
    return wrong(&b->run, "%s: %s", what, vuser_last_error());
}

/* Counts a frame where it was to go, or that it was seen elsewhere. */
static void accept_frame(struct bench *b, unsigned d, const struct vuser_mbuf *m)
{
    uint64_t number;
    struct flow *flow = flow_of(&b->run, m, &number);

    if (flow == NULL)
        return;
    for (unsigned k = 0; k < b->n; k++)
        if (flow == b->probes[k]) {
            b->probed[k] |= number == flow->taken - 1 ? 1u << d : 0;
            return;
        }
    if (memcmp(flow->to, b->devices[d].address, 6) == 0)
        flow_receive(flow, number);
    else
        b->devices[d].strays++;
}

static unsigned receive(struct bench *b)
{
    unsigned came = 0;

    for (unsigned d = 0; d < b->n; d++)
        for (unsigned q = 0; q < b->devices[d].pairs; q++) {
            struct vuser_mbuf *got[BURST];
            const unsigned n = vuser_rx_burst(vuser_rx_queue(b->devices[d].dev, (uint16_t)q), got, BURST);

            for (unsigned i = 0; i < n; i++)
                accept_frame(b, d, got[i]);
            vuser_mbuf_free_bulk(got, (uint16_t)n);
            came += n;
        }
    return came;
}

static bool open_devices(struct bench *b)
{
    const struct vuser_pool_config pool = { .size = sizeof(pool), .count = POOL, .no_huge = 1 };
    unsigned smallest = 32768;

    if (vuser_pool_create(&pool, &b->run.pool) != 0)
        return failed(b, "vuser_pool_create");
    for (unsigned d = 0; d < b->n; d++) {
        struct device *device = &b->devices[d];
        struct vuser_config config;

        watch("connecting", 60);
        vuser_config_init(&config, sizeof(config));
        if (vuser_config_parse(&config, device->args) != 0)
            return failed(b, "vuser_config_parse");
        if (!config.has_mac || config.queues > MAX_PAIRS)
            return wrong(&b->run, "--device %s: a mac, and at most %d queues", device->args, MAX_PAIRS);
        memcpy(device->address, config.mac, 6);
        device->pairs = config.queues;
        if (config.queue_size < smallest)
            smallest = config.queue_size;
        if (vuser_dev_init(&config, &device->dev) != 0)
            return failed(b, "vuser_dev_init");
        for (uint16_t q = 0; q < device->pairs; q++)
            if (vuser_rx_queue_setup(device->dev, q, 0, b->run.pool) != 0 ||
                vuser_tx_queue_setup(device->dev, q, 0, b->run.pool) != 0)
                return failed(b, "queue set-up");
        if (vuser_dev_start(device->dev) != 0)
            return failed(b, "vuser_dev_start");
    }
    b->window = smallest / 2;
    return true;
}

static bool all_up(const struct bench *b)
{
    for (unsigned d = 0; d < b->n; d++)
        if (vuser_dev_link(b->devices[d].dev) != 1)
            return false;
    return true;
}

/* One broadcast from a device, until all others have seen it: the switch keeps order, so that what was sent before has
 * been where it goes. A copy that a switch drops while it wakes up is sent again. */
static bool probe(struct bench *b, unsigned from)
{
    const uint32_t others = ((1u << b->n) - 1) & ~(1u << from);
    const double begin = now();
    double sent_at = 0;

    b->probed[from] = 0;
    while ((b->probed[from] & others) != others) {
        if (now() - begin > WAIT)
            return wrong(&b->run, "a broadcast from device %u was seen at the devices 0x%x only", from, b->probed[from]);
        if (now() - sent_at > 1) {
            sent_at = now();
            flow_write_off(b->probes[from], b->probes[from]->taken);
            if (flow_send(&b->run, b->probes[from], 1) != 1 && b->run.error[0] != '\0')
                return false;
        }
        if (receive(b) == 0)
            sched_yield();
    }
    if (b->probed[from] & (1u << from))
        return wrong(&b->run, "device %u got its own broadcast", from);
    flow_write_off(b->probes[from], b->probes[from]->taken);
    return true;
}

/* Exactly one frame, until it has come; then one broadcast to flush what else it may have become. */
static bool single(struct bench *b, struct flow *flow, unsigned from)
{
    const uint64_t number = flow->taken;
    const double begin = now();

    flow_write_off(flow, flow->taken);
    while (!flow_has(flow, number) || flow->taken == number) {
        if (flow->taken == number)
            flow_send(&b->run, flow, 1);
        if (now() - begin > WAIT)
            return wrong(&b->run, "a frame from device %u did not come", from);
        if (receive(b) == 0)
            sched_yield();
    }
    return probe(b, from);
}

/* A fresh switch: nobody has sent anything. */
static bool learn(struct bench *b)
{
    const uint64_t *const strays = &b->devices[b->n - 1].strays;
    const double begin = now();
    uint64_t before;

    watch("waiting for the switch to learn", 60);
    /* An address that nobody has: all others see it. What the first device sends is learned from. */
    if (!single(b, b->flows[0], 0))
        return false;
    if (b->n > 2 && *strays != 1)
        return wrong(&b->run, "a frame to an unknown address was seen %" PRIu64 " times at the third port", *strays);
    /* The answer goes to the first device only. */
    if (!single(b, b->flows[1], 1))
        return false;
    if (b->n > 2 && *strays != 1)
        return wrong(&b->run, "a frame to an address that is known was seen at the third port");
    /* Now both are known. A switch with a cache of decisions goes by the old one for a moment. */
    do {
        before = *strays;
        if (now() - begin > WAIT)
            return wrong(&b->run, "frames to an address that is known are still seen at the third port");
        if (!single(b, b->flows[0], 0))
            return false;
    } while (*strays != before);
    b->floods = *strays;
    return true;
}

static uint64_t missing_of(const struct flow *flow)
{
    return flow->taken - flow->received;
}

/* So many frames each way, of which none is missing and none is seen elsewhere. */
static bool exchange(struct bench *b)
{
    const uint64_t until[2] = { b->flows[0]->taken + b->frames, b->flows[1]->taken + b->frames };
    const uint64_t missing[2] = { missing_of(b->flows[0]), missing_of(b->flows[1]) };
    const uint64_t strays = b->devices[b->n - 1].strays;
    double last = now();
    bool all = false;

    watch("exchanging frames", 120);
    while (!all && b->run.error[0] == '\0') {
        unsigned moved = receive(b);

        all = true;
        for (unsigned k = 0; k < 2; k++) {
            struct flow *flow = b->flows[k];

            if (flow->taken < until[k])
                moved += flow_send(&b->run, flow, b->window);
            all &= flow->taken >= until[k] && missing_of(flow) == missing[k];
        }
        if (moved != 0)
            last = now();
        else if (now() - last > WAIT)
            return wrong(&b->run, "frames do not arrive: %" PRIu64 " and %" PRIu64 " are missing",
                         missing_of(b->flows[0]) - missing[0],
                         missing_of(b->flows[1]) - missing[1]);
        else
            sched_yield();
    }
    if (b->n > 2 && b->devices[b->n - 1].strays != strays)
        return wrong(&b->run, "frames of others were seen at the third port");
    return b->run.error[0] == '\0';
}

static void say(const char *word)
{
    puts(word);
    fflush(stdout);
}

static bool told_to_end(void)
{
    struct pollfd p = { .fd = 0, .events = POLLIN };
    char line[16];

    return poll(&p, 1, 0) > 0 && read(0, line, sizeof(line)) >= 0;
}

/* Frames go on whatever becomes of the switch. */
static bool go_on(struct bench *b)
{
    uint64_t since[2] = { 0, 0 };
    double last[2] = { now(), now() }, looked = now();
    bool up = true, flowing = true;

    say("flowing");
    while (b->run.error[0] == '\0') {
        const double t = now();
        unsigned moved = 0;

        for (unsigned k = 0; k < 2; k++) {
            struct flow *flow = b->flows[k];
            const uint64_t before = flow->received;

            moved += flow_send(&b->run, flow, b->window);
            moved += receive(b);
            if (flow->received != before || flow_under_way(flow) == 0)
                last[k] = t;
            /* With a switch that is there, and nothing coming for a while: what is under way is lost. */
            if (up && t - last[k] > PATIENCE) {
                flow_write_off(flow, flow->taken);
                last[k] = t;
            }
        }
        if (all_up(b) != up) {
            up = !up;
            flowing = false;
            since[0] = b->flows[0]->received;
            since[1] = b->flows[1]->received;
            b->downs += !up;
            if (!up)
                say("down");
        }
        if (up && !flowing && b->flows[0]->received > since[0] + 1000 && b->flows[1]->received > since[1] + 1000) {
            flowing = true;
            say("up");
        }
        if (t - looked > 0.01) {
            looked = t;
            watch("frames go on", 60);
            if (told_to_end())
                break;
        }
        if (moved == 0)
            sched_yield();
    }
    /* What is under way arrives. */
    for (double begin = now(); now() - begin < PATIENCE;)
        if (receive(b) != 0)
            begin = now();
        else
            sched_yield();
    for (unsigned k = 0; k < 2; k++)
        flow_take_back(b->flows[k]);
    return b->run.error[0] == '\0';
}

static void close_devices(struct bench *b)
{
    for (unsigned k = 0; k < b->run.nflows; k++)
        flow_take_back(&b->run.flows[k]);
    for (unsigned d = 0; d < b->n; d++) {
        watch("closing a device", 60);
        vuser_dev_uninit(b->devices[d].dev);
    }
}

static bool report(struct bench *b)
{
    struct vuser_dev_info info = { .size = sizeof(info) };
    uint64_t duplicate = 0, late = 0;
    uint32_t leaked = 0;
    bool good;

    for (unsigned k = 0; k < 2; k++) {
        duplicate += b->flows[k] == NULL ? 0 : b->flows[k]->duplicate;
        late += b->flows[k] == NULL ? 0 : b->flows[k]->late;
    }
    if (b->devices[0].dev == NULL || vuser_dev_get_info(b->devices[0].dev, &info) != 0)
        snprintf(info.path, sizeof(info.path), "none");
    close_devices(b);
    if (b->run.pool != NULL)
        leaked = POOL - vuser_pool_available(b->run.pool);
    good = b->run.error[0] == '\0' && b->run.corrupt + duplicate + late + leaked == 0;
    printf("{\"ok\":%s,\"path\":\"%s\",\"floods\":%" PRIu64 ",\"downs\":%" PRIu64, good ? "true" : "false",
           info.path, b->floods, b->downs);
    for (unsigned k = 0; k < 2 && b->flows[k] != NULL; k++)
        printf(",\"sent%u\":%" PRIu64 ",\"received%u\":%" PRIu64 ",\"lost%u\":%" PRIu64, k, b->flows[k]->taken, k,
               b->flows[k]->received, k, missing_of(b->flows[k]));
    printf(",\"strays\":%" PRIu64 ",\"corrupt\":%" PRIu64 ",\"duplicate\":%" PRIu64 ",\"late\":%" PRIu64
           ",\"leaked\":%" PRIu32 ",\"error\":", b->devices[b->n - 1].strays, b->run.corrupt, duplicate, late, leaked);
    print_text(b->run.error);
    puts("}");
    return good;
}

static bool parse(struct bench *b, int argc, char **argv)
{
    static const struct option options[] = {
        { "device", required_argument, NULL, 'd' }, { "frames", required_argument, NULL, 'f' },
        { "hold", no_argument, NULL, 'h' },         { NULL, 0, NULL, 0 },
    };
    int c;

    b->frames = 20000;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'd' && b->n < MAX_DEVICES)
            b->devices[b->n++].args = optarg;
        else if (c == 'f')
            b->frames = strtoull(optarg, NULL, 10);
        else if (c == 'h')
            b->hold = true;
        else
            return false;
    }
    return b->n >= 2 && optind == argc;
}

static bool go(struct bench *b)
{
    static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    uint8_t *const a0 = b->devices[0].address, *const a1 = b->devices[1].address;
    const double begin = now();

    if (!open_devices(b))
        return false;
    /* From addresses of their own, so that the switch does not learn the devices' from them. */
    for (unsigned d = 0; d < b->n; d++) {
        const uint8_t other[6] = { 0x02, 0, 0, 0, 0xff, (uint8_t)d };

        b->probes[d] = flow_add(&b->run, broadcast, other, vuser_tx_queue(b->devices[d].dev, 0));
    }
    b->flows[0] = flow_add(&b->run, a1, a0, vuser_tx_queue(b->devices[0].dev, (uint16_t)(b->devices[0].pairs - 1)));
    b->flows[1] = flow_add(&b->run, a0, a1, vuser_tx_queue(b->devices[1].dev, (uint16_t)(b->devices[1].pairs - 1)));
    watch("waiting for the links", 60);
    while (!all_up(b)) {
        if (now() - begin > 30)
            return wrong(&b->run, "no link after 30 seconds");
        sched_yield();
    }
    /* A switch needs a moment after it has said that it is there. */
    for (unsigned d = 0; d < b->n; d++)
        if (!probe(b, d))
            return false;
    if (!learn(b) || !exchange(b))
        return false;
    if (!b->hold)
        return true;
    return go_on(b) && probe(b, 0) && probe(b, 1) && exchange(b);
}

int main(int argc, char **argv)
{
    static struct bench b;
    bool good;

    if (!parse(&b, argc, argv)) {
        fprintf(stderr, "usage: switch --device ARGS --device ARGS [--device ARGS] [--frames N] [--hold]\n");
        return 2;
    }
    b.run.seed = mix((uint64_t)(now() * 1e9)) ^ (uint64_t)getpid();
    go(&b);
    good = report(&b);
    for (unsigned k = 0; k < b.run.nflows; k++)
        flow_free(&b.run.flows[k]);
    vuser_pool_free(b.run.pool);
    return good ? 0 : 1;
}
