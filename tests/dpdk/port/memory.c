/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* Pools, heaps, and what a process has. */
#define _GNU_SOURCE
#include "port.h"

#include <dirent.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_malloc.h>
#include <rte_mempool.h>

struct rte_mempool *pool_named(const char *name)
{
    struct rte_mempool *pool = rte_mempool_lookup(name);

    if (pool == NULL)
        fail("there is no pool %s", name);
    return pool;
}

static int socket_of(const char *heap)
{
    return heap == NULL ? SOCKET_ID_ANY : rte_malloc_heap_get_socket(heap);
}

static bool pool(struct args *args)
{
    const char *name = text(args, "name", "port");
    unsigned count = (unsigned)number(args, "count", 4096);
    unsigned cache = (unsigned)number(args, "cache", RTE_MIN(64u, count / 4));
    uint16_t priv = (uint16_t)number(args, "priv", 0);
    uint16_t size = (uint16_t)number(args, "size", RTE_MBUF_DEFAULT_BUF_SIZE);
    int socket = socket_of(text(args, "heap", NULL));

    return rte_pktmbuf_pool_create(name, count, cache, priv, size, socket) != NULL ||
           fail("pool %s: %s", name, rte_strerror(rte_errno));
}

static bool unpool(struct args *args)
{
    struct rte_mempool *pool = pool_named(text(args, "name", "port"));

    if (pool == NULL)
        return false;
    if (!rte_mempool_full(pool))
        return fail("%u buffers are not back in the pool", rte_mempool_in_use_count(pool));
    rte_mempool_free(pool);
    return true;
}

/* What `dirty` leaves in the applications' areas. */
#define PRIVATE 0xcc

static void soil(struct rte_mempool *pool, void *context, void *object, unsigned index)
{
    struct rte_mbuf *m = object;

    (void)pool;
    (void)context;
    (void)index;
    /* What allocators leave as they find it. The two flags say where the data are, so they are no dirt. */
    m->ol_flags = ~(RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT);
    m->port = 0x1234;
    m->packet_type = UINT32_MAX;
    m->vlan_tci = 0xffff;
    m->data_off = 0;
    m->data_len = 0x5555;
    m->pkt_len = 0x55555555;
    m->hash.rss = UINT32_MAX;
    m->tx_offload = UINT64_MAX;
    memset(m->buf_addr, 0xbb, m->buf_len);
    memset(rte_mbuf_to_priv(m), PRIVATE, rte_pktmbuf_priv_size(pool));
}

static void look_at_private(struct rte_mempool *pool, void *context, void *object, unsigned index)
{
    const uint8_t *area = rte_mbuf_to_priv(object);
    unsigned *changed = context;

    (void)index;
    for (uint16_t i = 0; i < rte_pktmbuf_priv_size(pool); i++)
        if (area[i] != PRIVATE) {
            ++*changed;
            return;
        }
}

/* Of how many buffers somebody has written over the application's own area, which lies just before the headroom. */
static bool private(struct args *args)
{
    struct rte_mempool *pool = pool_named(text(args, "name", "port"));
    unsigned changed = 0;

    if (pool != NULL)
        rte_mempool_obj_iter(pool, look_at_private, &changed);
    field("changed", "%u", changed);
    return pool != NULL;
}

/* Makes free buffers look used, which they are after a while. */
static bool dirty(struct args *args)
{
    struct rte_mempool *pool = pool_named(text(args, "name", "port"));

    return pool != NULL && (rte_mempool_full(pool) || fail("buffers are in use")) &&
           rte_mempool_obj_iter(pool, soil, NULL) != 0;
}

static unsigned entries(const char *path)
{
    DIR *dir = opendir(path);
    unsigned count = 0;

    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static unsigned lines(const char *path)
{
    FILE *file = fopen(path, "r");
    unsigned count = 0;

    for (int c; (c = fgetc(file)) != EOF;)
        count += c == '\n';
    fclose(file);
    return count;
}

static void count_pool(struct rte_mempool *pool, void *context)
{
    (void)context;
    field(pool->name, "%u", rte_mempool_avail_count(pool));
}

/* Descriptors, maps and threads of this process, and how many buffers each pool has. */
static bool census(struct args *args)
{
    struct rte_malloc_socket_stats heap;

    (void)args;
    field("fds", "%u", entries("/proc/self/fd"));
    field("maps", "%u", lines("/proc/self/maps"));
    field("threads", "%u", entries("/proc/self/task"));
    rte_malloc_get_socket_stats(0, &heap);
    field("heap", "%zu", heap.heap_allocsz_bytes);
    rte_mempool_walk(count_pool, NULL);
    return true;
}

/* A heap of the application's own memory, of which EAL knows no file. */
static bool heap(struct args *args)
{
    const char *name = text(args, "name", "ours");
    size_t size = (size_t)number(args, "mb", 32) << 20, page = (size_t)sysconf(_SC_PAGESIZE);
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED || rte_malloc_heap_create(name) != 0 ||
        rte_malloc_heap_memory_add(name, at, size, NULL, 0, page) != 0)
        return fail("heap %s: %s", name, rte_strerror(rte_errno));
    return true;
}

const struct command memory_commands[] = {
    {"pool", pool}, {"unpool", unpool}, {"dirty", dirty}, {"private", private}, {"census", census},
    {"heap", heap}, {NULL, NULL},
};
