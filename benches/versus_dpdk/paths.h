/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The ten ways in which DPDK's virtio driver moves frames, and what is asked of ours on each of them. */
#ifndef VERSUS_PATHS_H
#define VERSUS_PATHS_H

#include <stdbool.h>

enum direction { RX, TX, FORWARD };
#define DIRECTIONS 3

extern const char *const direction_name[DIRECTIONS];

/* What net_vuser is to reach; 0: nothing is asked. */
struct targets {
    double cpu_rx, cpu_tx;       /* at most: cycles per packet, ours / DPDK's */
    double near, far;            /* at least: forwarded packets, ours / DPDK's, by distance of the cores */
    double rx_instr, tx_instr;   /* at most: instructions per packet */
};

struct path {
    const char *name;
    const char *devargs;         /* the same for both drivers */
    bool packed, mergeable;
    bool lanes_off;              /* our driver is given the devargs of --b-scalar as well */
    struct targets targets;
};

extern const struct path paths[];
extern const unsigned path_count;

#endif
