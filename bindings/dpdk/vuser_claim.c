/* Serving net_virtio_user and virtio_user too, so that old command lines need no change.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 *
 * A second driver has the name of DPDK's. The bus gives a device to the first driver of a fitting name, and which of the
 * two that is depends on how they were loaded. So, when all are there and devices are about to be looked for, the bus is
 * asked whom it would take; who is before us is registered anew, and so comes after us.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bus_driver.h>

#include "vuser_pmd.h"

static const char *const names[] = { VUSER_CLAIMED, VUSER_CLAIMED_ALIAS };

static struct rte_vdev_driver claimed = {
    .driver = { .name = VUSER_CLAIMED, .alias = VUSER_CLAIMED_ALIAS },
    .probe = vuser_probe,
    .remove = vuser_remove,
};

bool
vuser_is_claimed(const char *name)
{
    unsigned int i;

    for (i = 0; i < RTE_DIM(names); i++)
        if (strncmp(name, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* Puts whoever would get a device of this name behind us. */
static void
go_before(const struct rte_bus *bus, const char *name)
{
    struct rte_vdev_driver *driver = NULL;

    while (bus->parse(name, &driver) == 0 && driver != &claimed) {
        VUSER_LOG(INFO, "devices %s*: %s comes after us", name, driver->driver.name);
        rte_vdev_unregister(driver);
        rte_vdev_register(driver);
    }
}

static void
scan(void *arg)
{
    const struct rte_bus *bus = rte_bus_find_by_name("vdev");
    unsigned int i;

    (void)arg;
    for (i = 0; bus != NULL && i < RTE_DIM(names); i++)
        go_before(bus, names[i]);
}

void
vuser_claim_init(void)
{
    const char *wanted = getenv("VUSER_CLAIM_VIRTIO_USER");

    if (wanted == NULL || strcmp(wanted, "1") != 0)
        return;
    rte_vdev_register(&claimed);
    if (rte_vdev_add_custom_scan(scan, NULL) != 0)
        fprintf(stderr, VUSER_DRIVER ": no memory: " VUSER_CLAIMED " is served only if no other driver has the name\n");
}
