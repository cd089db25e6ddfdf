/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The vhost-user protocol as bytes, as far as a null back-end speaks it. */
#ifndef VERSUS_VHOST_USER_H
#define VERSUS_VHOST_USER_H

#include <stdint.h>

#include <linux/vhost_types.h>

enum vhost_user_request {
    GET_FEATURES = 1,
    SET_FEATURES = 2,
    SET_OWNER = 3,
    SET_MEM_TABLE = 5,
    SET_VRING_NUM = 8,
    SET_VRING_ADDR = 9,
    SET_VRING_BASE = 10,
    GET_VRING_BASE = 11,
    SET_VRING_KICK = 12,
    SET_VRING_CALL = 13,
    SET_VRING_ERR = 14,
    GET_PROTOCOL_FEATURES = 15,
    SET_PROTOCOL_FEATURES = 16,
    GET_QUEUE_NUM = 17,
    SET_VRING_ENABLE = 18,
    SET_STATUS = 39,
    GET_STATUS = 40,
};

#define VHOST_USER_VERSION    1u
#define VHOST_USER_REPLY      (1u << 2)
#define VHOST_USER_NEED_REPLY (1u << 3)
#define VHOST_USER_REGIONS    8

#define VHOST_USER_F_PROTOCOL_FEATURES 30
#define VHOST_USER_PROTOCOL_F_MQ        0
#define VHOST_USER_PROTOCOL_F_REPLY_ACK 3
#define VHOST_USER_PROTOCOL_F_STATUS   16

struct vhost_user_header {
    uint32_t request, flags, size;
};

struct vhost_user_region {
    uint64_t guest, len, user, offset;
};

/* Packed: the payload follows the twelve bytes of the header without a gap. */
struct __attribute__((packed)) vhost_user_message {
    struct vhost_user_header header;
    union {
        uint64_t number;
        struct vhost_vring_state state;
        struct vhost_vring_addr addr;
        struct {
            uint32_t count, padding;
            struct vhost_user_region regions[VHOST_USER_REGIONS];
        } table;
    };
};

#endif
