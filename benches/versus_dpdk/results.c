/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "results.h"

#include <stdlib.h>
#include <string.h>

const char *const stage_name[STAGES] = {"cpu", "instructions", "cross", "vhost"};
const char *const stage_unit[STAGES] = {"cycles/packet", "instructions/packet", "Mpps", "Mpps"};
const char *const regime_name[3] = {"", "near", "far"};

static void *grow(void *array, size_t count, size_t size)
{
    /* At powers of two, so that growing needs no field of its own. */
    if (count & (count - 1))
        return array;
    array = realloc(array, (count ? 2 * count : 1) * size);
    if (!array)
        abort();
    return array;
}

static bool same(const struct setup *x, const struct setup *y)
{
    return x->path == y->path && x->direction == y->direction && x->burst == y->burst && x->size == y->size &&
           x->ring == y->ring && x->queues == y->queues;
}

static struct result *find(struct results *results, enum stage stage, const struct setup *setup, enum regime regime)
{
    for (size_t i = 0; i < results->count; i++) {
        struct result *r = &results->all[i];

        if (r->stage == stage && r->regime == regime && same(&r->setup, setup))
            return r;
    }
    results->all = grow(results->all, results->count, sizeof(*results->all));
    struct result *r = &results->all[results->count++];
    *r = (struct result){.stage = stage, .regime = regime, .setup = *setup};
    return r;
}

void results_add(struct results *results, enum stage stage, const struct setup *setup, enum regime regime,
                 const struct sample *a, const struct sample *b)
{
    struct result *r = find(results, stage, setup, regime);

    r->a = grow(r->a, r->rounds, sizeof(*r->a));
    r->b = grow(r->b, r->rounds, sizeof(*r->b));
    r->a[r->rounds] = *a;
    r->b[r->rounds++] = *b;
}

void results_free(struct results *results)
{
    for (size_t i = 0; i < results->count; i++) {
        free(results->all[i].a);
        free(results->all[i].b);
    }
    free(results->all);
}

#define MEDIAN(field) \
    do { \
        for (size_t i = 0; i < n; i++) \
            figures[i] = samples[i].field; \
        medians.field = quartiles(figures, n).median; \
    } while (0)

static struct sample others(const struct sample *samples, size_t n, double *figures)
{
    struct sample medians = {0};

    MEDIAN(cycles);
    MEDIAN(empty);
    MEDIAN(per_burst);
    MEDIAN(refused);
    MEDIAN(idle);
    return medians;
}

static bool standard(const struct setup *setup)
{
    return setup->burst == 32 && setup->size == 64 && setup->ring == 256 && setup->queues == 1;
}

/* The bound on a result; the targets are those of the standard setup. */
static struct verdict asked(const struct result *r)
{
    const struct targets *targets = &r->setup.path->targets;
    bool rx = r->setup.direction == RX, tx = r->setup.direction == TX;
    struct verdict v = {.of_ratio = true};

    if (r->stage == VHOST)
        v.bound = 1.0;
    else if (!standard(&r->setup))
        v.bound = 0;
    else if (r->stage == CROSS)
        v.bound = rx || tx ? 0 : r->regime == NEAR ? targets->near : targets->far;
    else if (r->stage == CPU)
        v.bound = rx ? targets->cpu_rx : tx ? targets->cpu_tx : 0;
    else
        v.bound = rx ? targets->rx_instr : tx ? targets->tx_instr : 0;
    v.of_ratio = r->stage != INSTRUCTIONS;
    v.at_most = r->stage == CPU || r->stage == INSTRUCTIONS;
    v.asked = v.bound > 0;
    return v;
}

struct summary summarise(const struct result *r, const struct about *about)
{
    double *figures = malloc(r->rounds * sizeof(*figures));
    struct summary s = {.verdict = {0}};

    if (!figures)
        abort();
    for (size_t i = 0; i < r->rounds; i++)
        figures[i] = r->a[i].value;
    s.a = quartiles(figures, r->rounds);
    for (size_t i = 0; i < r->rounds; i++)
        figures[i] = r->b[i].value;
    s.b = quartiles(figures, r->rounds);
    for (size_t i = 0; i < r->rounds; i++)
        figures[i] = r->b[i].value / r->a[i].value;
    s.ratio = quartiles(figures, r->rounds);
    s.a_other = others(r->a, r->rounds, figures);
    s.b_other = others(r->b, r->rounds, figures);
    free(figures);
    if (about->compare_with_targets) {
        double figure;

        s.verdict = asked(r);
        figure = s.verdict.of_ratio ? s.ratio.median : s.b.median;
        s.verdict.met = s.verdict.at_most ? figure <= s.verdict.bound : figure >= s.verdict.bound;
    }
    return s;
}
