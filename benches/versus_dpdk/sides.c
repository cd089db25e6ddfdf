/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "sides.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char scratch[64];
static const char *const socket_name[4] = {"a", "b", "vhost-a", "vhost-b"};

void scratch_make(void)
{
    const char *parent = getenv("TMPDIR");

    snprintf(scratch, sizeof(scratch), "%s/versus-XXXXXX", parent && strlen(parent) < 40 ? parent : "/tmp");
    if (!mkdtemp(scratch)) {
        perror(scratch);
        exit(1);
    }
}

const char *scratch_path(const char *name, char *buffer, size_t len)
{
    snprintf(buffer, len, "%s/%s", scratch, name);
    return buffer;
}

void scratch_remove(void)
{
    char path[108];

    for (int i = 0; i < 4; i++)
        unlink(scratch_path(socket_name[i], path, sizeof(path)));
    rmdir(scratch);
}

const char *driver_name(const char *spec, char *buffer, size_t len)
{
    snprintf(buffer, len, "%.*s", (int)strcspn(spec, ","), spec);
    return buffer;
}

static const char *open_one(struct side *side, int number, const struct options *options, const struct path *path,
                            uint16_t ring, uint16_t queues, bool null)
{
    const char *spec = number ? options->b : options->a, *more = strchr(spec, ','), *wrong;
    char socket[108], driver[24], name[32], devargs[512];

    side->number = number;
    scratch_path(socket_name[null ? number : 2 + number], socket, sizeof(socket));
    if (null && (wrong = null_backend_start(&side->backend, socket)))
        return wrong;
    snprintf(name, sizeof(name), "%s%d", driver_name(spec, driver, sizeof(driver)), number);
    /* Several queues need the control queue with DPDK's driver. */
    snprintf(devargs, sizeof(devargs), "path=%s,mac=02:00:00:00:00:0%d,queues=%u,queue_size=%u,%s%s%s%s%s", socket, number,
             queues, ring, queues > 1 ? "cq=1," : "", path->devargs, more ? more : "", path->lanes_off && number ? "," : "",
             path->lanes_off && number ? options->b_scalar : "");
    wrong = port_open(&side->port, name, devargs, ring, queues);
    if (!wrong && null && !null_backend_ready(&side->backend, queues)) {
        port_close(&side->port);
        wrong = "the port has started, but its back-end was not told of all rings";
    }
    if (wrong && null)
        null_backend_stop(&side->backend);
    return wrong;
}

static const char *close_one(struct side *side, bool null)
{
    const char *wrong = port_close(&side->port);

    if (null)
        null_backend_stop(&side->backend);
    return wrong;
}

const char *sides_open(struct side sides[2], unsigned first, const struct options *options, const struct path *path,
                       uint16_t ring, uint16_t queues, bool null)
{
    unsigned second = !first;
    const char *wrong = open_one(&sides[first], first, options, path, ring, queues, null);

    if (wrong)
        return wrong;
    wrong = open_one(&sides[second], second, options, path, ring, queues, null);
    if (wrong)
        close_one(&sides[first], null);
    return wrong;
}

const char *sides_close(struct side sides[2], bool null)
{
    const char *a = close_one(&sides[0], null), *b = close_one(&sides[1], null);

    return a ? a : b;
}
