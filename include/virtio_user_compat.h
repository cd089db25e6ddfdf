// The names and the order of arguments of DPDK's virtio-user, as it was written first, over vuser.
//
// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//
// DPDK's own archives export functions of these names; include this only in programs that are not linked with them.
// Each function does what its namesake does; queues are set up and bursts are made with the functions of vuser.h on
// virtio_user_dev::vuser.

#ifndef VIRTIO_USER_COMPAT_H
#define VIRTIO_USER_COMPAT_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vuser.h"

#ifdef __cplusplus
extern "C" {
#endif

struct virtio_user_dev {
    struct vuser_dev *vuser;
};

// Connects to the back-end at path. mac may be NULL; ifname, or what it points to, too. 0 or a negative errno.
static inline int virtio_user_dev_init(struct virtio_user_dev *dev, const char *path, int queues, int cq,
                                       int queue_size, const char *mac, char **ifname, int server, int mrg_rxbuf,
                                       int in_order, int packed_vq)
{
    struct vuser_config config;
    char args[640];
    const char *iface = ifname ? *ifname : NULL;
    int n, err;

    dev->vuser = NULL;
    n = snprintf(args, sizeof(args),
                 "path=%s,queues=%d,cq=%d,queue_size=%d,server=%d,mrg_rxbuf=%d,in_order=%d,packed_vq=%d%s%s%s%s",
                 path, queues, cq, queue_size, server, mrg_rxbuf, in_order, packed_vq, mac ? ",mac=" : "",
                 mac ? mac : "", iface ? ",iface=" : "", iface ? iface : "");
    if (n < 0 || (size_t)n >= sizeof(args))
        return -ENAMETOOLONG;
    err = vuser_config_init(&config, sizeof(config));
    if (err == 0)
        err = vuser_config_parse(&config, args);
    return err ? err : vuser_dev_init(&config, &dev->vuser);
}

static inline void virtio_user_dev_uninit(struct virtio_user_dev *dev)
{
    vuser_dev_uninit(dev->vuser);
    dev->vuser = NULL;
}

static inline int virtio_user_dev_set_features(struct virtio_user_dev *dev, uint64_t features)
{
    return vuser_dev_set_features(dev->vuser, features);
}

static inline int virtio_user_start_device(struct virtio_user_dev *dev)
{
    return vuser_dev_start(dev->vuser);
}

static inline int virtio_user_stop_device(struct virtio_user_dev *dev)
{
    return vuser_dev_stop(dev->vuser);
}

static inline int virtio_user_set_status(struct virtio_user_dev *dev, uint8_t status)
{
    return vuser_dev_set_status(dev->vuser, status);
}

static inline uint8_t virtio_user_get_status(struct virtio_user_dev *dev)
{
    return vuser_dev_get_status(dev->vuser);
}

#ifdef __cplusplus
}
#endif

#endif
