/* Device arguments: one of them is the driver's, the others the library knows.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_vect.h>

#include "vuser_pmd.h"

/* Takes "bounce=..." out of the arguments; 0, or -EINVAL when it is no switch. */
static int
take_bounce(struct vuser_port *port, char *args)
{
    char *from = args, *value, *end;

    while (strncmp(from, "bounce=", 7) != 0) {
        from = strchr(from, ',');
        if (from == NULL)
            return 0;
        from++;
    }
    value = from + 7;
    end = value + strcspn(value, ",");
    if (end - value != 1 || (*value != '0' && *value != '1')) {
        VUSER_LOG(ERR, "port %u: bounce=%.*s: it is a switch, 0 or 1", port->id, (int)(end - value), value);
        return -EINVAL;
    }
    port->bounce = *value == '1' ? VUSER_BOUNCE_ALWAYS : VUSER_BOUNCE_NEVER;
    if (*end == ',')
        memmove(from, end + 1, strlen(end + 1) + 1);
    else if (from == args)
        *from = '\0';
    else
        from[-1] = '\0';
    return 0;
}

/* The EAL says how wide vectors may be; simd= of the devargs has the last word. */
static void
limit_simd(struct vuser_config *config)
{
    const char *widest = "avx512";

    if (config->simd[0] != '\0' && strcmp(config->simd, "auto") != 0)
        return;
    if (rte_vect_get_max_simd_bitwidth() < RTE_VECT_SIMD_256)
        widest = "scalar";
    else if (rte_vect_get_max_simd_bitwidth() < RTE_VECT_SIMD_512)
        widest = "avx2";
    else
        widest = "auto";
    snprintf(config->simd, sizeof(config->simd), "%s", widest);
}

int
vuser_devargs_parse(struct vuser_port *port, const char *args)
{
    char *copy = strdup(args);
    int ret;

    if (copy == NULL)
        return -ENOMEM;
    ret = vuser_config_init(&port->config, sizeof(port->config));
    if (ret == 0)
        ret = take_bounce(port, copy);
    if (ret == 0) {
        ret = vuser_config_parse(&port->config, copy);
        if (ret != 0)
            vuser_failed(port, "device arguments", ret);
    }
    free(copy);
    if (ret != 0)
        return ret;
    if (port->config.events_manual) {
        VUSER_LOG(ERR, "port %u: events=manual: a program of DPDK's has nothing that would look after them; leave it out",
                  port->id);
        return -EINVAL;
    }
    port->config.port = port->id;
    limit_simd(&port->config);
    return 0;
}
