/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "paths.h"

const char *const direction_name[DIRECTIONS] = {"rx", "tx", "forward"};

#define SPLIT  .packed = false
#define PACKED .packed = true

/* The devargs select these paths as long as no receive offload is asked for. */
const struct path paths[] = {
    {"split mergeable", "packed_vq=0,mrg_rxbuf=1,in_order=0", SPLIT, .mergeable = true,
     .targets = {0.20, 0.20, 4.0, 3.0, 27, 45}},
    {"split in-order mergeable", "packed_vq=0,mrg_rxbuf=1,in_order=1", SPLIT, .mergeable = true,
     .targets = {0.27, 0.24, 3.3, 2.3, 27, 45}},
    {"split in-order", "packed_vq=0,mrg_rxbuf=0,in_order=1", SPLIT, .targets = {0.27, 0.24, 3.3, 2.3, 20, 45}},
    {"split plain", "packed_vq=0,mrg_rxbuf=0,in_order=0", SPLIT, .targets = {0.17, 0.20, 4.0, 3.0, 20, 45}},
    {"split vector", "packed_vq=0,mrg_rxbuf=0,in_order=0,vectorized=1", SPLIT,
     .targets = {0.50, 0.20, 3.0, 2.5, 20, 45}},
    {"packed mergeable", "packed_vq=1,mrg_rxbuf=1,in_order=0", PACKED, .mergeable = true,
     .targets = {0.26, 0.25, 2.8, 1.9, 31, 45}},
    {"packed in-order mergeable", "packed_vq=1,mrg_rxbuf=1,in_order=1", PACKED, .mergeable = true,
     .targets = {0.26, 0.25, 2.8, 1.9, 31, 45}},
    {"packed in-order", "packed_vq=1,mrg_rxbuf=0,in_order=1", PACKED, .targets = {0.22, 0.25, 2.8, 2.5, 24, 45}},
    {"packed plain", "packed_vq=1,mrg_rxbuf=0,in_order=0", PACKED, .targets = {0.22, 0.25, 2.8, 2.5, 24, 45}},
    {"packed vector", "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1", PACKED,
     .targets = {0.28, 0.38, 2.4, 2.3, 24, 45}},
    /* Not a path of DPDK's: its best against ours on a CPU without wide lanes. */
    {"packed vector (ours scalar)", "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1", PACKED, .lanes_off = true,
     .targets = {0.40, 0.40, 2.0, 0, 0, 0}},
};

const unsigned path_count = sizeof(paths) / sizeof(paths[0]);
