/* The library's log is a part of DPDK's: pmd.net.vuser.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#include <rte_log.h>

#include "vuser_pmd.h"

int vuser_logtype = RTE_LOGTYPE_EAL;

/* Levels of the library, from 1 on, as levels of DPDK's. */
static const uint32_t levels[] = { RTE_LOG_ERR, RTE_LOG_WARNING, RTE_LOG_INFO, RTE_LOG_DEBUG, RTE_LOG_DEBUG };

static __thread bool muted;

/* An attempt that may fail, in this thread: what the library says meanwhile is for the curious. */
void
vuser_log_attempt(bool on)
{
    muted = on;
}

static void
forward(int level, const char *message, void *ctx)
{
    const uint32_t theirs = levels[RTE_MIN(RTE_MAX(level, 1), (int)RTE_DIM(levels)) - 1];

    (void)ctx;
    rte_log(muted ? RTE_LOG_DEBUG : theirs, vuser_logtype, "vuser: %s\n", message);
}

void
vuser_log_init(void)
{
    int type = rte_log_register_type_and_pick_level("pmd.net.vuser", RTE_LOG_NOTICE);

    if (type >= 0)
        vuser_logtype = type;
}

/* Lets through what DPDK would print now; called with every device, since the options of the EAL come after init. */
void
vuser_log_follow(void)
{
    int level = RTE_DIM(levels) - 1;

    while (level > 1 && !rte_log_can_log(vuser_logtype, levels[level - 1]))
        level--;
    if (vuser_set_log(level, forward, NULL) != 0)
        VUSER_LOG(WARNING, "%s", vuser_last_error());
}
