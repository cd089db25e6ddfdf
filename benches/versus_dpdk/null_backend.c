/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "null_backend.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

#include "vhost_user.h"

#define BIT(n) (1ull << (n))

/* What a virtual switch offers, but event index, which DPDK's driver does not use: both are to do the same work. */
#define FEATURES \
    (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ANY_LAYOUT) | BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER) | \
     BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_MQ) | \
     BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) | \
     BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) | \
     BIT(VHOST_USER_F_PROTOCOL_FEATURES))
#define PROTOCOL_FEATURES \
    (BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) | BIT(VHOST_USER_PROTOCOL_F_STATUS))

/* A position of a packed ring travels as slot and wrap counter. */
#define WRAP_BIT (1u << 15)

/* Rings and memory are used at the addresses that the driver uses, for it is this process: a second mapping would put
 * each cache line at two addresses, which costs the driver time on CPUs that predict cache ways by address. */
static void set_memory(struct null_backend *backend, const struct vhost_user_message *message)
{
    unsigned count = message->table.count <= VHOST_USER_REGIONS ? message->table.count : 0;

    for (unsigned i = 0; i < count; i++) {
        struct vhost_user_region region = message->table.regions[i];

        backend->memory.regions[i] = (struct null_region){region.guest, region.len, region.user};
    }
    backend->memory.count = count;
}

static void set_base(struct null_backend *backend, struct null_ring *ring, uint32_t base)
{
    ring->packed = backend->features & BIT(VIRTIO_F_RING_PACKED);
    ring->in_order = backend->features & BIT(VIRTIO_F_IN_ORDER);
    ring->next = ring->packed ? base & (WRAP_BIT - 1) : base;
    ring->wrap = base & WRAP_BIT;
}

static uint32_t stop_ring(struct null_ring *ring)
{
    ring->enabled = false;
    if (!ring->packed)
        return ring->next;
    uint32_t position = ring->next | (ring->wrap ? WRAP_BIT : 0);
    return position | position << 16;
}

static void enable(struct null_ring *ring, bool on)
{
    on = on && ring->desc && ring->size;
    if (on)
        null_quiet(ring);
    ring->enabled = on;
}

static struct null_ring *ring_of(struct null_backend *backend, uint64_t index)
{
    return index < 2 * NULL_MAX_QUEUES ? &backend->rings[index] : NULL;
}

/* Of messages about one ring. Whether an answer is in the message now. */
static bool ring_message(struct null_backend *backend, struct vhost_user_message *message)
{
    bool by_fd = message->header.request >= SET_VRING_KICK && message->header.request <= SET_VRING_ERR;
    struct null_ring *ring = ring_of(backend, by_fd ? message->number & 0xff : message->state.index);

    if (!ring)
        return false;
    switch (message->header.request) {
    case SET_VRING_NUM:
        ring->size = message->state.num;
        break;
    case SET_VRING_ADDR:
        ring->desc = message->addr.desc_user_addr;
        ring->avail = message->addr.avail_user_addr;
        ring->used = message->addr.used_user_addr;
        break;
    case SET_VRING_BASE:
        set_base(backend, ring, message->state.num);
        break;
    case SET_VRING_KICK:
        if (!(backend->features & BIT(VHOST_USER_F_PROTOCOL_FEATURES)))
            enable(ring, true);
        break;
    case SET_VRING_ENABLE:
        enable(ring, message->state.num);
        break;
    case GET_VRING_BASE:
        message->state.num = stop_ring(ring);
        return true;
    }
    return false;
}

/* Of all messages. Whether an answer is in the message now. */
static bool handle(struct null_backend *backend, struct vhost_user_message *message)
{
    switch (message->header.request) {
    case GET_FEATURES:
        message->number = FEATURES;
        return true;
    case SET_FEATURES:
        backend->features = message->number;
        return false;
    case GET_PROTOCOL_FEATURES:
        message->number = PROTOCOL_FEATURES;
        return true;
    case GET_QUEUE_NUM:
        message->number = NULL_MAX_QUEUES;
        return true;
    case SET_MEM_TABLE:
        set_memory(backend, message);
        return false;
    case SET_STATUS:
        backend->status = message->number;
        return false;
    case GET_STATUS:
        message->number = backend->status;
        return true;
    default:
        return ring_message(backend, message);
    }
}

/* One message; file descriptors that come with it are not needed here. Whether there was one. */
static bool read_message(int fd, struct vhost_user_message *message)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(VHOST_USER_REGIONS * sizeof(int))];
    } control;
    struct iovec part = {&message->header, sizeof(message->header)};
    struct msghdr envelope = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof(control)};

    if (recvmsg(fd, &envelope, MSG_WAITALL | MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(message->header))
        return false;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&envelope); c; c = CMSG_NXTHDR(&envelope, c)) {
        const unsigned char *fds = CMSG_DATA(c);

        for (size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); n > 0; n--, fds += sizeof(int)) {
            int one;

            memcpy(&one, fds, sizeof(one));
            close(one);
        }
    }
    uint32_t size = message->header.size;
    if (size > sizeof(*message) - sizeof(message->header))
        return false;
    return size == 0 || recv(fd, &message->number, size, MSG_WAITALL) == (ssize_t)size;
}

static bool reply(int fd, struct vhost_user_message *message, bool answered)
{
    if (!answered) {
        if (!(message->header.flags & VHOST_USER_NEED_REPLY))
            return true;
        message->number = 0;
    }
    message->header.flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
    message->header.size = sizeof(message->number);   /* as long as a ring and its position, too */
    ssize_t len = sizeof(message->header) + message->header.size;
    return send(fd, message, len, MSG_NOSIGNAL) == len;
}

static void serve(struct null_backend *backend)
{
    struct vhost_user_message message;

    while (read_message(backend->connection, &message)) {
        pthread_mutex_lock(&backend->lock);
        bool answered = handle(backend, &message);
        pthread_cond_broadcast(&backend->changed);
        pthread_mutex_unlock(&backend->lock);
        if (!reply(backend->connection, &message, answered))
            break;
    }
}

/* A new connection knows nothing of the last one. */
static void forget(struct null_backend *backend)
{
    backend->features = 0;
    backend->status = 0;
    backend->memory.count = 0;
    memset(backend->rings, 0, sizeof(backend->rings));
    for (unsigned i = 0; i < 2 * NULL_MAX_QUEUES; i++)
        backend->rings[i].memory = &backend->memory;
}

static void *control_thread(void *arg)
{
    struct null_backend *backend = arg;
    int fd;

    while ((fd = accept4(backend->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        pthread_mutex_lock(&backend->lock);
        forget(backend);
        backend->connection = fd;
        bool stopping = backend->stopping;
        pthread_mutex_unlock(&backend->lock);
        if (!stopping)
            serve(backend);
        pthread_mutex_lock(&backend->lock);
        forget(backend);
        backend->connection = -1;
        pthread_mutex_unlock(&backend->lock);
        close(fd);
    }
    return NULL;
}

const char *null_backend_start(struct null_backend *backend, const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memset(backend, 0, sizeof(*backend));
    backend->connection = -1;
    pthread_mutex_init(&backend->lock, NULL);
    pthread_cond_init(&backend->changed, NULL);
    snprintf(backend->socket, sizeof(backend->socket), "%s", socket_path);
    memcpy(address.sun_path, backend->socket, sizeof(backend->socket));
    backend->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (backend->listener < 0 || bind(backend->listener, (struct sockaddr *)&address, sizeof(address)) ||
        listen(backend->listener, 1))
        return strerror(errno);
    if (pthread_create(&backend->thread, NULL, control_thread, backend))
        return "no thread for the null back-end";
    return NULL;
}

static bool all_enabled(const struct null_backend *backend, unsigned queues)
{
    for (unsigned i = 0; i < 2 * queues; i++)
        if (!backend->rings[i].enabled)
            return false;
    return true;
}

bool null_backend_ready(struct null_backend *backend, unsigned queues)
{
    struct timespec deadline;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += 5;
    pthread_mutex_lock(&backend->lock);
    while (!all_enabled(backend, queues) &&
           pthread_cond_timedwait(&backend->changed, &backend->lock, &deadline) == 0)
        ;
    bool ready = all_enabled(backend, queues);
    pthread_mutex_unlock(&backend->lock);
    return ready;
}

void null_backend_stop(struct null_backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    backend->stopping = true;
    shutdown(backend->listener, SHUT_RDWR);
    if (backend->connection >= 0)
        shutdown(backend->connection, SHUT_RDWR);
    pthread_mutex_unlock(&backend->lock);
    pthread_join(backend->thread, NULL);
    close(backend->listener);
    unlink(backend->socket);
    pthread_mutex_destroy(&backend->lock);
    pthread_cond_destroy(&backend->changed);
}
