/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * mix: traffic both ways for as long as is asked for, and whatever can happen meanwhile, drawn from a seed.
 *
 *   mix --dir DIRECTORY --own PROGRAM [--testpmd PROGRAM] [--seconds N] [--seed N]
 *       [--from SESSION] [--devices N] [--hostile PROGRAM] [--growth KIB]
 *   mix --victim DEVARGS
 *
 * One device after another, split and packed by turns, of other options, number of pairs and back-end each. A thread bursts;
 * this one does what the plan says: the back-end is killed, stopped and let go on, dripped on, ended; queues, pairs, link and
 * device are stopped and started; memory and captures come and go; the device is asked for something that the back-end
 * does not answer. After each, frames have to move, and all that is under way has to come back or to be accounted for.
 * With --hostile (the program of tests/hostile) each device that connects meets at last, when the books are closed, a back-end
 * that tells one of its lies, and then one that is honest. What becomes of frames there is not counted, but none is damaged
 * unless the lie is that the device damages it, nothing hangs, all comes back, and frames move again.
 * The last line is the ledger, a JSON object. Exit status 0: it adds up. SIGTERM ends it after the device that is there.
 *
 * --victim moves frames until it is killed, and says "moving" once they move.
 */
#define _GNU_SOURCE

#include "mix.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL 4096u
#define HELD 32u            /* Frames of a queue in the hands of a back-end. */
#define UP_WITHIN 30.0
#define BACK_WITHIN 20.0
#define QUIET 0.5           /* Seconds after which a frame does not come any more, once it may be lost. */
#define DEADLINES 4         /* A call waits for no more answers than so many. */
#define WARM 4u             /* Devices after which memory is as much as ever. */
#define MOST_FAULTS 4096u
#define HOSTILE_WITHIN 2.0  /* Seconds until a hostile device is met, if its lie is not silence. */
#define HOSTILE_MS 300      /* What it is met for then. */
#define GROWTH_KIB 8192l    /* What it may grow by after that; --growth: a tool that watches memory needs some itself. */
#define MEMORY_SIZE (2u << 20)

struct ledger {
    uint64_t out, in, resent, dropped_on_reconnect, lost_tx, lost_rx, bad, duplicate, late, corrupt;
    uint64_t thrown_away;    /* By back-ends whose rings were disabled or which died, within what they can hold. */
    uint64_t devices, done[ACTS], captured, lies, met;
};

/* A lie of the hostile device. */
struct fault {
    char name[64];
    bool damages; /* Frames are damaged by it, which is its right. */
};

struct bench {
    struct run run;
    struct child child;
    struct traffic traffic;
    struct ledger ledger;
    struct vuser_config config;
    struct vuser_dev *dev;
    struct session session;
    const char *dir, *own, *testpmd, *hostile;
    struct fault *faults;
    unsigned nfaults;
    char socket[200];
    double longest, slowest_up;
    const char *longest_call;
    uint64_t dropped, missing, allowed; /* Of this device: counted by the library, by nobody, and how many may be that. */
    unsigned fds, shared;
    long fds_grown, shared_grown, mbufs, resident, grown, growth;
};

static bool failed(struct bench *b, const char *what)
{
    return wrong(&b->run, "%s: %s", what, vuser_last_error());
}

/* A control call has a deadline; what it returns is handed on. */
#define CALL(b, name, call) (begin = now(), rc = (call), called(b, name, begin))

static bool called(struct bench *b, const char *name, double begin)
{
    const double took = now() - begin, limit = DEADLINES * b->config.timeout_ms / 1e3 + 2;

    if (took > b->longest) {
        b->longest = took;
        b->longest_call = name;
    }
    return took <= limit || wrong(&b->run, "%s took %.1f s", name, took);
}

#define CHECKED(b, name, call) (CALL(b, name, call) && (rc == 0 || failed(b, name)))

/* ---------------------------------------------------------------- the back-end */

static bool spawn(struct bench *b)
{
    static char vdev[300], rxq[16], txq[16], serve[300], lcores[64];
    static char *own[] = { NULL, "--serve", serve, NULL };
    static char *testpmd[] = { NULL, "--no-huge", "--no-shconf", "-m", "64", "--no-pci", "--no-telemetry", lcores,
                               vdev, "--", "--nb-cores=1", "--total-num-mbufs=2048", "--no-flush-rx", "--disable-link-check",
                               rxq, txq, NULL };
    const struct session *s = &b->session;

    if (!s->server)
        unlink(b->socket);
    snprintf(serve, sizeof(serve), "%s,queues=%u", b->socket, s->pairs);
    snprintf(vdev, sizeof(vdev), "--vdev=net_vhost0,iface=%s,queues=%u%s", b->socket, s->pairs,
             s->server ? ",client=1" : "");
    snprintf(lcores, sizeof(lcores), "--lcores=0@(0-%ld),1@(0-%ld)", sysconf(_SC_NPROCESSORS_ONLN) - 1,
             sysconf(_SC_NPROCESSORS_ONLN) - 1);
    snprintf(rxq, sizeof(rxq), "--rxq=%u", s->pairs);
    snprintf(txq, sizeof(txq), "--txq=%u", s->pairs);
    own[0] = (char *)b->own;
    testpmd[0] = (char *)b->testpmd;
    b->child.command = s->peer == OWN ? own : testpmd;
    return child_start(&b->run, &b->child);
}

/* How often a back-end has come that was not the first; and how often one, or one that was sent away. */
static bool read_comings(struct bench *b, uint64_t *comings, uint64_t *heard)
{
    struct vuser_dev_info info = { .size = sizeof(info) };
    double begin;
    int rc;

    if (!CHECKED(b, "vuser_dev_get_info", vuser_dev_get_info(b->dev, &info)))
        return false;
    *comings = info.reconnects;
    *heard = info.reconnects + info.refused;
    return true;
}

/* Of a back-end that has been met, as the latest of so many. */
static bool wait_for_link(struct bench *b, uint64_t comings)
{
    const double begin = now();
    uint64_t came = 0, heard;

    for (;;) {
        /* Nobody has looked yet, perhaps, after one that has just died: the link may still be up. */
        if (vuser_dev_link(b->dev) == 1 && (comings == 0 || (read_comings(b, &came, &heard) && came >= comings)))
            break;
        if (b->run.error[0] != '\0' || !child_lives(&b->run, &b->child))
            return false;
        if (now() - begin > UP_WITHIN)
            return wrong(&b->run, "no link %.0f s after the back-end was started", UP_WITHIN);
        usleep(500);
    }
    if (now() - begin > b->slowest_up)
        b->slowest_up = now() - begin;
    return true;
}

/* ---------------------------------------------------------------- the books */

static bool read_counters(struct bench *b, unsigned q, struct ledger *sum)
{
    struct vuser_queue_stats tx = { .size = sizeof(tx) }, rx = { .size = sizeof(rx) };

    if (vuser_queue_get_stats(b->traffic.lanes[q].tx, &tx) != 0 || vuser_queue_get_stats(b->traffic.lanes[q].rx, &rx) != 0)
        return failed(b, "vuser_queue_get_stats");
    if (vuser_queue_status(b->traffic.lanes[q].tx) == -EIO || vuser_queue_status(b->traffic.lanes[q].rx) == -EIO)
        return failed(b, "a queue is broken");
    sum->resent += tx.tx_resent;
    sum->dropped_on_reconnect += tx.tx_dropped_on_reconnect;
    sum->lost_tx += tx.lost;
    sum->lost_rx += rx.lost;
    sum->bad += tx.bad_packet + tx.bad_offload + tx.bad_address + tx.too_many_segments + rx.runt + rx.bad_header;
    return true;
}

static bool read_all(struct bench *b, struct ledger *sum)
{
    memset(sum, 0, sizeof(*sum));
    for (unsigned q = 0; q < b->traffic.pairs; q++)
        if (!read_counters(b, q, sum))
            return false;
    return true;
}

static uint64_t dropped(const struct ledger *sum)
{
    return sum->dropped_on_reconnect + sum->lost_tx + sum->lost_rx + sum->bad;
}

/* Until all that is under way has come, or, but for `thrown` frames, is counted; these are waited for a while. */
static bool wait_for_frames(struct bench *b, uint64_t thrown)
{
    struct traffic *t = &b->traffic;
    const double begin = now();
    double heard = begin;
    uint64_t moved = 0, left;

    while ((left = traffic_read(&t->left)) > 0 && now() - begin < BACK_WITHIN) {
        struct ledger sum;

        if (!read_all(b, &sum))
            return false;
        if (traffic_read(&t->moved) != moved) {
            moved = traffic_read(&t->moved);
            heard = now();
        }
        if (left <= thrown + dropped(&sum) - b->dropped && now() - heard > QUIET)
            break;
        usleep(500);
    }
    return true;
}

/* All that is under way comes back, or has a reason not to: `thrown` more frames may have none. */
static bool settle(struct bench *b, const char *what, uint64_t thrown)
{
    struct traffic *t = &b->traffic;
    struct ledger sum;
    uint64_t out = 0, in = 0;

    /* Twice, so that a whole turn has been one of draining. */
    traffic_set(t, DRAIN);
    traffic_set(t, PARK);
    traffic_set(t, DRAIN);
    b->allowed += thrown;
    if (!wait_for_frames(b, thrown))
        return false;
    traffic_set(t, PARK);
    if (!read_all(b, &sum))
        return false;
    for (unsigned q = 0; q < t->pairs; q++) {
        struct flow *flow = t->lanes[q].flow;

        out += flow->taken;
        in += flow->received;
        flow_write_off(flow, flow->taken);
    }
    b->dropped = dropped(&sum);
    b->missing = out > in + b->dropped ? out - in - b->dropped : 0;
    if (b->missing > b->allowed)
        return wrong(&b->run, "after %s: %" PRIu64 " frames were sent, %" PRIu64 " came, %" PRIu64 " are counted, and only %"
                     PRIu64 " may be missing", what, out, in, b->dropped, b->allowed);
    b->allowed = b->missing; /* What is explained now is not to be explained again. */
    return true;
}

static bool move(struct bench *b, const char *what, unsigned ms)
{
    const double begin = now();
    uint64_t before = traffic_read(&b->traffic.moved);

    traffic_set(&b->traffic, RUN);
    while (traffic_read(&b->traffic.moved) < before + 100) {
        if (b->run.error[0] != '\0')
            return false;
        if (now() - begin > BACK_WITHIN)
            return wrong(&b->run, "after %s: no frames move, though the link is up", what);
        usleep(500);
    }
    usleep(ms * 1000);
    return true;
}

/* ---------------------------------------------------------------- what happens */

/* Memory comes, and goes, in pieces, while frames move. */
static bool change_memory(struct bench *b, const struct action *a)
{
    const int fd = memfd_create("mix", MFD_CLOEXEC);
    uint8_t *at = MAP_FAILED;
    double begin;
    int rc = 0;
    bool good = false;

    if (fd >= 0 && ftruncate(fd, MEMORY_SIZE) == 0)
        at = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED)
        good = CHECKED(b, "vuser_mem_register", vuser_mem_register(b->dev, fd, 0, MEMORY_SIZE / 2, at)) &&
            CHECKED(b, "vuser_mem_register", vuser_mem_register(b->dev, fd, MEMORY_SIZE / 2, MEMORY_SIZE / 2,
                                                               at + MEMORY_SIZE / 2)) &&
            (usleep(a->ms * 1000), true) &&
            CHECKED(b, "vuser_mem_unregister", vuser_mem_unregister(b->dev, at)) &&
            CHECKED(b, "vuser_mem_unregister", vuser_mem_unregister(b->dev, at + MEMORY_SIZE / 2));
    if (at != MAP_FAILED)
        munmap(at, MEMORY_SIZE);
    close(fd);
    return good;
}

static bool capture(struct bench *b, const struct action *a)
{
    struct vuser_capture_config config = { .size = sizeof(config), .max_bytes = 4u << 20, .frames = 512, .snaplen = 128 };
    struct vuser_capture_stats stats = { .size = sizeof(stats) };
    struct vuser_capture *capture = NULL;
    double begin;
    int rc;

    snprintf(config.path, sizeof(config.path), "%s/capture", b->dir);
    if (!CHECKED(b, "vuser_capture_start", vuser_capture_start(b->dev, &config, &capture)))
        return false;
    usleep(a->ms * 1000);
    rc = vuser_capture_get_stats(capture, &stats);
    b->ledger.captured += stats.captured;
    return CHECKED(b, "vuser_capture_stop", vuser_capture_stop(capture));
}

/* The back-end is stopped where it is, and asked for something: that ends, however it ends, and so does all else. */
static bool hang(struct bench *b)
{
    double begin;
    int rc;

    child_stop(&b->child);
    if (!CALL(b, "vuser_dev_stop of a frozen back-end", vuser_dev_stop(b->dev)))
        return false;
    child_continue(&b->child);
    (void)rc;
    return CHECKED(b, "vuser_dev_start", vuser_dev_start(b->dev));
}

static void freeze(struct bench *b, unsigned ms)
{
    child_stop(&b->child);
    usleep(ms * 1000);
    child_continue(&b->child);
}

/* Another back-end takes the place of this one, and is met: until then the library has, rightly, what is under way. */
static bool replace(struct bench *b, void (*end)(struct child *))
{
    uint64_t comings, heard;

    if (!read_comings(b, &comings, &heard))
        return false;
    end(&b->child);
    return spawn(b) && wait_for_link(b, comings + 1);
}

static bool act(struct bench *b, const struct action *a)
{
    const uint16_t pair = (uint16_t)a->pair;
    double begin;
    int rc;

    switch (a->act) {
    case KILL:
        return replace(b, child_kill);
    case END:
        return replace(b, child_end);
    case FREEZE:
        freeze(b, a->ms);
        return true;
    case DRIP:
        for (unsigned k = 0; k < a->n * 5; k++) {
            freeze(b, 5 + a->ms / 10);
            usleep(1000);
        }
        return true;
    case STOP_QUEUE:
        return a->n % 2 ? CHECKED(b, "vuser_rx_queue_stop", vuser_rx_queue_stop(b->dev, pair)) &&
                (usleep(a->ms * 100), true) && CHECKED(b, "vuser_rx_queue_start", vuser_rx_queue_start(b->dev, pair))
                        : CHECKED(b, "vuser_tx_queue_stop", vuser_tx_queue_stop(b->dev, pair)) &&
                (usleep(a->ms * 100), true) && CHECKED(b, "vuser_tx_queue_start", vuser_tx_queue_start(b->dev, pair));
    case PAIRS:
        return CHECKED(b, "vuser_dev_set_queue_pairs", vuser_dev_set_queue_pairs(b->dev, (uint16_t)(pair + 1))) &&
            (usleep(a->ms * 1000), true) &&
            CHECKED(b, "vuser_dev_set_queue_pairs", vuser_dev_set_queue_pairs(b->dev, (uint16_t)b->session.pairs));
    case LINK:
        return CHECKED(b, "vuser_dev_set_link", vuser_dev_set_link(b->dev, 0)) && (usleep(a->ms * 100), true) &&
            CHECKED(b, "vuser_dev_set_link", vuser_dev_set_link(b->dev, 1));
    case RESTART:
        return CHECKED(b, "vuser_dev_stop", vuser_dev_stop(b->dev)) && CHECKED(b, "vuser_dev_start", vuser_dev_start(b->dev));
    case MEMORY:
        return change_memory(b, a);
    case CAPTURE:
        return capture(b, a);
    default:
        return hang(b);
    }
}

/* How many frames an honest back-end may lose by it that nobody counts. */
static uint64_t may_lose(const struct bench *b, enum act act)
{
    const uint64_t each = b->session.pairs;

    switch (act) {
    case FREEZE: case DRIP: case CAPTURE:
        return 0;
    case KILL: case END:
        return each * HELD;
    case MEMORY: /* Told anew, rings disabled for a moment, four times; who has memory slots goes on. */
        return b->session.peer == OWN ? 0 : 4 * each * HELD;
    default: /* What comes to a disabled ring. */
        return each * b->session.window;
    }
}

/* ---------------------------------------------------------------- a device */

/* The names of the lies, and for some a second word: what the device makes of frames then. */
static bool list_faults(struct bench *b)
{
    char command[400], line[128];
    FILE *list;

    snprintf(command, sizeof(command), "'%s' --list", b->hostile);
    list = popen(command, "r");
    b->faults = calloc(MOST_FAULTS, sizeof(*b->faults));
    while (list != NULL && b->faults != NULL && b->nfaults < MOST_FAULTS && fgets(line, sizeof(line), list) != NULL) {
        struct fault *fault = &b->faults[b->nfaults];
        char content[16];
        const int words = sscanf(line, "%63s %15s", fault->name, content);

        fault->damages = words == 2 && strcmp(content, "whole") != 0;
        b->nfaults += words > 0;
    }
    return list != NULL && pclose(list) == 0 && b->nfaults > 0;
}

/* Most lies are the same one about each request, or message: half of the time it is one of the others. */
static bool is_common(const char *fault)
{
    return strncmp(fault, "reply-", 6) == 0 || strncmp(fault, "close@", 6) == 0 || strncmp(fault, "ack-no", 6) == 0;
}

static struct fault *choose_fault(const struct bench *b, uint64_t number)
{
    uint64_t dice = mix(b->run.seed ^ mix(~number));
    const bool any = dice % 2;

    do
        dice = mix(dice);
    while (!any && is_common(b->faults[dice % b->nfaults].name) && dice % 1024 != 0);
    return &b->faults[dice % b->nfaults];
}

/* A back-end that lies comes, and goes; then an honest one. The device is stopped and started, as one whose queue is broken. */
static bool meet_hostile(struct bench *b, uint64_t number)
{
    struct fault *const chosen = choose_fault(b, number);
    char *const fault = chosen->name;
    char *command[] = { (char *)b->hostile, "--serve", b->socket, "--fault", fault, NULL };
    const double first = now();
    uint64_t comings, before, heard;
    double begin;
    int rc;

    printf("hostile: %s\n", fault);
    fflush(stdout);
    watch("meeting a hostile device", 120);
    if (!read_comings(b, &comings, &before))
        return false;
    child_kill(&b->child);
    unlink(b->socket);
    b->child.command = command;
    if (!child_start(&b->run, &b->child))
        return false;
    traffic_set(&b->traffic, RUN);
    do {
        usleep(500);
        if (!read_comings(b, &comings, &heard))
            return false;
    } while (heard == before && now() - first < HOSTILE_WITHIN);
    b->ledger.met += heard > before;
    usleep(HOSTILE_MS * 1000);
    child_kill(&b->child);
    /* Of a device that was lost or broken that may be an error. */
    if (!CALL(b, "vuser_dev_stop of a hostile device", vuser_dev_stop(b->dev)))
        return false;
    traffic_set(&b->traffic, PARK);
    for (unsigned q = 0; q < b->traffic.pairs; q++) {
        flow_take_back(b->traffic.lanes[q].flow);
        flow_write_off(b->traffic.lanes[q].flow, b->traffic.lanes[q].flow->taken);
    }
    if (chosen->damages)
        b->run.corrupt = 0;
    if (!CHECKED(b, "vuser_dev_start after a hostile device", vuser_dev_start(b->dev)) || !spawn(b) ||
        !wait_for_link(b, 0) || !move(b, fault, 20))
        return false;
    traffic_set(&b->traffic, PARK);
    b->ledger.lies++;
    return b->run.corrupt == 0 || wrong(&b->run, "%s: %" PRIu64 " frames came damaged", fault, b->run.corrupt);
}

static bool open_device(struct bench *b, const char *devargs)
{
    const struct vuser_pool_config pool = { .size = sizeof(pool), .count = POOL, .no_huge = 1 };
    static const uint8_t to[6] = { 2, 0, 0, 0, 0, 2 }, from[6] = { 2, 0, 0, 0, 0, 1 };
    const double first = now();
    struct traffic *t = &b->traffic;
    double begin;
    int rc;

    vuser_config_init(&b->config, sizeof(b->config));
    if (vuser_config_parse(&b->config, devargs) != 0)
        return failed(b, "vuser_config_parse");
    if (vuser_pool_create(&pool, &b->run.pool) != 0)
        return failed(b, "vuser_pool_create");
    while (CALL(b, "vuser_dev_init", vuser_dev_init(&b->config, &b->dev)) && rc != 0) {
        if (now() - first > UP_WITHIN || b->config.server || (b->child.command && !child_lives(&b->run, &b->child)))
            return failed(b, "vuser_dev_init");
        usleep(10000);
    }
    t->run = &b->run;
    t->pairs = b->config.queues;
    t->window = b->config.queue_size / 2;
    for (uint16_t q = 0; q < t->pairs; q++)
        if (vuser_rx_queue_setup(b->dev, q, 0, b->run.pool) != 0 || vuser_tx_queue_setup(b->dev, q, 0, b->run.pool) != 0)
            return failed(b, "queue set-up");
    if (!CHECKED(b, "vuser_dev_start", vuser_dev_start(b->dev)))
        return false;
    for (uint16_t q = 0; q < t->pairs; q++) {
        t->lanes[q].rx = vuser_rx_queue(b->dev, q);
        t->lanes[q].tx = vuser_tx_queue(b->dev, q);
        t->lanes[q].flow = flow_add(&b->run, to, from, t->lanes[q].tx);
    }
    return true;
}

static bool happen(struct bench *b)
{
    if (!wait_for_link(b, 0) || !move(b, "the start", 20))
        return false;
    for (unsigned k = 0; k < b->session.nactions; k++) {
        const struct action *a = &b->session.actions[k];
        const char *name = act_names[a->act];

        watch(name, 120);
        if (!act(b, a) || !wait_for_link(b, 0))
            return false;
        /* Again once it is settled: what is lost must not be in the way. */
        if (!settle(b, name, may_lose(b, a->act)) || !move(b, name, a->ms))
            return false;
        b->ledger.done[a->act]++;
    }
    return settle(b, "all", 0);
}

static void close_books(struct bench *b)
{
    struct traffic *t = &b->traffic;

    for (unsigned q = 0; q < t->pairs && q < b->run.nflows; q++) {
        struct flow *flow = t->lanes[q].flow;

        read_counters(b, q, &b->ledger);
        b->ledger.out += flow->taken;
        b->ledger.in += flow->received;
        b->ledger.duplicate += flow->duplicate;
        b->ledger.late += flow->late;
    }
    b->ledger.thrown_away += b->missing;
    b->ledger.corrupt += b->run.corrupt;
    b->dropped = b->missing = b->allowed = b->run.corrupt = 0;
}

static void forget_flows(struct bench *b)
{
    for (unsigned q = 0; q < b->run.nflows; q++)
        flow_free(&b->run.flows[q]);
    b->run.nflows = b->traffic.pairs = 0;
}

/* What it took from the system is given back. */
static bool census(struct bench *b)
{
    const long fds = (long)count_fds(), shared = (long)count_maps(true), resident = (long)resident_kib();

    if (b->ledger.devices <= WARM)
        b->resident = resident > b->resident ? resident : b->resident;
    if (b->ledger.devices == 1) { /* The log of the back-ends is open from then on. */
        b->fds = (unsigned)fds;
        b->shared = (unsigned)shared;
    }
    b->fds_grown = fds - (long)b->fds;
    b->shared_grown = shared - (long)b->shared;
    b->grown = resident - b->resident;
    if (b->mbufs != 0)
        return wrong(&b->run, "%ld buffers have not come back", b->mbufs);
    if (b->fds_grown != 0 || b->shared_grown != 0)
        return wrong(&b->run, "descriptors grew by %ld, shared mappings by %ld", b->fds_grown, b->shared_grown);
    return b->grown <= b->growth || wrong(&b->run, "memory grew by %ld KiB", b->grown);
}

static bool one(struct bench *b, uint64_t number)
{
    char devargs[560];
    double begin;
    bool good;

    plan(b->run.seed, number, b->testpmd != NULL, &b->session);
    plan_print(number, &b->session);
    snprintf(devargs, sizeof(devargs), "path=%s,%s", b->socket, b->session.devargs);
    watch("making a device", 120);
    good = spawn(b) && open_device(b, devargs) && happen(b);
    traffic_set(&b->traffic, PARK);
    if (good) {
        close_books(b);
        good = b->nfaults == 0 || b->session.server || meet_hostile(b, number);
    }
    watch("closing a device", 120);
    traffic_set(&b->traffic, PARK);
    forget_flows(b);
    begin = now();
    vuser_dev_uninit(b->dev);
    good = called(b, "vuser_dev_uninit", begin) && good;
    b->dev = NULL;
    child_kill(&b->child);
    b->mbufs = b->run.pool == NULL ? 0 : (long)POOL - (long)vuser_pool_available(b->run.pool);
    vuser_pool_free(b->run.pool);
    b->run.pool = NULL;
    unlink(b->socket);
    b->ledger.devices++;
    return good && census(b);
}

static bool report(const struct bench *b)
{
    const struct ledger *l = &b->ledger;
    const uint64_t counted = l->in + l->dropped_on_reconnect + l->lost_tx + l->lost_rx + l->bad + l->thrown_away;
    const bool good = b->run.error[0] == '\0' && l->corrupt == 0 && l->late == 0 && l->duplicate <= l->resent &&
        l->out <= counted && counted - l->out <= l->resent;

    printf("{\"ok\":%s,\"seed\":%" PRIu64 ",\"devices\":%" PRIu64 ",\"out\":%" PRIu64 ",\"in\":%" PRIu64 ",\"resent\":%" PRIu64,
           good ? "true" : "false", b->run.seed, l->devices, l->out, l->in, l->resent);
    printf(",\"came_twice\":%" PRIu64 ",\"dropped\":{\"on_reconnect\":%" PRIu64 ",\"stopped_unsent\":%" PRIu64
           ",\"stopped_unreceived\":%" PRIu64 ",\"bad\":%" PRIu64 ",\"by_back_ends\":%" PRIu64 "}",
           l->duplicate, l->dropped_on_reconnect, l->lost_tx, l->lost_rx, l->bad, l->thrown_away);
    printf(",\"late\":%" PRIu64 ",\"corrupt\":%" PRIu64 ",\"captured\":%" PRIu64 ",\"happened\":{", l->late, l->corrupt,
           l->captured);
    for (unsigned k = 0; k < ACTS; k++)
        printf("%s\"%s\":%" PRIu64, k ? "," : "", act_names[k], l->done[k]);
    printf("},\"lies\":%" PRIu64 ",\"lies_met\":%" PRIu64, l->lies, l->met);
    printf(",\"leaked_mbufs\":%ld,\"leaked_fds\":%ld,\"leaked_maps\":%ld,\"grown_kib\":%ld", b->mbufs, b->fds_grown,
           b->shared_grown, b->grown);
    printf(",\"longest_call\":\"%s\",\"longest_ms\":%.0f,\"deadline_ms\":%u,\"up_ms\":%.0f,\"error\":",
           b->longest_call ? b->longest_call : "", b->longest * 1e3, DEADLINES * b->config.timeout_ms + 2000,
           b->slowest_up * 1e3);
    print_text(b->run.error);
    puts("}");
    if (!good)
        fprintf(stderr, "it does not add up; again: SEED=%" PRIu64 "\n", b->run.seed);
    return good;
}

static volatile sig_atomic_t enough;

static void on_term(int signal)
{
    (void)signal;
    enough = 1;
}

static int victim(struct bench *b, const char *devargs)
{
    pthread_t thread;

    if (!open_device(b, devargs) || pthread_create(&thread, NULL, traffic_main, &b->traffic) != 0)
        goto out;
    while (vuser_dev_link(b->dev) != 1)
        usleep(500);
    if (!move(b, "the start", 0))
        goto out;
    puts("moving");
    fflush(stdout);
    for (;;)
        pause();
out:
    fprintf(stderr, "victim: %s\n", b->run.error);
    return 1;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "dir", required_argument, NULL, 'd' },    { "own", required_argument, NULL, 'o' },
        { "testpmd", required_argument, NULL, 't' }, { "seconds", required_argument, NULL, 's' },
        { "seed", required_argument, NULL, 'r' },   { "victim", required_argument, NULL, 'v' },
        { "from", required_argument, NULL, 'f' },   { "devices", required_argument, NULL, 'n' },
        { "hostile", required_argument, NULL, 'h' }, { "growth", required_argument, NULL, 'g' },
        { NULL, 0, NULL, 0 },
    };
    static struct bench b;
    static char log[300];
    const double begin = now();
    double seconds = 60;
    uint64_t number = 0, end = UINT64_MAX;
    pthread_t thread;
    int c;

    b.growth = GROWTH_KIB;
    signal(SIGTERM, on_term);
    mallopt(M_ARENA_MAX, 1); /* Threads come and go; memory is to be compared. */
    b.run.seed = mix((uint64_t)(now() * 1e9)) % 1000000;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'd': b.dir = optarg; break;
        case 'o': b.own = optarg; break;
        case 't': b.testpmd = optarg; break;
        case 's': seconds = strtod(optarg, NULL); break;
        case 'r': b.run.seed = strtoull(optarg, NULL, 10); break;
        case 'h': b.hostile = optarg; break;
        case 'f': number = strtoull(optarg, NULL, 10); break;
        case 'n': end = strtoull(optarg, NULL, 10); break;
        case 'g': b.growth = strtol(optarg, NULL, 10); break;
        case 'v': return victim(&b, optarg);
        default: return 2;
        }
    }
    if (b.dir == NULL || b.own == NULL)
        return 2;
    if (b.hostile != NULL && !list_faults(&b)) {
        fprintf(stderr, "%s --list names no lies: is it the program of tests/hostile?\n", b.hostile);
        return 2;
    }
    snprintf(b.socket, sizeof(b.socket), "%s/s", b.dir);
    snprintf(log, sizeof(log), "%s/log", b.dir);
    b.child.log = log;
    end = number + end < number ? end : number + end;
    printf("seed %" PRIu64 ", %.0f s\n", b.run.seed, seconds);
    if (pthread_create(&thread, NULL, traffic_main, &b.traffic) != 0)
        return 1;
    while (!enough && number < end && now() - begin < seconds && one(&b, number++))
        if (number % 10 == 0)
            printf("%.0f s: %" PRIu64 " frames out, %" PRIu64 " in\n", now() - begin, b.ledger.out, b.ledger.in);
    traffic_set(&b.traffic, PARK);
    __atomic_store_n(&b.traffic.wanted, LEAVE, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    return report(&b) ? 0 : 1;
}
