/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * versus_dpdk: what a DPDK application pays for its virtio-user driver, DPDK's and ours side by side.
 *
 * Both drivers have a port in this process, with the same devargs, each with a back-end of its own of the same kind. They
 * take turns of a few milliseconds, a b a b; what is reported is the median of the ratios of each round. The stages:
 *
 *   cpu            the device does nothing and does so on the driver's own thread, between the bursts (same_core.c)
 *   instructions   the same, single-stepped
 *   cross          the device does nothing on the other core, in a loop (other_core.c)
 *   vhost          the device is DPDK's vhost, in another process on the other core (vhost.c)
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_debug.h>
#include <rte_eal.h>
#include <rte_lcore.h>
#include <rte_version.h>

#include "marker.h"
#include "options.h"
#include "results.h"
#include "sides.h"
#include "steps.h"
#include "vhost.h"

/* Rounds that do not count are made up for, up to so many times what is wanted. */
#define ATTEMPTS 3

static struct options options;
static struct results results;
static struct side sides[2];
static unsigned failures;
/* Which driver goes first, for ports and for slices. It alternates, so that neither has the better place in memory. */
static unsigned first;

/* By a signal, such as that of Ctrl-C, or when the time is up: what has been measured by then is reported. */
static volatile sig_atomic_t stopping;

static void on_signal(int signal_number)
{
    (void)signal_number;
    stopping = 1;
}

static void catch_signals(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    action.sa_flags = (int)SA_RESETHAND;   /* the second one ends the program */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    alarm(options.seconds);
}

static void progress(unsigned pass, const struct path *path, const char *what)
{
    bool terminal = isatty(STDERR_FILENO);

    fprintf(stderr, "%spass %u of %u: %s: %s%s", terminal ? "\r\033[K" : "", pass + 1, options.passes, path->name, what,
            terminal ? "" : "\n");
    if (terminal && !what[0])
        fputc('\r', stderr);
}

static void failed(const struct setup *setup, enum stage stage, const char *driver, const char *wrong)
{
    failures++;
    fprintf(stderr, "\nFAILED: %s, %s %s, burst %u, %u bytes, ring %u, %u queues, %s: %s\n", setup->path->name,
            stage_name[stage], direction_name[setup->direction], setup->burst, setup->size, setup->ring, setup->queues,
            driver, wrong);
}

typedef const char *(*slice_fn)(struct side *side, const struct setup *setup, struct sample *sample);

static const slice_fn slices[STAGES] = {cpu_slice, instructions_slice, cross_slice, vhost_slice};

static bool both_slices(enum stage stage, const struct setup *setup, struct sample samples[2])
{
    for (unsigned turn = 0; turn < 2; turn++) {
        unsigned i = turn ^ first;
        const char *wrong = slices[stage](&sides[i], setup, &samples[i]);

        if (wrong) {
            failed(setup, stage, sides[i].port.name, wrong);
            return false;
        }
    }
    return true;
}

/* One round. It counts when nobody disturbed it and, if the other core takes part, the distance stayed the same. */
static bool round_of(enum stage stage, const struct setup *setup, bool *counted)
{
    bool alone = stage == CPU || stage == INSTRUCTIONS;
    enum regime regime = NO_MATTER;
    struct sample samples[2] = {0};
    double before = alone ? 0 : marker();

    if (!both_slices(stage, setup, samples))
        return false;
    if (!alone)
        regime = marker_regime(before, marker());
    *counted = false;
    if (stage != INSTRUCTIONS && (samples[0].disturbed || samples[1].disturbed))
        results.disturbed++;
    else if (!alone && regime == NO_MATTER)
        results.drifted++;
    else {
        results_add(&results, stage, setup, regime, &samples[0], &samples[1]);
        *counted = true;
    }
    return true;
}

static void measure(enum stage stage, const struct setup *setup)
{
    unsigned wanted = stage == INSTRUCTIONS ? 1 : options.rounds;   /* counts are exact */
    bool counted;

    for (unsigned tries = ATTEMPTS * wanted; wanted && tries && !stopping; tries--) {
        if (!round_of(stage, setup, &counted))
            return;
        wanted -= counted;
    }
}

static void measure_plan(const struct path *path, const struct plan *plan, unsigned stages)
{
    for (enum stage stage = 0; stage < STAGES; stage++)
        for (enum direction direction = 0; direction < DIRECTIONS; direction++) {
            struct setup setup = {path, direction, plan->burst, plan->size, plan->ring, plan->queues};

            if (stages & 1u << stage && plan->directions[stage] & 1u << direction)
                measure(stage, &setup);
        }
}

static bool wanted(const struct plan *plan, unsigned stages)
{
    unsigned directions = 0;

    for (enum stage stage = 0; stage < STAGES; stage++)
        if (stages & 1u << stage)
            directions |= plan->directions[stage];
    return directions;
}

/* All plans that take ports of the same shape as this one's. */
static void measure_shape(const struct path *path, const struct plan *shape, unsigned stages, bool null)
{
    const struct setup setup = {path, RX, shape->burst, shape->size, shape->ring, shape->queues};
    const char *wrong = null ? NULL : vhost_listen(shape->queues);

    if (!wrong)
        wrong = sides_open(sides, first, &options, path, shape->ring, shape->queues, null);
    if (wrong) {
        failed(&setup, null ? CPU : VHOST, "opening", wrong);
        return;
    }
    if (!null)
        vhost_ready();
    for (unsigned i = 0; i < options.plan_count; i++)
        if (options.plans[i].ring == shape->ring && options.plans[i].queues == shape->queues)
            measure_plan(path, &options.plans[i], stages);
    if (!null)
        vhost_release();
    wrong = sides_close(sides, null);
    /* A testpmd that polls would take the other core from what is measured next. */
    if (!null)
        vhost_ready();
    if (wrong)
        failed(&setup, null ? CPU : VHOST, "closing", wrong);
}

static bool shape_is_new(unsigned plan, unsigned stages)
{
    for (unsigned i = 0; i < plan; i++)
        if (options.plans[i].ring == options.plans[plan].ring && options.plans[i].queues == options.plans[plan].queues &&
            wanted(&options.plans[i], stages))
            return false;
    return true;
}

static void measure_path(const struct path *path, unsigned stages, bool null)
{
    for (unsigned i = 0; i < options.plan_count; i++)
        if (wanted(&options.plans[i], stages) && shape_is_new(i, stages))
            measure_shape(path, &options.plans[i], stages, null);
}

static void measure_all(void)
{
    const unsigned vhost = 1u << VHOST, instructions = 1u << INSTRUCTIONS;

    for (unsigned pass = 0; pass < options.passes; pass++)
        for (unsigned p = 0; p < path_count; p++) {
            unsigned stages = options.stages & ~vhost & ~(pass ? instructions : 0);

            if (stopping)
                break;
            first = pass & 1;
            if (!(options.paths & 1u << p))
                continue;
            if (stages) {
                progress(pass, &paths[p], "null device");
                measure_path(&paths[p], stages, true);
            }
            if (options.stages & vhost) {
                progress(pass, &paths[p], "DPDK's vhost");
                measure_path(&paths[p], vhost, false);
            }
        }
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* The first two CPUs that we may use; fewer than two leave nothing for the other core. */
static unsigned choose_cpus(int cpus[2])
{
    cpu_set_t set;
    unsigned count = 0;

    sched_getaffinity(0, sizeof(set), &set);
    for (int cpu = 0; cpu < CPU_SETSIZE && count < 2; cpu++)
        if (CPU_ISSET(cpu, &set))
            cpus[count++] = cpu;
    return count;
}

static void start_eal(const char *program, const int cpus[2], unsigned count)
{
    char lcores[64];
    char *argv[24 + 2 * MAX_LIBRARIES] = {(char *)program, "--lcores", lcores, "--no-pci", "--no-telemetry",
                                          "--log-level=error", "--force-max-simd-bitwidth=512"};
    int argc = 7;

    if (count == 2)
        snprintf(lcores, sizeof(lcores), "0@%d,1@%d", cpus[0], cpus[1]);
    else
        snprintf(lcores, sizeof(lcores), "0@%d", cpus[0]);
    if (options.no_huge) {
        argv[argc++] = "--no-huge";
    } else {
        argv[argc++] = "--in-memory";
        argv[argc++] = "--single-file-segments";
    }
    argv[argc++] = "-m";
    argv[argc++] = "128";
    for (unsigned i = 0; i < options.library_count; i++) {
        argv[argc++] = "-d";
        argv[argc++] = (char *)options.libraries[i];
    }
    if (rte_eal_init(argc, argv) < 0)
        rte_exit(EXIT_FAILURE, "EAL did not start%s\n", options.no_huge ? "" : "; without huge pages: --no-huge");
}

static void describe(struct about *about, char *a, char *b, size_t len)
{
    char line[256];
    FILE *info = fopen("/proc/cpuinfo", "r");
    time_t now = time(NULL);

    *about = (struct about){.a = driver_name(options.a, a, len), .b = driver_name(options.b, b, len),
                            .dpdk = rte_version(), .commit = options.commit, .cpu = "unknown CPU"};
    about->compare_with_targets = strcmp(a, b) != 0;
    while (info && fgets(line, sizeof(line), info))
        if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
            snprintf(about->cpu, sizeof(about->cpu), "%.*s", (int)strcspn(strchr(line, ':') + 2, "\n"),
                     strchr(line, ':') + 2);
            break;
        }
    if (info)
        fclose(info);
    strftime(about->date, sizeof(about->date), "%Y-%m-%d %H:%M", localtime(&now));
}

static void report(void)
{
    struct about about;
    char a[24], b[24];
    FILE *csv;

    describe(&about, a, b, sizeof(a));
    if (options.instructions_only)
        report_instructions(&results, &about, stdout);
    else
        report_tables(&results, &about, stdout);
    if (!options.csv)
        return;
    csv = fopen(options.csv, "w");
    if (!csv) {
        perror(options.csv);
        failures++;
        return;
    }
    report_csv(&results, &about, csv);
    fclose(csv);
}

int main(int argc, char **argv)
{
    const unsigned other_core = 1u << CROSS | 1u << VHOST;
    int cpus[2];
    unsigned count = choose_cpus(cpus);
    const char *wrong = NULL;

    options_read(&options, argc, argv);
    if (count < 2 && options.stages & other_core) {
        fprintf(stderr, "left out: the stages cross and vhost, for they need two CPUs\n");
        options.stages &= ~other_core;
    }
    start_eal(argv[0], cpus, count);
    scratch_make();
    traffic_calibrate();
    steps_init();
    if (options.stages & 1u << VHOST) {
        vhost_init(cpus[1], options.no_huge);
        if ((wrong = vhost_listen(1))) {
            fprintf(stderr, "left out: the stage vhost: %s\n", wrong);
            options.stages &= ~(1u << VHOST);
            vhost_stop();
        }
        vhost_ready();
    }
    catch_signals();
    measure_all();
    vhost_stop();
    if (stopping)
        fprintf(stderr, "ended before all was measured\n");
    report();
    results_free(&results);
    scratch_remove();
    rte_eal_cleanup();
    if (failures)
        fprintf(stderr, "%u failures, see above\n", failures);
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
