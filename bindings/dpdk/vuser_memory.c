/* The application's memory, as the device is told of it.
 *
 * SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 *
 * The EAL's pages are registered in runs: neighbours of one file. When the EAL gets more while the port lives, they are
 * registered too. A run is given up when all of its pages have been freed: until then, freed pages of it are holes in
 * a file that the device may look at, and the EAL puts new ones at the same places.
 */
#include <errno.h>
#include <stdlib.h>

#include <rte_eal_memconfig.h>
#include <rte_memory.h>
#include <rte_mempool.h>

#include "vuser_pmd.h"

/* A run with the file that it lies in. */
struct piece {
    uintptr_t addr;
    size_t len;
    size_t offset;
    int fd;
};

/* A walk that gathers pages to pieces. */
struct walk {
    struct vuser_port *port;
    struct piece piece;
    uintptr_t from, to;            /* Only what lies between. */
};

static bool
has_room(struct vuser_memory *memory)
{
    const unsigned int room = memory->room == 0 ? 64 : 2 * memory->room;
    struct vuser_run *runs;

    if (memory->n < memory->room)
        return true;
    runs = realloc(memory->runs, room * sizeof(*runs));
    if (runs == NULL)
        return false;
    memory->runs = runs;
    memory->room = room;
    return true;
}

static void
add(struct vuser_port *port, const struct piece *piece)
{
    struct vuser_memory *memory = &port->memory;
    int ret = -ENOMEM;

    if (piece->len == 0)
        return;
    if (has_room(memory))
        ret = vuser_mem_register(port->dev, piece->fd, piece->offset, piece->len, (void *)piece->addr);
    if (ret == 0) {
        memory->runs[memory->n++] = (struct vuser_run){ .addr = piece->addr, .len = piece->len };
        return;
    }
    if (memory->error == 0)
        memory->error = ret;
    VUSER_LOG(WARNING, "port %u: %zu bytes at %#zx are not shared, packets in them will be dropped: %s", port->id,
              piece->len, (size_t)piece->addr, vuser_last_error());
}

/* The page's file; false when it has none, as external memory. */
static bool
locate(const struct rte_memseg_list *msl, const struct rte_memseg *ms, struct piece *page)
{
    *page = (struct piece){ .addr = (uintptr_t)ms->addr, .len = ms->len };
    if (msl->external)
        return false;
    page->fd = rte_memseg_get_fd_thread_unsafe(ms);
    return page->fd >= 0 && rte_memseg_get_fd_offset_thread_unsafe(ms, &page->offset) == 0;
}

static int
gather(const struct rte_memseg_list *msl, const struct rte_memseg *ms, void *arg)
{
    struct walk *walk = arg;
    struct piece *piece = &walk->piece, page;

    if ((uintptr_t)ms->addr < walk->from || (uintptr_t)ms->addr >= walk->to || !locate(msl, ms, &page))
        return 0;
    if (piece->len > 0 && page.fd == piece->fd && page.addr == piece->addr + piece->len &&
        page.offset == piece->offset + piece->len) {
        piece->len += page.len;
        return 0;
    }
    add(walk->port, piece);
    *piece = page;
    return 0;
}

/* The part of a run that lies in a range. */
static size_t
overlap(const struct vuser_run *run, uintptr_t addr, size_t len)
{
    const uintptr_t from = RTE_MAX(run->addr, addr), to = RTE_MIN(run->addr + run->len, addr + len);

    return from < to ? to - from : 0;
}

/* New pages at the places of freed ones are of the same file, and known. The others are added. */
static void
allocated(struct vuser_port *port, uintptr_t addr, size_t len)
{
    struct walk walk = { .port = port, .from = addr, .to = addr + len };
    unsigned int i;

    for (i = 0; i < port->memory.n; i++) {
        struct vuser_run *run = &port->memory.runs[i];
        const size_t known = overlap(run, walk.from, walk.to - walk.from);

        if (known == 0)
            continue;
        run->gone -= RTE_MIN(run->gone, known);
        /* A run comes before or behind what is new, since each page is in one run at most. */
        if (run->addr <= walk.from)
            walk.from += known;
        else
            walk.to -= known;
    }
    if (walk.from < walk.to) {
        rte_memseg_walk_thread_unsafe(gather, &walk);
        add(port, &walk.piece);
    }
}

static void
freed(struct vuser_port *port, uintptr_t addr, size_t len)
{
    struct vuser_memory *memory = &port->memory;
    unsigned int i = 0;

    while (i < memory->n) {
        struct vuser_run *run = &memory->runs[i];

        run->gone += overlap(run, addr, len);
        if (run->gone < run->len) {
            i++;
            continue;
        }
        if (vuser_mem_unregister(port->dev, (void *)run->addr) != 0)
            VUSER_LOG(WARNING, "port %u: %s", port->id, vuser_last_error());
        *run = memory->runs[--memory->n];
    }
}

/* Under the EAL's lock of its memory. */
static void
follow(enum rte_mem_event event, const void *addr, size_t len, void *arg)
{
    struct vuser_port *port = arg;
    const struct rte_memseg_list *msl = rte_mem_virt2memseg_list(addr);

    if (port->dev == NULL || msl == NULL || msl->external)
        return;
    if (event == RTE_MEM_EVENT_ALLOC)
        allocated(port, (uintptr_t)addr, len);
    else
        freed(port, (uintptr_t)addr, len);
}

static void
name_of(const struct vuser_port *port, char *name, size_t size)
{
    snprintf(name, size, "vuser_%u", port->id);
}

/* Tells the device of all memory there is, and from then on of what comes and goes. 0, or the error of the first run that
 * could not be told. Memory without a file is left out. */
int
vuser_memory_share(struct vuser_port *port)
{
    struct walk walk = { .port = port, .from = 0, .to = UINTPTR_MAX };
    char name[RTE_MEM_EVENT_CALLBACK_NAME_LEN];

    if (port->memory.following && port->memory.error == 0)
        return 0;
    vuser_memory_unshare(port);
    rte_mcfg_mem_read_lock();
    rte_memseg_walk_thread_unsafe(gather, &walk);
    add(port, &walk.piece);
    rte_mcfg_mem_read_unlock();
    name_of(port, name, sizeof(name));
    /* Legacy memory does not change, and knows no callbacks. */
    if (rte_mem_event_callback_register(name, follow, port) != 0 && rte_errno != ENOTSUP)
        return -rte_errno;
    port->memory.following = true;
    return port->memory.error;
}

void
vuser_memory_unshare(struct vuser_port *port)
{
    struct vuser_memory *memory = &port->memory;
    char name[RTE_MEM_EVENT_CALLBACK_NAME_LEN];

    name_of(port, name, sizeof(name));
    if (memory->following)
        rte_mem_event_callback_unregister(name, port);
    while (memory->n > 0)
        vuser_mem_unregister(port->dev, (void *)memory->runs[--memory->n].addr);
    free(memory->runs);
    *memory = (struct vuser_memory){ 0 };
}

struct holding {
    struct vuser_port *port;
    bool all;
};

/* A chunk of a mempool may be of many pages, and pages of many files. No buffer lies across two. */
static void
check_chunk(struct rte_mempool *pool, void *arg, struct rte_mempool_memhdr *chunk, unsigned int index)
{
    struct holding *holding = arg;
    uintptr_t addr = (uintptr_t)chunk->addr;
    const uintptr_t end = addr + chunk->len;
    const struct rte_memseg_list *msl;

    (void)pool;
    (void)index;
    if (vuser_mem_contains(holding->port->dev, chunk->addr, chunk->len) > 0)
        return;
    msl = rte_mem_virt2memseg_list(chunk->addr);
    if (msl == NULL || msl->external) {
        holding->all = false;
        return;
    }
    while (addr < end && holding->all) {
        const size_t len = RTE_MIN((uintptr_t)RTE_ALIGN_CEIL(addr + 1, msl->page_sz), end) - addr;

        holding->all = vuser_mem_contains(holding->port->dev, (void *)addr, len) > 0;
        addr += len;
    }
}

/* Whether the device can reach all buffers of a pool. */
bool
vuser_memory_holds(struct vuser_port *port, struct rte_mempool *pool)
{
    struct holding holding = { .port = port, .all = true };

    /* Buffers that are pinned to external memory say nothing of themselves here. */
    if (rte_pktmbuf_priv_flags(pool) & RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF)
        return false;
    rte_mempool_mem_iter(pool, check_chunk, &holding);
    return holding.all;
}
