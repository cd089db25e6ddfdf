/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * soak: a back-end that sends every frame back is killed again and again, and the frames are counted.
 *
 *   soak --devargs ARGS [--kills N] [--held N] [--log FILE] -- BACK-END ARGUMENT...
 *
 * The back-end, somebody else's program, is started by this one and killed by SIGKILL while frames move, in three ways by
 * turns: in the midst of it; when all frames are back in our receive rings, and not received; and when it has been stopped
 * for a while, so that the transmit rings are full of frames that it has not taken.
 *
 * What may then be missing, and no more: of a queue, the frames in the hands of a back-end that dies, up to --held, which
 * are the last that it marked used. Where those begin that it did not mark used, the library says: it counts what it sends
 * again. Of these, and of those that lie in our receive rings, none may be missing, none may come twice, all come in their
 * order. With resend=0 they are dropped, each counted, and none comes.
 *
 * The ledger is the last line, a JSON object. Exit status 0: it adds up.
 */
#define _GNU_SOURCE

#include "peers.h"

#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_PAIRS 4
#define MAX_KILLS 10000
#define POOL 8192u
#define UP_WITHIN 30.0   /* Seconds until a back-end that was started serves us. */
#define DOWN_WITHIN 15.0 /* Seconds until the death of one is noticed. */
#define BACK_WITHIN 10.0 /* Seconds until a frame that must come has come. */
#define SETTLED 3        /* Connections after which descriptors and mappings are as many as ever. */

/* What a death did to a queue, in numbers of frames. */
struct death {
    uint64_t taken;    /* The frames that the queue had taken; */
    uint64_t used;     /* the back-end had marked used those before this one. */
    bool none_held;    /* All of these were in our receive ring. */
};

struct lane {
    struct vuser_queue *rx, *tx;
    struct flow *flow;
    struct death *deaths;
    uint64_t resent, dropped;    /* As the library has counted so far. */
    uint64_t waiting;            /* Waited in the receive ring when the back-end was killed. */
};

struct bench {
    struct run run;
    const char *devargs;
    unsigned kills, held;
    struct vuser_config config;
    struct vuser_dev *dev;
    struct lane lanes[MAX_PAIRS];
    unsigned pairs, window, died;
    uint64_t random;
    struct child child;
    unsigned fds_before, fds, maps;   /* Descriptors and mappings: at first, and when settled. */
    int fds_grown, maps_grown;
    uint64_t in_hands, missing, unexpected;
    double down, up;             /* Longest times until a death and a birth were noticed. */
    char path[32];
};

static bool failed(struct bench *b, const char *what)
{
    return wrong(&b->run, "%s: %s", what, vuser_last_error());
}

static uint64_t chance(struct bench *b, uint64_t below)
{
    b->random = mix(b->random);
    return b->random % below;
}

static bool spawn(struct bench *b)
{
    /* Who was killed could not take his socket with him, and the next one can't bind there. */
    if (!b->config.server)
        unlink(b->config.path);
    return child_start(&b->run, &b->child);
}

/* ---------------------------------------------------------------- frames */

static unsigned receive(struct bench *b)
{
    unsigned came = 0;

    for (unsigned q = 0; q < b->pairs; q++) {
        struct vuser_mbuf *got[BURST];
        const unsigned n = vuser_rx_burst(b->lanes[q].rx, got, BURST);

        for (unsigned i = 0; i < n; i++) {
            uint64_t number;
            struct flow *flow = flow_of(&b->run, got[i], &number);

            if (flow == b->lanes[q].flow)
                flow_receive(flow, number);
            else if (flow != NULL)
                b->run.corrupt++; /* The right frame at the wrong queue. */
        }
        vuser_mbuf_free_bulk(got, (uint16_t)n);
        came += n;
    }
    return came;
}

static unsigned transmit(struct bench *b)
{
    unsigned sent = 0;

    for (unsigned q = 0; q < b->pairs; q++)
        sent += flow_send(&b->run, b->lanes[q].flow, b->window);
    return sent;
}

static bool turn_round(struct bench *b)
{
    if (transmit(b) + receive(b) == 0)
        sched_yield();
    return b->run.error[0] == '\0';
}

/* Until all have moved so many more frames, and then for a random time. */
static bool move(struct bench *b, uint64_t frames)
{
    uint64_t until[MAX_PAIRS];
    double begin = now(), end = 0;
    bool all = false;

    for (unsigned q = 0; q < b->pairs; q++)
        until[q] = b->lanes[q].flow->received + frames;
    while (!all) {
        if (!turn_round(b) || !child_lives(&b->run, &b->child))
            return false;
        all = true;
        for (unsigned q = 0; q < b->pairs; q++)
            all &= b->lanes[q].flow->received >= until[q];
        if (!all && now() - begin > BACK_WITHIN)
            return wrong(&b->run, "after %u deaths: no frames come back, though the link is up", b->died);
    }
    end = now() + (double)chance(b, 10000) / 1e6;
    while (now() < end)
        if (!turn_round(b))
            return false;
    return true;
}

/* ---------------------------------------------------------------- deaths */

static bool read_counters(struct bench *b, struct lane *lane, uint64_t *resent, uint64_t *dropped)
{
    struct vuser_queue_stats stats = { .size = sizeof(stats) };

    if (vuser_queue_get_stats(lane->tx, &stats) != 0)
        return failed(b, "vuser_queue_get_stats");
    *resent = stats.tx_resent - lane->resent;
    *dropped = stats.tx_dropped_on_reconnect - lane->dropped;
    lane->resent = stats.tx_resent;
    lane->dropped = stats.tx_dropped_on_reconnect;
    return true;
}

/* All that is under way comes to lie in our receive rings. */
static bool fill_receive_rings(struct bench *b)
{
    const double begin = now();
    bool all = false;

    while (!all) {
        transmit(b);
        all = true;
        for (unsigned q = 0; q < b->pairs; q++) {
            const int waiting = vuser_queue_count(b->lanes[q].rx);

            if (waiting < 0)
                return failed(b, "vuser_queue_count");
            b->lanes[q].waiting = (uint64_t)waiting;
            all &= b->lanes[q].waiting == flow_under_way(b->lanes[q].flow) &&
                flow_under_way(b->lanes[q].flow) == b->window;
        }
        if (now() - begin > BACK_WITHIN)
            return wrong(&b->run, "after %u deaths: frames under way do not come back", b->died);
        sched_yield();
    }
    return true;
}

/* The transmit rings are full of what the back-end has not taken. */
static bool fill_transmit_rings(struct bench *b)
{
    child_stop(&b->child);
    /* Frames that came back make room under the window for others. */
    while (receive(b) + transmit(b) > 0)
        ;
    return true;
}

/* Kills the back-end, and sends and receives until the link is down. */
static bool die(struct bench *b)
{
    const unsigned way = b->died % 3;
    double begin;

    if (way == 1 && !fill_receive_rings(b))
        return false;
    if (way == 2 && !fill_transmit_rings(b))
        return false;
    begin = now();
    child_kill(&b->child);
    while (vuser_dev_link(b->dev) == 1) {
        /* Frames that wait in the rings are left there for the next back-end's time. */
        if (way == 0)
            turn_round(b);
        if (now() - begin > DOWN_WITHIN)
            return wrong(&b->run, "the back-end was killed %.1f s ago, and the link is up", now() - begin);
    }
    if (now() - begin > b->down)
        b->down = now() - begin;
    for (unsigned q = 0; q < b->pairs; q++) {
        struct death *death = &b->lanes[q].deaths[b->died];

        death->taken = b->lanes[q].flow->taken;
        death->none_held = way == 1;
    }
    b->died++;
    return true;
}

/* The bursts go on while there is nobody: some turns take nothing and give what had been received. */
static bool wait_for_link(struct bench *b)
{
    const double begin = now();
    double first = 0;

    while (vuser_dev_link(b->dev) != 1) {
        unsigned taken = b->died % 2 == 0 ? transmit(b) : 0;

        if (b->died % 2 == 0)
            receive(b);
        /* The queues work a moment before the link is said to be up. */
        if (taken > 0 && first == 0)
            first = now();
        if (first != 0 && now() - first > 1)
            return wrong(&b->run, "after %u deaths: frames were taken while there was no back-end", b->died);
        if (!child_lives(&b->run, &b->child))
            return false;
        if (now() - begin > UP_WITHIN)
            return wrong(&b->run, "after %u deaths: no link %.0f s after the back-end was started", b->died, UP_WITHIN);
        sched_yield();
    }
    if (now() - begin > b->up)
        b->up = now() - begin;
    return true;
}

/* What the library did about the last death; from here on the flow waits for what it sent again, and no more. */
static bool take_stock(struct bench *b)
{
    for (unsigned q = 0; q < b->pairs && b->died > 0; q++) {
        struct lane *lane = &b->lanes[q];
        struct death *death = &lane->deaths[b->died - 1];
        uint64_t resent = 0, dropped = 0;

        if (!read_counters(b, lane, &resent, &dropped))
            return false;
        if (resent + dropped > death->taken)
            return wrong(&b->run, "more frames were sent again than were ever sent");
        if ((b->config.resend ? dropped : resent) != 0)
            return wrong(&b->run, "resend=%u, and %" PRIu64 " frames were sent again, %" PRIu64 " dropped",
                         b->config.resend, resent, dropped);
        death->used = death->taken - resent - dropped;
        flow_write_off(lane->flow, death->taken - resent);
    }
    return true;
}

/* ---------------------------------------------------------------- what is left */

static void census(struct bench *b)
{
    if (b->died <= SETTLED) {
        b->fds = count_fds();
        b->maps = count_maps(false);
        return;
    }
    b->fds_grown = (int)count_fds() - (int)b->fds;
    b->maps_grown = (int)count_maps(false) - (int)b->maps;
}

/* Each frame that has not come must have been in the hands of a back-end that died. */
static void audit(struct bench *b, struct lane *lane)
{
    uint64_t number = 0;

    for (unsigned k = 0; k < b->died; k++) {
        const struct death *death = &lane->deaths[k];
        uint64_t held = 0;

        for (; number < death->used; number++)
            if (!flow_has(lane->flow, number)) {
                held++;
                b->missing += death->none_held || number + b->held < death->used;
            }
        b->in_hands += held;
        /* Dropped with resend=0: these must not come. */
        if (!b->config.resend)
            for (; number < death->taken; number++)
                b->unexpected += flow_has(lane->flow, number);
    }
    for (; number < lane->flow->taken; number++)
        b->missing += !flow_has(lane->flow, number);
}

/* ---------------------------------------------------------------- a run */

static bool open_device(struct bench *b)
{
    const struct vuser_pool_config pool = { .size = sizeof(pool), .count = POOL, .no_huge = 1 };
    const double begin = now();

    vuser_config_init(&b->config, sizeof(b->config));
    if (vuser_config_parse(&b->config, b->devargs) != 0)
        return failed(b, "vuser_config_parse");
    b->pairs = b->config.queues;
    if (b->pairs > MAX_PAIRS)
        return wrong(&b->run, "at most %d queues", MAX_PAIRS);
    b->window = b->config.queue_size / 2;
    if (vuser_pool_create(&pool, &b->run.pool) != 0)
        return failed(b, "vuser_pool_create");
    if (!spawn(b))
        return false;
    b->fds_before = count_fds();
    watch("making the device", 60);
    /* Who connects has to wait until somebody listens. */
    while (vuser_dev_init(&b->config, &b->dev) != 0) {
        if (now() - begin > UP_WITHIN || b->config.server)
            return failed(b, "vuser_dev_init");
        if (!child_lives(&b->run, &b->child))
            return false;
        usleep(10000);
    }
    for (uint16_t q = 0; q < b->pairs; q++)
        if (vuser_rx_queue_setup(b->dev, q, 0, b->run.pool) != 0 ||
            vuser_tx_queue_setup(b->dev, q, 0, b->run.pool) != 0)
            return failed(b, "queue set-up");
    if (vuser_dev_start(b->dev) != 0)
        return failed(b, "vuser_dev_start");
    for (uint16_t q = 0; q < b->pairs; q++) {
        static const uint8_t to[6] = { 2, 0, 0, 0, 0, 2 }, from[6] = { 2, 0, 0, 0, 0, 1 };
        struct lane *lane = &b->lanes[q];

        lane->rx = vuser_rx_queue(b->dev, q);
        lane->tx = vuser_tx_queue(b->dev, q);
        lane->flow = flow_add(&b->run, to, from, lane->tx);
        lane->deaths = calloc(b->kills, sizeof(*lane->deaths));
        if (lane->deaths == NULL)
            return wrong(&b->run, "out of memory");
    }
    return true;
}

/* All that is under way comes back. */
static bool drain(struct bench *b)
{
    const double begin = now();
    uint64_t left = 1;

    while (left > 0) {
        receive(b);
        left = 0;
        for (unsigned q = 0; q < b->pairs; q++) {
            flow_take_back(b->lanes[q].flow);
            left += flow_under_way(b->lanes[q].flow);
        }
        if (now() - begin > BACK_WITHIN)
            return wrong(&b->run, "%" PRIu64 " frames under way have not come back", left);
        sched_yield();
    }
    return true;
}

static bool go(struct bench *b)
{
    struct vuser_dev_info info = { .size = sizeof(info) };

    if (!open_device(b))
        return false;
    for (;;) {
        watch("waiting for the link", 60);
        if (!wait_for_link(b) || !take_stock(b))
            return false;
        watch("moving frames", 60);
        if (!move(b, 500))
            return false;
        census(b);
        if (b->died == b->kills)
            break;
        watch("killing the back-end", 60);
        if (!die(b) || !spawn(b))
            return false;
    }
    if (vuser_dev_get_info(b->dev, &info) == 0)
        memcpy(b->path, info.path, sizeof(b->path));
    return drain(b);
}

static bool report(struct bench *b)
{
    uint64_t sent = 0, received = 0, resent = 0, dropped = 0, duplicate = 0, late = 0;
    const int lost_mbufs = b->run.pool == NULL ? 0 : (int)POOL - (int)vuser_pool_available(b->run.pool);
    const int lost_fds = b->dev == NULL ? 0 : (int)count_fds() - (int)b->fds_before;
    bool good = b->run.error[0] == '\0';

    for (unsigned q = 0; q < b->pairs; q++) {
        struct lane *lane = &b->lanes[q];

        if (lane->flow == NULL || lane->deaths == NULL)
            continue;
        /* After an error the books are open, and only the sentence counts. */
        if (good)
            audit(b, lane);
        sent += lane->flow->taken;
        received += lane->flow->received;
        resent += lane->resent;
        dropped += lane->dropped;
        duplicate += lane->flow->duplicate;
        late += lane->flow->late;
    }
    good &= b->missing + b->unexpected + duplicate + late + b->run.corrupt == 0 && lost_mbufs == 0 && lost_fds == 0 &&
        b->fds_grown <= 0 && b->maps_grown <= 0 && sent == received + dropped + b->in_hands;
    printf("{\"ok\":%s,\"path\":\"%s\",\"kills\":%u,\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"resent\":%" PRIu64
           ",\"dropped_on_reconnect\":%" PRIu64 ",\"in_hands_of_the_dead\":%" PRIu64, good ? "true" : "false", b->path,
           b->died, sent, received, resent, dropped, b->in_hands);
    printf(",\"missing\":%" PRIu64 ",\"unexpected\":%" PRIu64 ",\"duplicate\":%" PRIu64 ",\"late\":%" PRIu64
           ",\"corrupt\":%" PRIu64 ",\"leaked_fds\":%d,\"leaked_maps\":%d,\"leaked_mbufs\":%d", b->missing, b->unexpected,
           duplicate, late, b->run.corrupt, lost_fds + b->fds_grown, b->maps_grown, lost_mbufs);
    printf(",\"down_ms\":%.1f,\"up_ms\":%.1f,\"error\":", b->down * 1e3, b->up * 1e3);
    print_text(b->run.error);
    puts("}");
    return good;
}

static bool parse(struct bench *b, int argc, char **argv)
{
    static const struct option options[] = {
        { "devargs", required_argument, NULL, 'd' }, { "kills", required_argument, NULL, 'k' },
        { "held", required_argument, NULL, 'h' },    { "log", required_argument, NULL, 'l' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    b->kills = 10;
    b->held = 32;
    b->child.log = "/dev/null";
    while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        if (c == 'd')
            b->devargs = optarg;
        else if (c == 'k')
            b->kills = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 'h')
            b->held = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 'l')
            b->child.log = optarg;
        else
            return false;
    }
    b->child.command = argv + optind;
    return b->devargs != NULL && b->kills > 0 && b->kills <= MAX_KILLS && optind < argc;
}

int main(int argc, char **argv)
{
    static struct bench b;
    bool good;

    if (!parse(&b, argc, argv)) {
        fprintf(stderr, "usage: soak --devargs ARGS [--kills N] [--held N] [--log FILE] -- BACK-END ARGUMENT...\n");
        return 2;
    }
    b.run.seed = mix((uint64_t)(now() * 1e9)) ^ (uint64_t)getpid();
    b.random = mix(b.run.seed);
    go(&b);
    for (unsigned k = 0; k < b.run.nflows; k++)
        flow_take_back(&b.run.flows[k]);
    watch("closing the device", 60);
    vuser_dev_uninit(b.dev);
    child_kill(&b.child);
    good = report(&b);
    for (unsigned q = 0; q < b.pairs; q++)
        free(b.lanes[q].deaths);
    for (unsigned k = 0; k < b.run.nflows; k++)
        flow_free(&b.run.flows[k]);
    vuser_pool_free(b.run.pool);
    return good ? 0 : 1;
}
