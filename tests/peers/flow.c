/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * A frame's bytes are a function of seed, flow and number. The receiver reads flow and number out of the frame, makes it
 * again and compares all of it. The seed is another one for each run, so that leftovers of an earlier one are damage.
 */
#define _POSIX_C_SOURCE 200809L

#include "peers.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ETH 14u
#define MAGIC UINT32_C(0x70656572) /* "peer" */

struct stamp {
    uint32_t magic;
    uint16_t flow, length;
    uint64_t number;
};
#define FILL (ETH + sizeof(struct stamp))
/* Frames of a flow. They are remembered in memory that is there from the beginning, so that mappings can be counted. */
#define MOST (UINT64_C(1) << 26)

bool wrong(struct run *run, const char *format, ...)
{
    va_list args;

    if (run->error[0] != '\0')
        return false;
    va_start(args, format);
    vsnprintf(run->error, sizeof(run->error), format, args);
    va_end(args);
    return false;
}

double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const char *volatile doing = "starting";

static void on_alarm(int signal)
{
    static const char head[] = "watchdog: hangs while ";
    const char *what = doing;
    ssize_t ignored;

    (void)signal;
    ignored = write(2, head, sizeof(head) - 1);
    ignored = write(2, what, strlen(what));
    ignored = write(2, "\n", 1);
    (void)ignored;
    _exit(1);
}

void watch(const char *what, unsigned seconds)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_alarm;
    sigaction(SIGALRM, &action, NULL);
    doing = what;
    alarm(seconds);
}

/* One step of splitmix64: cheap, and any two inputs give unrelated outputs. */
uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static unsigned length_of(uint64_t number)
{
    static const unsigned lengths[] = { 64, 65, 127, 300, 601, 1024, MAX_FRAME };

    return lengths[number % (sizeof(lengths) / sizeof(lengths[0]))];
}

static void make(const struct run *run, const struct flow *flow, uint64_t number, uint8_t *frame)
{
    const unsigned length = length_of(number);
    const struct stamp stamp = { MAGIC, flow->id, (uint16_t)length, number };
    uint64_t state = mix(run->seed ^ mix(number ^ ((uint64_t)flow->id << 48)));
    size_t at = FILL;

    memcpy(frame, flow->to, 6);
    memcpy(frame + 6, flow->from, 6);
    frame[12] = 0x88; /* an EtherType for local experiments */
    frame[13] = 0xb5;
    memcpy(frame + ETH, &stamp, sizeof(stamp));
    for (; at + 8 <= length; at += 8) {
        state = state * UINT64_C(0x9e3779b97f4a7c15) + UINT64_C(0xd1342543de82ef95);
        memcpy(frame + at, &state, 8);
    }
    state = mix(state);
    memcpy(frame + at, &state, length - at);
}

struct flow *flow_add(struct run *run, const uint8_t *to, const uint8_t *from, struct vuser_queue *tx)
{
    struct flow *flow = &run->flows[run->nflows];

    if (run->nflows == MAX_FLOWS)
        return NULL;
    memset(flow, 0, sizeof(*flow));
    flow->id = (uint16_t)run->nflows++;
    memcpy(flow->to, to, 6);
    memcpy(flow->from, from, 6);
    flow->tx = tx;
    return flow;
}

uint64_t flow_under_way(const struct flow *flow)
{
    return flow->taken > flow->floor ? flow->taken - flow->floor - flow->above : 0;
}

void flow_write_off(struct flow *flow, uint64_t before)
{
    flow->floor = before;
    flow->above = 0;
    for (uint64_t k = before; k < flow->taken; k++)
        flow->above += flow->seen[k];
}

bool flow_has(const struct flow *flow, uint64_t number)
{
    return number < flow->built && flow->seen[number] != 0;
}

/* Makes the next frame; false when there is no buffer or no memory. */
static bool build(struct run *run, struct flow *flow)
{
    const unsigned length = length_of(flow->built);
    struct vuser_mbuf *m;
    uint8_t *to;

    if (flow->seen == NULL)
        flow->seen = calloc(MOST, 1);
    if (flow->seen == NULL || flow->built == MOST)
        return wrong(run, "there is no memory to remember more than %" PRIu64 " frames", flow->built);
    m = vuser_mbuf_alloc(run->pool);
    if (m == NULL)
        return false;
    to = vuser_mbuf_append(m, (uint16_t)length);
    if (to == NULL) {
        vuser_mbuf_free(m);
        return wrong(run, "a frame does not fit into a buffer");
    }
    make(run, flow, flow->built, to);
    flow->seen[flow->built++] = 0;
    flow->pending[flow->n++] = m;
    return true;
}

unsigned flow_send(struct run *run, struct flow *flow, unsigned window)
{
    unsigned sent;

    if (flow->n == 0) {
        flow->first = 0;
        while (flow->n < BURST && flow_under_way(flow) + flow->n < window && build(run, flow))
            ;
    }
    if (flow->n == 0)
        return 0;
    sent = vuser_tx_burst(flow->tx, flow->pending + flow->first, (uint16_t)flow->n);
    if (sent > flow->n) {
        wrong(run, "vuser_tx_burst took %u frames of %u", sent, flow->n);
        sent = flow->n;
    }
    flow->first += sent;
    flow->n -= sent;
    flow->taken += sent;
    return sent;
}

void flow_take_back(struct flow *flow)
{
    vuser_mbuf_free_bulk(flow->pending + flow->first, (uint16_t)flow->n);
    flow->built -= flow->n;
    flow->n = 0;
}

static bool same(const struct vuser_mbuf *m, const uint8_t *frame, unsigned length)
{
    unsigned at = 0, segments = 0, claimed = m->nb_segs;

    if (m->pkt_len != length)
        return false;
    for (; m != NULL; m = m->next, segments++) {
        if (m->data_len > length - at || memcmp(vuser_mbuf_data(m), frame + at, m->data_len) != 0)
            return false;
        at += m->data_len;
    }
    return at == length && segments == claimed;
}

struct flow *flow_of(struct run *run, const struct vuser_mbuf *m, uint64_t *number)
{
    uint8_t frame[MAX_FRAME + 8];
    struct stamp stamp;
    struct flow *flow;

    run->corrupt++;
    if (m->data_len < FILL)
        return NULL;
    memcpy(&stamp, (const uint8_t *)vuser_mbuf_data(m) + ETH, sizeof(stamp));
    if (stamp.magic != MAGIC || stamp.flow >= run->nflows)
        return NULL;
    flow = &run->flows[stamp.flow];
    if (stamp.number >= flow->built)
        return NULL;
    make(run, flow, stamp.number, frame);
    if (!same(m, frame, length_of(stamp.number)))
        return NULL;
    run->corrupt--;
    *number = stamp.number;
    return flow;
}

bool flow_like(const struct run *run, const struct vuser_mbuf *m)
{
    uint8_t bytes[MAX_FRAME], frame[MAX_FRAME + 8];
    unsigned length = 0;
    struct stamp stamp;
    const struct flow *flow;

    for (; m != NULL && length < MAX_FRAME; m = m->next) {
        const unsigned part = m->data_len < MAX_FRAME - length ? m->data_len : MAX_FRAME - length;

        memcpy(bytes + length, vuser_mbuf_data(m), part);
        length += part;
    }
    if (length < FILL)
        return false;
    memcpy(&stamp, bytes + ETH, sizeof(stamp));
    if (stamp.magic != MAGIC || stamp.flow >= run->nflows)
        return false;
    flow = &run->flows[stamp.flow];
    if (stamp.number >= flow->built)
        return false;
    make(run, flow, stamp.number, frame);
    if (length > length_of(stamp.number))
        length = length_of(stamp.number);
    return memcmp(bytes, frame, length) == 0;
}

void flow_receive(struct flow *flow, uint64_t number)
{
    if (flow->seen[number]) {
        flow->duplicate++;
        return;
    }
    flow->seen[number] = 1;
    flow->received++;
    flow->above += number >= flow->floor;
    if (number < flow->next)
        flow->late++;
    else
        flow->next = number + 1;
}

void flow_free(struct flow *flow)
{
    flow_take_back(flow);
    free(flow->seen);
    flow->seen = NULL;
}

void print_text(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        putchar((unsigned char)*text < ' ' ? ' ' : *text);
    }
    putchar('"');
}
