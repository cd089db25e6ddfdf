/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * hang: a back-end is stopped where it is, as by a debugger, and the device is asked for something.
 *
 *   hang --devargs ARGS [--log FILE] -- BACK-END ARGUMENT...
 *
 * Each call ends within its deadline: well, or with a sentence that names the message that was not answered. Then the
 * device is given up, which always works and takes no longer, and every buffer is back. The last line is a JSON object;
 * the ones before say what each call did. Exit status 0: all right.
 */
#define _GNU_SOURCE

#include "peers.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL 2048u
#define UP_WITHIN 30.0
/* A call sends few messages that are answered; all together take no longer than so many deadlines. */
#define DEADLINES 4
#define MEMORY (2u << 20)

struct bench {
    struct run run;
    struct child child;
    const char *devargs;
    struct vuser_config config;
    struct vuser_dev *dev;
    double longest;
};

static bool failed(struct bench *b, const char *what)
{
    return wrong(&b->run, "%s: %s", what, vuser_last_error());
}

static int ask_start(struct bench *b) { return vuser_dev_start(b->dev); }
static int ask_stop(struct bench *b) { return vuser_dev_stop(b->dev); }
static int ask_reset(struct bench *b) { return vuser_dev_reset(b->dev); }
static int ask_link_down(struct bench *b) { return vuser_dev_set_link(b->dev, 0); }
static int ask_rx_stop(struct bench *b) { return vuser_rx_queue_stop(b->dev, 0); }
static int ask_tx_stop(struct bench *b) { return vuser_tx_queue_stop(b->dev, 0); }
static int ask_status(struct bench *b) { return vuser_dev_get_status(b->dev) * 0; }
static int ask_nothing(struct bench *b) { return b->run.corrupt != 0; }

static int ask_memory(struct bench *b)
{
    const int fd = memfd_create("hang", MFD_CLOEXEC);
    void *at = MAP_FAILED;
    int rc = -1;

    if (fd >= 0 && ftruncate(fd, MEMORY) == 0)
        at = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED)
        rc = vuser_mem_register(b->dev, fd, 0, MEMORY, at);
    close(fd); /* The mapping stays until the program ends. */
    return rc;
}

static const struct {
    const char *name;
    int (*ask)(struct bench *b);
    bool started; /* Whether the device is started before the back-end is stopped. */
} calls[] = {
    { "vuser_dev_start", ask_start, false },
    { "vuser_dev_stop", ask_stop, true },
    { "vuser_dev_reset", ask_reset, true },
    { "vuser_dev_set_link", ask_link_down, true },
    { "vuser_rx_queue_stop", ask_rx_stop, true },
    { "vuser_tx_queue_stop", ask_tx_stop, true },
    { "vuser_mem_register", ask_memory, true },
    { "vuser_dev_get_status", ask_status, true },
    { "vuser_dev_uninit alone", ask_nothing, true },
};

static bool attached(const struct bench *b)
{
    struct vuser_dev_info info = { .size = sizeof(info) };

    return vuser_dev_get_info(b->dev, &info) == 0 && info.device_features != 0;
}

static bool bring_up(struct bench *b, bool started)
{
    const double begin = now();

    if (!b->config.server)
        unlink(b->config.path);
    if (!child_start(&b->run, &b->child))
        return false;
    while (vuser_dev_init(&b->config, &b->dev) != 0) {
        if (now() - begin > UP_WITHIN || b->config.server)
            return failed(b, "vuser_dev_init");
        if (!child_lives(&b->run, &b->child))
            return false;
        usleep(10000);
    }
    if (vuser_rx_queue_setup(b->dev, 0, 0, b->run.pool) != 0 || vuser_tx_queue_setup(b->dev, 0, 0, b->run.pool) != 0)
        return failed(b, "queue set-up");
    if (started && vuser_dev_start(b->dev) != 0)
        return failed(b, "vuser_dev_start");
    while (started ? vuser_dev_link(b->dev) != 1 : !attached(b)) {
        if (now() - begin > UP_WITHIN)
            return wrong(&b->run, "the back-end does not come");
        usleep(1000);
    }
    return true;
}

/* Whether a sentence names a message of vhost-user's. */
static bool names_a_message(const char *sentence)
{
    static const char *const beginnings[] = { "SET_", "GET_", "ADD_", "REM_", "RESET_", "SEND_" };

    for (unsigned k = 0; k < sizeof(beginnings) / sizeof(beginnings[0]); k++)
        if (strstr(sentence, beginnings[k]) != NULL)
            return true;
    return false;
}

static bool one(struct bench *b, unsigned k)
{
    const double limit = DEADLINES * b->config.timeout_ms / 1e3 + 1;
    double begin, took, took_uninit;
    char sentence[256] = "";
    int rc;

    watch(calls[k].name, 60);
    if (!bring_up(b, calls[k].started))
        return false;
    child_stop(&b->child);
    begin = now();
    rc = calls[k].ask(b);
    took = now() - begin;
    if (rc < 0)
        snprintf(sentence, sizeof(sentence), "%s", vuser_last_error());
    begin = now();
    vuser_dev_uninit(b->dev);
    b->dev = NULL;
    took_uninit = now() - begin;
    child_kill(&b->child);
    printf("%s: %d after %.0f ms, uninit %.0f ms%s%s\n", calls[k].name, rc, took * 1e3, took_uninit * 1e3,
           rc < 0 ? ": " : "", sentence);
    b->longest = took > b->longest ? took : b->longest;
    b->longest = took_uninit > b->longest ? took_uninit : b->longest;
    if (took > limit || took_uninit > limit)
        return wrong(&b->run, "%s: %.1f s, and vuser_dev_uninit %.1f s", calls[k].name, took, took_uninit);
    if (rc < 0 && !names_a_message(sentence))
        return wrong(&b->run, "%s: no message is named: %s", calls[k].name, sentence);
    if (vuser_pool_available(b->run.pool) != POOL)
        return wrong(&b->run, "%s: %u buffers are back of %u", calls[k].name, vuser_pool_available(b->run.pool), POOL);
    return true;
}

static bool go(struct bench *b)
{
    const struct vuser_pool_config pool = { .size = sizeof(pool), .count = POOL, .no_huge = 1 };

    vuser_config_init(&b->config, sizeof(b->config));
    if (vuser_config_parse(&b->config, b->devargs) != 0)
        return failed(b, "vuser_config_parse");
    if (vuser_pool_create(&pool, &b->run.pool) != 0)
        return failed(b, "vuser_pool_create");
    for (unsigned k = 0; k < sizeof(calls) / sizeof(calls[0]); k++)
        if (!one(b, k))
            return false;
    return true;
}

static bool parse(struct bench *b, int argc, char **argv)
{
    static const struct option options[] = {
        { "devargs", required_argument, NULL, 'd' }, { "log", required_argument, NULL, 'l' }, { NULL, 0, NULL, 0 },
    };
    int c;

    b->child.log = "/dev/null";
    while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        if (c == 'd')
            b->devargs = optarg;
        else if (c == 'l')
            b->child.log = optarg;
        else
            return false;
    }
    b->child.command = argv + optind;
    return b->devargs != NULL && optind < argc;
}

int main(int argc, char **argv)
{
    static struct bench b;

    if (!parse(&b, argc, argv)) {
        fprintf(stderr, "usage: hang --devargs ARGS [--log FILE] -- BACK-END ARGUMENT...\n");
        return 2;
    }
    go(&b);
    child_kill(&b.child);
    vuser_dev_uninit(b.dev);
    vuser_pool_free(b.run.pool);
    printf("{\"ok\":%s,\"longest_ms\":%.0f,\"error\":", b.run.error[0] == '\0' ? "true" : "false", b.longest * 1e3);
    print_text(b.run.error);
    puts("}");
    return b.run.error[0] == '\0' ? 0 : 1;
}
