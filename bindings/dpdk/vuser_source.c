/* Where the library's queues take packet buffers from and give them to: the application's mempools.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 *
 * Buffers move raw and in bulk. One that lies in a pool has one owner, one segment and no next, and the library hands
 * it back in that state.
 */
#include <rte_mbuf.h>

#include "vuser_pmd.h"

/* rte_mempool_get_bulk takes from the lcore's cache one by one, from its end; a copy does as well. */
static int
get_bulk(void *ctx, struct vuser_mbuf **mbufs, unsigned int n)
{
    const struct vuser_rxq *rxq = ctx;
    struct rte_mempool_cache *cache;

    if (unlikely(rxq->pool == NULL))
        return -1;
#if !defined(RTE_LIBRTE_MEMPOOL_DEBUG) && !defined(RTE_LIBRTE_MEMPOOL_STATS)
    cache = rte_mempool_default_cache(rxq->pool, rte_lcore_id());
    if (likely(cache != NULL && cache->len >= n)) {
        cache->len -= n;
        memcpy(mbufs, &cache->objs[cache->len], n * sizeof(*mbufs));
        return 0;
    }
#else
    (void)cache;
#endif
    return rte_mempool_get_bulk(rxq->pool, (void **)mbufs, n);
}

/* All n are of one pool. */
static void
put_bulk(void *ctx, struct vuser_mbuf *const *mbufs, unsigned int n)
{
    (void)ctx;
    if (n > 0)
        rte_mempool_put_bulk(mbufs[0]->pool, (void *const *)mbufs, n);
}

/* Nothing is allocated by a transmit queue. */
static int
get_none(void *ctx, struct vuser_mbuf **mbufs, unsigned int n)
{
    (void)ctx;
    (void)mbufs;
    (void)n;
    return -1;
}

static void
free_packet(void *ctx, struct vuser_mbuf *m)
{
    (void)ctx;
    rte_pktmbuf_free((struct rte_mbuf *)m);
}

/* Asked for each pool that packets to send come from, again when a queue goes from one to another. */
static int
accepts(void *ctx, void *pool)
{
    struct vuser_txq *txq = ctx;
    struct rte_mempool *mempool = pool;

    if (mempool != NULL && vuser_memory_holds(txq->port, mempool))
        return 1;
    if (!txq->refused)
        VUSER_LOG(NOTICE, "port %u, transmit queue %u: mempool %s is not in memory that the back-end can reach: its "
                  "packets are dropped and counted as bad_address; bounce=1 copies them", txq->port->id, txq->id,
                  mempool == NULL ? "(none)" : mempool->name);
    txq->refused = true;
    return 0;
}

struct linear {
    uintptr_t add;
    uint16_t buf_len;
    bool holds;
};

/* Whether a buffer begins where the formula has it. One that borrows another's data now will have its own again. */
static void
check_linear(struct rte_mempool *pool, void *arg, void *object, unsigned int index)
{
    struct linear *linear = arg;
    const struct rte_mbuf *m = object;

    (void)pool;
    (void)index;
    if (RTE_MBUF_DIRECT(m) && ((uintptr_t)m->buf_addr != (uintptr_t)m + linear->add || m->buf_len != linear->buf_len))
        linear->holds = false;
}

void
vuser_rx_source(struct vuser_rxq *rxq, struct vuser_mbuf_source *source)
{
    struct linear linear = {
        .add = sizeof(struct rte_mbuf) + rte_pktmbuf_priv_size(rxq->pool),
        .buf_len = rte_pktmbuf_data_room_size(rxq->pool),
        .holds = !(rte_pktmbuf_priv_flags(rxq->pool) & RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF),
    };

    if (linear.holds)
        rte_mempool_obj_iter(rxq->pool, check_linear, &linear);
    *source = (struct vuser_mbuf_source){
        .size = sizeof(*source),
        .ctx = rxq,
        .get_bulk = get_bulk,
        .put_bulk = put_bulk,
        .free = free_packet,
        .pool = rxq->pool,
        .linear_mul = linear.holds ? 1 : 0,
        .linear_add = linear.holds ? linear.add : 0,
        .buf_len = linear.buf_len,
        .headroom = RTE_PKTMBUF_HEADROOM,
    };
}

void
vuser_tx_source(struct vuser_txq *txq, struct vuser_mbuf_source *source)
{
    *source = (struct vuser_mbuf_source){
        .size = sizeof(*source),
        .ctx = txq,
        .get_bulk = get_none,
        .put_bulk = put_bulk,
        .free = free_packet,
        .buf_len = RTE_MBUF_DEFAULT_BUF_SIZE,
        .headroom = RTE_PKTMBUF_HEADROOM,
        .accepts = accepts,
    };
}
