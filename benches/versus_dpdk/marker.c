/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "marker.h"

#include <rte_launch.h>
#include <rte_lcore.h>

#include "clock.h"
#include "stats.h"

#define BATCHES 15
#define TRIPS   24
/* On the machines this was made for a round trip takes 170 to 220 cycles, or 830 to 900, and nothing between. */
#define NEAR_BELOW 400
#define FAR_ABOVE  600

static struct {
    _Alignas(128) uint32_t turn;
    _Alignas(128) uint32_t end;
} line;

static int answer(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < BATCHES * TRIPS; i++) {
        while (__atomic_load_n(&line.turn, __ATOMIC_ACQUIRE) != 2 * i + 1)
            ;
        __atomic_store_n(&line.turn, 2 * i + 2, __ATOMIC_RELEASE);
    }
    return 0;
}

double marker(void)
{
    unsigned other = rte_get_next_lcore(-1, 1, 0);
    double batches[BATCHES];

    line.turn = 0;
    rte_eal_remote_launch(answer, NULL, other);
    for (uint32_t b = 0, i = 0; b < BATCHES; b++) {
        uint64_t begin = fenced_tsc();

        for (uint32_t trip = 0; trip < TRIPS; trip++, i++) {
            __atomic_store_n(&line.turn, 2 * i + 1, __ATOMIC_RELEASE);
            while (__atomic_load_n(&line.turn, __ATOMIC_ACQUIRE) != 2 * i + 2)
                ;
        }
        batches[b] = (double)(fenced_tsc() - begin) / TRIPS;
    }
    rte_eal_wait_lcore(other);
    return quartiles(batches, BATCHES).median;
}

static enum regime of(double cycles)
{
    return cycles < NEAR_BELOW ? NEAR : cycles > FAR_ABOVE ? FAR : NO_MATTER;
}

enum regime marker_regime(double before, double after)
{
    return of(before) == of(after) ? of(before) : NO_MATTER;
}
