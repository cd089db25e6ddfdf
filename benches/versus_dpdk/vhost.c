/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "vhost.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "sides.h"
#include "testpmd.h"

/* For frames that are still on their way. */
#define HOME_US 500000
/* For threads that all wake up at once on one CPU. */
#define SETTLE_US 1000

struct peer {
    struct testpmd testpmd;
    uint16_t queues;
    const char *mode;      /* what it does at the moment; NULL: nothing yet */
    uint16_t size;
};

static struct peer peers[2];
static int on_cpu;
static bool without_huge;

/* What testpmd does while we do this. */
static const char *const modes[DIRECTIONS] = {"txonly", "rxonly", "io"};

void vhost_init(int cpu, bool no_huge)
{
    on_cpu = cpu;
    without_huge = no_huge;
    /* A testpmd that dies is an error of a command, not our end. */
    signal(SIGPIPE, SIG_IGN);
}

const char *vhost_listen(uint16_t queues)
{
    static const char *const sockets[2] = {"vhost-a", "vhost-b"};

    for (int i = 0; i < 2; i++) {
        struct peer *peer = &peers[i];
        char socket[108];
        const char *wrong;

        if (peer->testpmd.pid && peer->queues == queues) {
            testpmd_resume(&peer->testpmd);
            continue;
        }
        testpmd_stop(&peer->testpmd);
        unlink(scratch_path(sockets[i], socket, sizeof(socket)));   /* of the former one: DPDK would not listen there */
        wrong = testpmd_start(&peer->testpmd, socket, on_cpu, queues, without_huge);
        if (wrong)
            return wrong;
        peer->queues = queues;
        peer->mode = NULL;
    }
    return NULL;
}

void vhost_ready(void)
{
    for (int i = 0; i < 2; i++)
        testpmd_pause(&peers[i].testpmd);
}

void vhost_release(void)
{
    for (int i = 0; i < 2; i++)
        testpmd_resume(&peers[i].testpmd);
}

void vhost_stop(void)
{
    for (int i = 0; i < 2; i++)
        testpmd_stop(&peers[i].testpmd);
}

/* Makes it do what is wanted. Frames of what it did before are thrown away. */
static const char *set_mode(struct peer *peer, struct traffic *traffic)
{
    const char *mode = modes[traffic->direction], *wrong = NULL;
    struct testpmd *testpmd = &peer->testpmd;

    if (peer->mode && !strcmp(peer->mode, mode) && peer->size == traffic->size)
        return NULL;
    if (peer->mode)
        wrong = testpmd_command(testpmd, "stop");
    traffic_drain(traffic);
    traffic_reset(traffic);
    traffic->wrong = NULL;
    if (!wrong)
        wrong = testpmd_command(testpmd, "set fwd %s", mode);
    if (!wrong)
        wrong = testpmd_command(testpmd, "set txpkts %u", traffic->size);
    if (!wrong)
        wrong = testpmd_command(testpmd, "start");
    peer->mode = wrong ? NULL : mode;
    peer->size = traffic->size;
    return wrong;
}

/* Frames that circulate when both forward, as a share of each ring: so many that there is always something to do, so few
 * that no ring is ever full, for testpmd drops what does not fit. Returns how many. */
static uint64_t circulate(struct traffic *traffic)
{
    uint16_t each = traffic->port->ring / 4 * 3, injected = 0;

    for (; injected + traffic->burst <= each; injected += traffic->burst) {
        traffic_inject(traffic);
        traffic_run(traffic, METER_NONE, 1, UINT64_MAX);
    }
    return injected * traffic->port->queues;
}

/* All frames that circulate are taken out again. */
static const char *bring_home(struct traffic *traffic, uint64_t injected)
{
    uint64_t deadline = after_us(HOME_US);

    while (traffic->received < traffic->sent + injected && __rdtsc() < deadline)
        traffic_drain(traffic);
    return traffic->received == traffic->sent + injected ? NULL : "frames were lost on the way through DPDK's vhost";
}

const char *vhost_slice(struct side *side, const struct setup *setup, struct sample *sample)
{
    struct peer *peer = &peers[side->number];
    struct traffic traffic __attribute__((aligned(128))) = {
        .port = &side->port, .direction = setup->direction, .burst = setup->burst, .size = setup->size,
    };
    uint64_t injected = 0;
    const char *wrong;
    uint64_t waited;

    testpmd_resume(&peer->testpmd);
    wrong = set_mode(peer, &traffic);
    if (!wrong && setup->direction == FORWARD)
        injected = circulate(&traffic);
    /* Its threads push each other aside when they are woken. */
    if (!wrong)
        traffic_run(&traffic, METER_NONE, UINT64_MAX, after_us(SETTLE_US));
    waited = testpmd_waited_ns(&peer->testpmd);
    if (!wrong)
        timed_slices(&traffic, sample);
    sample->disturbed |= testpmd_waited_ns(&peer->testpmd) - waited > MOST_WAIT_NS;
    if (!wrong && setup->direction == FORWARD)
        wrong = bring_home(&traffic, injected);
    testpmd_pause(&peer->testpmd);
    traffic_drain(&traffic);
    if (!wrong)
        wrong = traffic.wrong ? traffic.wrong : port_check_buffers(&side->port);
    return wrong;
}
