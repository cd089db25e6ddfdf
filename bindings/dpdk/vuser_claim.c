/* Serving net_virtio_user and virtio_user too, so that old command lines need no change.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 *
 * A second driver has the name of DPDK's. The bus gives a device to the first driver of a fitting name, and which of
 * the two that is depends on how they were loaded. So, when devices are scanned, the bus is asked; where it would not
 * be us, the device is given our own name. That is seen by the program in the name of the port.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_devargs.h>
#include <bus_driver.h>

#include "vuser_pmd.h"

static struct rte_vdev_driver claimed = {
    .driver = { .name = VUSER_CLAIMED, .alias = VUSER_CLAIMED_ALIAS },
    .probe = vuser_probe,
    .remove = vuser_remove,
};

/* What follows the name of DPDK's driver in the name of a device; NULL when it is none of DPDK's. */
static const char *
number(const char *name)
{
    static const char *const names[] = { VUSER_CLAIMED, VUSER_CLAIMED_ALIAS };
    unsigned int i;

    for (i = 0; i < RTE_DIM(names); i++)
        if (strncmp(name, names[i], strlen(names[i])) == 0)
            return name + strlen(names[i]);
    return NULL;
}

bool
vuser_is_claimed(const char *name)
{
    return number(name) != NULL;
}

static bool
is_taken(const char *name)
{
    struct rte_devargs *other;

    RTE_EAL_DEVARGS_FOREACH("vdev", other)
        if (strcmp(other->name, name) == 0)
            return true;
    return false;
}

/* Gives a device our own name. */
static void
rename_device(struct rte_devargs *devargs)
{
    char name[sizeof(devargs->name)];

    snprintf(name, sizeof(name), "%s%s", VUSER_DRIVER, number(devargs->name));
    if (is_taken(name)) {
        VUSER_LOG(ERR, "%s can't be served: another driver has its name, and %s is taken", devargs->name, name);
        return;
    }
    VUSER_LOG(NOTICE, "%s becomes %s, since another driver is asked first for the old name", devargs->name, name);
    snprintf(devargs->name, sizeof(devargs->name), "%s", name);
}

static void
scan(void *arg)
{
    struct rte_bus *bus = rte_bus_find_by_name("vdev");
    struct rte_devargs *devargs;

    (void)arg;
    if (bus == NULL || rte_eal_process_type() != RTE_PROC_PRIMARY)
        return;
    RTE_EAL_DEVARGS_FOREACH("vdev", devargs) {
        struct rte_vdev_driver *driver = NULL;

        if (number(devargs->name) == NULL || devargs->policy == RTE_DEV_BLOCKED)
            continue;
        if (bus->parse(devargs->name, &driver) == 0 && driver != &claimed)
            rename_device(devargs);
    }
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
