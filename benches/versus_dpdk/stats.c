/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "stats.h"

#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Between two figures, as far as the place lies between them. */
static double at(const double *sorted, size_t n, double share)
{
    double place = share * (n - 1);
    size_t below = place;

    return below + 1 < n ? sorted[below] + (place - below) * (sorted[below + 1] - sorted[below]) : sorted[n - 1];
}

struct quartiles quartiles(double *figures, size_t n)
{
    if (n == 0)
        return (struct quartiles){0, 0, 0};
    qsort(figures, n, sizeof(*figures), compare);
    return (struct quartiles){at(figures, n, 0.25), at(figures, n, 0.5), at(figures, n, 0.75)};
}
