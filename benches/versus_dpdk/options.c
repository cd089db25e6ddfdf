/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define D(direction) (1u << (direction))
#define ALL (D(RX) | D(TX) | D(FORWARD))

static const char usage[] =
    "versus_dpdk: two DPDK drivers side by side, in one process, in turns\n"
    "  --a DRIVER[,DEVARGS]   the peer (net_virtio_user)\n"
    "  --b DRIVER[,DEVARGS]   the driver to compare with it (net_vuser)\n"
    "  --b-scalar DEVARGS     devargs with which b uses no wide lanes: adds a row\n"
    "  --load FILE            a driver's library; may be repeated\n"
    "  --stages LIST          of cpu,instructions,cross,vhost (all)\n"
    "  --path NAME            only this path, such as 'split plain'; may be repeated\n"
    "  --direction LIST       of rx,tx,forward; together with the next four replaces the standard selection\n"
    "  --burst LIST           frames per burst, such as 8,32; 4 to 64, a divisor of the ring\n"
    "  --size LIST            bytes of a frame, such as 64,1518\n"
    "  --ring LIST            entries of a ring, such as 256,1024\n"
    "  --queues LIST          queue pairs, such as 1,2; at most 8\n"
    "  --passes N             times that everything is measured, with new ports (6)\n"
    "  --rounds N             turns of both drivers in a pass (8)\n"
    "  --seconds N            ends measuring then, and reports what there is (no limit)\n"
    "  --quick                two passes of few rounds\n"
    "  --instructions-only    prints nothing but instructions per packet, as comma separated values\n"
    "  --no-huge              without huge pages\n"
    "  --csv FILE             writes all figures there\n"
    "  --commit TEXT          what is measured, for the reports\n";

/* What is measured unless something else is asked for. */
static const struct plan standard[] = {
    {256, 1, 32, 64, {ALL, D(RX) | D(TX), ALL, ALL}},
    {256, 1, 8, 64, {D(RX) | D(TX), 0, D(FORWARD), 0}},
    {256, 1, 32, 1518, {D(RX) | D(TX), 0, 0, ALL}},
    {1024, 1, 32, 64, {D(RX) | D(TX), 0, D(FORWARD), 0}},
    {256, 2, 32, 64, {D(RX) | D(TX), 0, D(FORWARD), 0}},
};

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n\n%s", usage);
    exit(2);
}

/* Numbers separated by commas. */
struct list {
    unsigned count;
    uint16_t numbers[16];
};

static struct list numbers(const char *option, const char *text, unsigned min, unsigned max)
{
    struct list list = {0};

    for (const char *at = text; list.count < 16; at++) {
        char *end;
        unsigned long number = strtoul(at, &end, 10);

        if (end == at || number < min || number > max || (*end && *end != ','))
            die("--%s %s: numbers from %u to %u are expected", option, text, min, max);
        list.numbers[list.count++] = number;
        if (!*end)
            return list;
        at = end;
    }
    die("--%s: too many", option);
}

/* Names separated by commas, as bits. */
static unsigned names(const char *option, const char *text, const char *const *known, unsigned count)
{
    char *copy = strdup(text), *rest = copy, *one;
    unsigned bits = 0;

    while ((one = strsep(&rest, ","))) {
        unsigned i = 0;

        while (i < count && strcmp(one, known[i]))
            i++;
        if (i == count)
            die("--%s: '%s' is unknown", option, one);
        bits |= 1u << i;
    }
    free(copy);
    return bits;
}

static unsigned path_named(const char *name)
{
    for (unsigned i = 0; i < path_count; i++)
        if (!strcmp(paths[i].name, name))
            return 1u << i;
    die("--path: '%s' is unknown", name);
}

/* The product of what was asked for. */
struct custom {
    bool asked;
    unsigned directions;
    struct list burst, size, ring, queues;
};

static void add_plan(struct options *o, const struct custom *c, unsigned ring, unsigned queues, unsigned burst,
                     unsigned size)
{
    struct plan plan = {ring, queues, burst, size, {0}};

    if (ring & (ring - 1) || ring % burst)
        die("a ring of %u and bursts of %u: rings are powers of two, and bursts divide them", ring, burst);
    if (o->plan_count == MAX_PLANS)
        die("more than %d things to measure", MAX_PLANS);
    for (unsigned stage = 0; stage < STAGES; stage++)
        plan.directions[stage] = c->directions;
    o->plans[o->plan_count++] = plan;
}

static void add_plans(struct options *o, const struct custom *c)
{
    if (!c->asked) {
        memcpy(o->plans, standard, sizeof(standard));
        o->plan_count = sizeof(standard) / sizeof(standard[0]);
        return;
    }
    for (unsigned r = 0; r < c->ring.count; r++)
        for (unsigned q = 0; q < c->queues.count; q++)
            for (unsigned b = 0; b < c->burst.count; b++)
                for (unsigned s = 0; s < c->size.count; s++)
                    add_plan(o, c, c->ring.numbers[r], c->queues.numbers[q], c->burst.numbers[b], c->size.numbers[s]);
}

enum { A = 1, B, B_SCALAR, LOAD, STAGE, PATH, DIRECTION, BURST, SIZE, RING, QUEUES, PASSES, ROUNDS, SECONDS, QUICK,
       INSTRUCTIONS_ONLY, NO_HUGE, CSV, COMMIT, HELP };

static const struct option known[] = {
    {"a", 1, 0, A}, {"b", 1, 0, B}, {"b-scalar", 1, 0, B_SCALAR}, {"load", 1, 0, LOAD}, {"stages", 1, 0, STAGE},
    {"path", 1, 0, PATH}, {"direction", 1, 0, DIRECTION}, {"burst", 1, 0, BURST}, {"size", 1, 0, SIZE},
    {"ring", 1, 0, RING}, {"queues", 1, 0, QUEUES}, {"passes", 1, 0, PASSES}, {"rounds", 1, 0, ROUNDS},
    {"seconds", 1, 0, SECONDS}, {"quick", 0, 0, QUICK}, {"instructions-only", 0, 0, INSTRUCTIONS_ONLY}, {"no-huge", 0, 0, NO_HUGE},
    {"csv", 1, 0, CSV}, {"commit", 1, 0, COMMIT}, {"help", 0, 0, HELP}, {0, 0, 0, 0},
};

static void read_custom(struct custom *c, int option)
{
    c->asked = true;
    switch (option) {
    case DIRECTION: c->directions = names("direction", optarg, direction_name, DIRECTIONS); break;
    case BURST: c->burst = numbers("burst", optarg, 4, MAX_BURST); break;
    case SIZE: c->size = numbers("size", optarg, 60, 2000); break;
    case RING: c->ring = numbers("ring", optarg, 64, 4096); break;
    case QUEUES: c->queues = numbers("queues", optarg, 1, MAX_QUEUES); break;
    }
}

static void read_one(struct options *o, struct custom *c, int option)
{
    switch (option) {
    case A: o->a = optarg; break;
    case B: o->b = optarg; break;
    case B_SCALAR: o->b_scalar = optarg; break;
    case LOAD:
        if (o->library_count == MAX_LIBRARIES)
            die("--load: more than %d", MAX_LIBRARIES);
        o->libraries[o->library_count++] = optarg;
        break;
    case STAGE: o->stages = names("stages", optarg, stage_name, STAGES); break;
    case PATH: o->paths |= path_named(optarg); break;
    case PASSES: o->passes = numbers("passes", optarg, 1, 1000).numbers[0]; break;
    case ROUNDS: o->rounds = numbers("rounds", optarg, 1, 10000).numbers[0]; break;
    case SECONDS: o->seconds = numbers("seconds", optarg, 1, UINT16_MAX).numbers[0]; break;
    case QUICK: o->passes = 2; o->rounds = 3; break;
    case INSTRUCTIONS_ONLY: o->instructions_only = true; break;
    case NO_HUGE: o->no_huge = true; break;
    case CSV: o->csv = optarg; break;
    case COMMIT: o->commit = optarg; break;
    case HELP: fputs(usage, stdout); exit(0);
    case '?': die("see above");
    default: read_custom(c, option);
    }
}

void options_read(struct options *o, int argc, char **argv)
{
    struct custom custom = {.directions = ALL, .burst = {1, {32}}, .size = {1, {64}}, .ring = {1, {256}},
                            .queues = {1, {1}}};
    int option;

    *o = (struct options){.a = "net_virtio_user", .b = "net_vuser", .passes = 6, .rounds = 8, .commit = "unknown",
                          .stages = (1u << STAGES) - 1};
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
        read_one(o, &custom, option);
    if (optind < argc)
        die("'%s' is no option", argv[optind]);
    if (!o->paths)
        o->paths = (1u << path_count) - 1;
    if (o->instructions_only) {
        o->stages = 1u << INSTRUCTIONS;
        o->passes = 1;
    }
    for (unsigned i = 0; i < path_count; i++)
        if (paths[i].lanes_off && !o->b_scalar)
            o->paths &= ~(1u << i);
    add_plans(o, &custom);
}
