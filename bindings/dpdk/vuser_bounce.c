/* Bursts that copy between the application's buffers and buffers of the library's, for memory that can't be shared.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 */
#include <string.h>

#include <rte_mbuf.h>

#include "vuser_pmd.h"

/* Packets at once. */
#define BULK 32

/* The library's buffers are told apart by the compiler only (vuser_layout.h). */
static inline struct rte_mbuf *
as_rte(struct vuser_mbuf *m)
{
    return (struct rte_mbuf *)m;
}

/* Bytes that a receive buffer of ours must hold, so that the device finds as much room as in the application's. */
static uint16_t
data_size(const struct vuser_port *port)
{
    uint16_t i, size = RTE_MBUF_DEFAULT_BUF_SIZE;

    for (i = 0; i < VUSER_MAX_PAIRS; i++)
        if (port->rxq[i].pool != NULL)
            size = RTE_MAX(size, rte_pktmbuf_data_room_size(port->rxq[i].pool));
    return size;
}

/* Rings, what queues keep near, and a burst of each in work, in which a frame may be of several buffers. */
static uint32_t
buffers(const struct vuser_port *port)
{
    uint32_t i, n = 0;

    for (i = 0; i < VUSER_MAX_PAIRS; i++) {
        if (port->rxq[i].pool != NULL)
            n += port->rxq[i].nb_desc + 80 + 8 * BULK;
        if (port->txq[i].set_up)
            n += port->txq[i].nb_desc + 80 + 8 * BULK;
    }
    return n;
}

int
vuser_bounce_init(struct vuser_port *port)
{
    const struct vuser_pool_config config = {
        .size = sizeof(config),
        .count = buffers(port),
        .data_size = data_size(port),
        .headroom = RTE_PKTMBUF_HEADROOM,
    };
    struct vuser_pool *pool;
    int ret = vuser_pool_create(&config, &pool);

    if (ret != 0)
        return ret;
    /* Queues still have the one before until they are set up with this one. */
    vuser_pool_free(port->pool);
    port->pool = pool;
    return 0;
}

void
vuser_bounce_fini(struct vuser_port *port)
{
    vuser_pool_free(port->pool);
    port->pool = NULL;
    port->bouncing = false;
}

/* Appends bytes to a packet of the application's, which grows by segments; false when its pool is empty. */
static bool
append(struct rte_mbuf *head, struct rte_mbuf **last, const uint8_t *data, uint32_t len)
{
    while (len > 0) {
        uint16_t part = RTE_MIN(len, rte_pktmbuf_tailroom(*last));
        struct rte_mbuf *m;

        if (part > 0) {
            memcpy(rte_pktmbuf_mtod_offset(*last, void *, (*last)->data_len), data, part);
            (*last)->data_len += part;
            head->pkt_len += part;
            data += part;
            len -= part;
            continue;
        }
        m = rte_pktmbuf_alloc(head->pool);
        if (m == NULL)
            return false;
        (*last)->next = m;
        *last = m;
        head->nb_segs++;
    }
    return true;
}

/* A received packet in buffers of the application's; NULL when there are none. */
static struct rte_mbuf *
received(const struct vuser_rxq *rxq, const struct rte_mbuf *from)
{
    struct rte_mbuf *to = rte_pktmbuf_alloc(rxq->pool), *last = to;
    const struct rte_mbuf *m;

    if (to == NULL)
        return NULL;
    for (m = from; m != NULL; m = m->next) {
        if (!append(to, &last, rte_pktmbuf_mtod(m, const uint8_t *), m->data_len)) {
            rte_pktmbuf_free(to);
            return NULL;
        }
    }
    to->port = from->port;
    to->ol_flags |= from->ol_flags;
    to->packet_type = from->packet_type;
    to->vlan_tci = from->vlan_tci;
    to->hash.rss = from->hash.rss;
    to->tx_offload = from->tx_offload;
    return to;
}

static uint16_t
receive_bulk(struct vuser_rxq *rxq, struct rte_mbuf **mbufs, uint16_t n)
{
    struct vuser_mbuf *ours[BULK];
    uint16_t i, kept = 0;

    n = vuser_rx_burst(rxq->queue, ours, n);
    for (i = 0; i < n; i++) {
        mbufs[kept] = received(rxq, as_rte(ours[i]));
        if (mbufs[kept] != NULL)
            kept++;
    }
    if (n > 0)
        vuser_mbuf_free_bulk(ours, n);
    rxq->no_mbuf += n - kept;
    return kept;
}

uint16_t
vuser_bounce_rx(void *queue, struct rte_mbuf **mbufs, uint16_t n)
{
    struct vuser_rxq *rxq = queue;
    uint16_t done = 0, got = BULK;

    while (done < n && got == BULK) {
        got = receive_bulk(rxq, mbufs + done, RTE_MIN(n - done, BULK));
        done += got;
    }
    return vuser_revises(rxq->port) ? vuser_revise(rxq->port, mbufs, done) : done;
}

/* The next piece of ours for a packet that is sent. */
static struct rte_mbuf *
extend(struct vuser_pool *pool, struct rte_mbuf *head, struct rte_mbuf *last)
{
    struct rte_mbuf *m = as_rte(vuser_mbuf_alloc(pool));

    if (m != NULL) {
        last->next = m;
        head->nb_segs++;
    }
    return m;
}

/* Copies the data of a packet; false when our pool is empty. */
static bool
copy_data(struct vuser_pool *pool, struct rte_mbuf *to, const struct rte_mbuf *from)
{
    struct rte_mbuf *last = to;

    for (; from != NULL; from = from->next) {
        const uint8_t *data = rte_pktmbuf_mtod(from, const uint8_t *);
        uint16_t len = from->data_len;

        while (len > 0) {
            uint16_t part = RTE_MIN(len, last->buf_len - last->data_off - last->data_len);

            if (part == 0) {
                last = extend(pool, to, last);
                if (last == NULL)
                    return false;
                continue;
            }
            memcpy((uint8_t *)last->buf_addr + last->data_off + last->data_len, data, part);
            last->data_len += part;
            data += part;
            len -= part;
        }
    }
    return true;
}

/* A packet to send in buffers of ours; NULL when there are none. A length that does not add up stays so: the library
 * counts and drops it. */
static struct vuser_mbuf *
to_send(const struct vuser_txq *txq, const struct rte_mbuf *from)
{
    struct vuser_pool *pool = txq->port->pool;
    struct vuser_mbuf *ours = vuser_mbuf_alloc(pool);
    struct rte_mbuf *to = as_rte(ours);

    if (ours == NULL)
        return NULL;
    if (!copy_data(pool, to, from)) {
        vuser_mbuf_free(ours);
        return NULL;
    }
    to->pkt_len = from->pkt_len;
    to->ol_flags = from->ol_flags & ~(RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT);
    to->vlan_tci = from->vlan_tci;
    to->tx_offload = from->tx_offload;
    return ours;
}

static uint16_t
send_bulk(struct vuser_txq *txq, struct rte_mbuf **mbufs, uint16_t n)
{
    struct vuser_mbuf *ours[BULK];
    uint16_t k, sent;

    for (k = 0; k < n; k++) {
        ours[k] = to_send(txq, mbufs[k]);
        if (ours[k] == NULL)
            break;
    }
    sent = vuser_tx_burst(txq->queue, ours, k);
    rte_pktmbuf_free_bulk(mbufs, sent);
    if (sent < k)
        vuser_mbuf_free_bulk(ours + sent, k - sent);
    return sent;
}

uint16_t
vuser_bounce_tx(void *queue, struct rte_mbuf **mbufs, uint16_t n)
{
    struct vuser_txq *txq = queue;
    uint16_t done = 0, sent = BULK;

    while (done < n && sent == BULK) {
        sent = send_bulk(txq, mbufs + done, RTE_MIN(n - done, BULK));
        done += sent;
    }
    return done;
}

/* Headers are rewritten in the application's own buffers, as without copies. */
uint16_t
vuser_bounce_prepare(void *queue, struct rte_mbuf **mbufs, uint16_t n)
{
    const struct vuser_txq *txq = queue;

    return vuser_tx_prepare(txq->queue, (struct vuser_mbuf **)mbufs, n);
}

vuser_count
vuser_bounce_count(void *queue)
{
    const struct vuser_rxq *rxq = queue;

    return vuser_rx_count(rxq->queue);
}

int
vuser_bounce_rx_status(void *queue, uint16_t offset)
{
    const struct vuser_rxq *rxq = queue;

    return vuser_rx_status(rxq->queue, offset);
}

int
vuser_bounce_tx_status(void *queue, uint16_t offset)
{
    const struct vuser_txq *txq = queue;

    return vuser_tx_status(txq->queue, offset);
}

int
vuser_bounce_cleanup(void *queue, uint32_t n)
{
    const struct vuser_txq *txq = queue;

    return vuser_tx_cleanup(txq->queue, n);
}

int
vuser_bounce_monitor(void *queue, struct rte_power_monitor_cond *cond)
{
    const struct vuser_rxq *rxq = queue;

    return vuser_monitor_addr(rxq->queue, cond);
}
