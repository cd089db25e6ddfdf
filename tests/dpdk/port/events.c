/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* Interrupts and signals. */
#include "port.h"

#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_interrupts.h>
#include <rte_power_intrinsics.h>

static unsigned link_events;

static int on_link(uint16_t port, enum rte_eth_event_type event, void *context, void *result)
{
    (void)port;
    (void)event;
    (void)context;
    (void)result;
    __atomic_fetch_add(&link_events, 1, __ATOMIC_SEQ_CST);
    return 0;
}

/* How often the link is said to have changed since the last time this was asked; watching begins with the first. */
static bool links(struct args *args)
{
    uint16_t port = port_of(args);
    double end = now() + (double)number(args, "wait", 0) / 1e3;
    unsigned until = (unsigned)number(args, "until", 0);

    if (number(args, "watch", 0) != 0)
        rte_eth_dev_callback_register(port, RTE_ETH_EVENT_INTR_LSC, on_link, NULL);
    while (__atomic_load_n(&link_events, __ATOMIC_SEQ_CST) < until && now() < end)
        usleep(500);
    field("events", "%u", __atomic_exchange_n(&link_events, 0, __ATOMIC_SEQ_CST));
    return true;
}

static bool watch(struct args *args)
{
    uint16_t port = port_of(args), q = (uint16_t)number(args, "queue", 0);
    int op = number(args, "on", 1) != 0 ? RTE_INTR_EVENT_ADD : RTE_INTR_EVENT_DEL;
    int rc = rte_eth_dev_rx_intr_ctl_q(port, q, RTE_EPOLL_PER_THREAD, op, (void *)(uintptr_t)(1000 + q));

    return rc == 0 || fail("rte_eth_dev_rx_intr_ctl_q: %d", rc);
}

static bool arm(struct args *args)
{
    uint16_t port = port_of(args), q = (uint16_t)number(args, "queue", 0);
    int rc = number(args, "on", 1) != 0 ? rte_eth_dev_rx_intr_enable(port, q) : rte_eth_dev_rx_intr_disable(port, q);

    return rc == 0 || fail("Rx interrupt: %d", rc);
}

/* Sleeps until a queue that is watched has something; says which. */
static bool sleep_until(struct args *args)
{
    struct rte_epoll_event events[16];
    double begin = now();
    int count = rte_epoll_wait(RTE_EPOLL_PER_THREAD, events, RTE_DIM(events), (int)number(args, "ms", 1000));

    field("woken", "%d", count);
    for (int i = 0; i < count; i++)
        field("queue", "%d", (int)(uintptr_t)events[i].epdata.data - 1000);
    field("ms", "%.2f", (now() - begin) * 1e3);
    return count >= 0 || fail("rte_epoll_wait: %d", count);
}

/* Whether a core that watches a queue's address for a change may go to sleep now. */
static bool monitor(struct args *args)
{
    struct rte_power_monitor_cond condition = {0};
    int rc = rte_eth_get_monitor_addr(port_of(args), (uint16_t)number(args, "queue", 0), &condition);
    uint64_t value = 0;

    if (rc != 0)
        return fail("rte_eth_get_monitor_addr: %d", rc);
    if (condition.addr == NULL || condition.fn == NULL || condition.size > sizeof(value))
        return fail("the condition is not whole");
    memcpy(&value, (const void *)(uintptr_t)condition.addr, condition.size);
    field("bytes", "%u", condition.size);
    field("may_sleep", "%d", condition.fn(value, condition.opaque) == 0);
    return true;
}

static void ignore(int signal)
{
    (void)signal;
}

/* Signals so often that every call that waits is interrupted; 0 ends it. The alarm is the watchdog's. */
static bool pester(struct args *args)
{
    long ns = (long)number(args, "us", 0) * 1000;
    struct itimerspec every = {{0, ns}, {0, ns}};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct sigaction action = {.sa_handler = ignore};
    static timer_t timer;
    static bool made;

    sigaction(SIGUSR1, &action, NULL);
    made = made || timer_create(CLOCK_MONOTONIC, &event, &timer) == 0;
    return (made && timer_settime(timer, 0, &every, NULL) == 0) || fail("no timer");
}

const struct command event_commands[] = {
    {"links", links}, {"watch", watch}, {"arm", arm}, {"sleep", sleep_until}, {"pester", pester}, {"monitor", monitor}, {NULL, NULL},
};
