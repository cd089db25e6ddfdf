/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "results.h"

#include <string.h>

static bool same_table(const struct result *x, const struct result *y)
{
    return x->stage == y->stage && x->regime == y->regime && x->setup.direction == y->setup.direction &&
           x->setup.burst == y->setup.burst && x->setup.size == y->setup.size && x->setup.ring == y->setup.ring &&
           x->setup.queues == y->setup.queues;
}

static void heading(const struct result *r, const struct about *about, FILE *out)
{
    static const char *const device[STAGES] = {
        "null device on the same thread", "null device on the same thread", "null device on the other core",
        "DPDK's vhost on the other core",
    };
    const struct setup *s = &r->setup;

    fprintf(out, "\n%s, %s; %s%s%s; burst %u, %u bytes, ring %u, %u queue%s\n", direction_name[s->direction],
            stage_unit[r->stage], device[r->stage], r->regime ? ", " : "", regime_name[r->regime], s->burst, s->size,
            s->ring, s->queues, s->queues == 1 ? "" : "s");
    fprintf(out, "%-27s %15.15s %15.15s %6s %-17s %6s %-13s", "path", about->a, about->b, "ratio", " (quartiles)",
            "rounds", " target");
    if (r->stage == CROSS || r->stage == VHOST)
        fprintf(out, " %21s %21s %15s", "cycles in bursts", "empty", "frames/burst");
    fputc('\n', out);
}

static void row(const struct result *r, const struct about *about, FILE *out)
{
    struct summary s = summarise(r, about);
    char spread[32], target[32] = "";

    snprintf(spread, sizeof(spread), "(%.3f-%.3f)", s.ratio.q1, s.ratio.q3);
    if (s.verdict.asked)
        snprintf(target, sizeof(target), "%s %.4g %s", s.verdict.at_most ? "<=" : ">=", s.verdict.bound,
                 s.verdict.met ? "met" : "MISSED");
    fprintf(out, "%-27s %15.2f %15.2f %6.3f %-17s %6zu %-13s", r->setup.path->name, s.a.median, s.b.median,
            s.ratio.median, spread, r->rounds, target);
    if (r->stage == CROSS || r->stage == VHOST)
        fprintf(out, " %10.1f %10.1f %9.0f%% %9.0f%% %7.1f %7.1f", s.a_other.cycles, s.b_other.cycles,
                100 * s.a_other.empty, 100 * s.b_other.empty, s.a_other.per_burst, s.b_other.per_burst);
    fputc('\n', out);
}

static bool first_of_table(const struct results *results, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (same_table(&results->all[j], &results->all[i]))
            return false;
    return true;
}

static void table(const struct results *results, size_t first, const struct about *about, FILE *out)
{
    heading(&results->all[first], about, out);
    /* In the order of the paths, whatever was measured first. */
    for (unsigned p = 0; p < path_count; p++)
        for (size_t i = first; i < results->count; i++)
            if (results->all[i].setup.path == &paths[p] && same_table(&results->all[i], &results->all[first]))
                row(&results->all[i], about, out);
}

static void verdicts(const struct results *results, const struct about *about, FILE *out)
{
    unsigned asked = 0, met = 0;

    if (!about->compare_with_targets)
        return;
    for (size_t i = 0; i < results->count; i++) {
        struct verdict v = summarise(&results->all[i], about).verdict;

        asked += v.asked;
        met += v.asked && v.met;
    }
    fprintf(out, "\n%u of %u targets met\n", met, asked);
}

void report_tables(const struct results *results, const struct about *about, FILE *out)
{
    fprintf(out, "a: %s, b: %s; %s, commit %s; %s; %s\n", about->a, about->b, about->dpdk, about->commit,
            about->cpu, about->date);
    for (enum stage stage = 0; stage < STAGES; stage++)
        for (enum regime regime = NO_MATTER; regime <= FAR; regime++)
            for (size_t i = 0; i < results->count; i++)
                if (results->all[i].stage == stage && results->all[i].regime == regime && first_of_table(results, i))
                    table(results, i, about, out);
    if (results->drifted || results->disturbed)
        fprintf(out, "\n%zu rounds do not count, for the distance of the cores changed; %zu, for somebody else had a CPU\n",
                results->drifted, results->disturbed);
    verdicts(results, about, out);
}

void report_csv(const struct results *results, const struct about *about, FILE *out)
{
    fprintf(out, "# date: %s\n# cpu: %s\n# dpdk: %s\n# commit: %s\n# a: %s\n# b: %s\n", about->date, about->cpu,
            about->dpdk, about->commit, about->a, about->b);
    fprintf(out, "stage,direction,regime,path,burst,size,ring,queues,unit,rounds,a,a_q1,a_q3,b,b_q1,b_q3,"
                 "ratio,ratio_q1,ratio_q3,bound,met,a_burst_cycles,b_burst_cycles,a_empty,b_empty,"
                 "a_frames_per_burst,b_frames_per_burst,a_refused,b_refused,a_device_idle,b_device_idle\n");
    for (size_t i = 0; i < results->count; i++) {
        const struct result *r = &results->all[i];
        struct summary s = summarise(r, about);

        fprintf(out, "%s,%s,%s,%s,%u,%u,%u,%u,%s,%zu,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f,%.4f,%.4f,%.4f,",
                stage_name[r->stage], direction_name[r->setup.direction], regime_name[r->regime], r->setup.path->name,
                r->setup.burst, r->setup.size, r->setup.ring, r->setup.queues, stage_unit[r->stage], r->rounds,
                s.a.median, s.a.q1, s.a.q3, s.b.median, s.b.q1, s.b.q3, s.ratio.median, s.ratio.q1, s.ratio.q3);
        if (s.verdict.asked)
            fprintf(out, "%s%g,%s,", s.verdict.at_most ? "<=" : ">=", s.verdict.bound, s.verdict.met ? "yes" : "no");
        else
            fprintf(out, ",,");
        fprintf(out, "%.2f,%.2f,%.4f,%.4f,%.2f,%.2f,%.4f,%.4f,%.4f,%.4f\n", s.a_other.cycles, s.b_other.cycles,
                s.a_other.empty, s.b_other.empty, s.a_other.per_burst, s.b_other.per_burst, s.a_other.refused,
                s.b_other.refused, s.a_other.idle, s.b_other.idle);
    }
}

void report_instructions(const struct results *results, const struct about *about, FILE *out)
{
    fprintf(out, "path,direction,burst,%s,%s\n", about->a, about->b);
    for (size_t i = 0; i < results->count; i++) {
        const struct result *r = &results->all[i];
        struct summary s = summarise(r, about);

        if (r->stage == INSTRUCTIONS)
            fprintf(out, "%s,%s,%u,%.2f,%.2f\n", r->setup.path->name, direction_name[r->setup.direction],
                    r->setup.burst, s.a.median, s.b.median);
    }
}
