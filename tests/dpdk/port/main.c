/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "port.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_version.h>

#define MAX_ARGS 32
/* Longer than any command takes, and shorter than the patience of whoever started us. */
#define COMMAND_SECONDS 60

struct args {
    unsigned count;
    struct {
        char *key, *value;
        bool used;
    } pair[MAX_ARGS];
};

static FILE *reply;
static char *reply_text;
static size_t reply_length;
static char error[512];
static char current[64];

const char *text(struct args *args, const char *key, const char *fallback)
{
    for (unsigned i = 0; i < args->count; i++)
        if (strcmp(args->pair[i].key, key) == 0) {
            args->pair[i].used = true;
            return args->pair[i].value;
        }
    return fallback;
}

static uint64_t parse(const char *key, const char *value)
{
    char *end;
    uint64_t result;

    errno = 0;
    result = strtoull(value, &end, 0);
    if (errno != 0 || end == value || *end != '\0')
        fail("%s=%s is no number", key, value);
    return result;
}

uint64_t number(struct args *args, const char *key, uint64_t fallback)
{
    const char *value = text(args, key, NULL);

    return value == NULL ? fallback : parse(key, value);
}

unsigned numbers(struct args *args, const char *key, unsigned fallback, unsigned *list, unsigned most)
{
    const char *value = text(args, key, NULL);
    unsigned count = 0;
    char *copy, *item, *rest;

    if (value == NULL) {
        list[0] = fallback;
        return 1;
    }
    copy = rest = strdup(value);
    while (count < most && (item = strsep(&rest, ",")) != NULL)
        list[count++] = (unsigned)parse(key, item);
    free(copy);
    return count;
}

void field(const char *key, const char *format, ...)
{
    va_list list;

    fprintf(reply, "\t%s=", key);
    va_start(list, format);
    vfprintf(reply, format, list);
    va_end(list);
}

bool fail(const char *format, ...)
{
    va_list list;

    /* The first error is the cause of the others. */
    if (error[0] != '\0')
        return false;
    va_start(list, format);
    vsnprintf(error, sizeof(error), format, list);
    va_end(list);
    return false;
}

double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void split(struct args *args, char *line)
{
    char *item;

    args->count = 0;
    while ((item = strsep(&line, " \n")) != NULL) {
        char *value = strchr(item, '=');

        if (item[0] == '\0')
            continue;
        if (value == NULL || args->count == MAX_ARGS) {
            fail("%s: not key=value, or too many of them", item);
            return;
        }
        *value++ = '\0';
        args->pair[args->count].key = item;
        args->pair[args->count].value = value;
        args->pair[args->count++].used = false;
    }
}

static command_fn *command_named(const char *verb)
{
    const struct command *tables[] = {port_commands, traffic_commands, odd_commands,
                                      view_commands, memory_commands,  event_commands, rss_commands,
                                      ordeal_commands};

    for (unsigned t = 0; t < RTE_DIM(tables); t++)
        for (const struct command *c = tables[t]; c->verb != NULL; c++)
            if (strcmp(c->verb, verb) == 0)
                return c->run;
    return NULL;
}

static void run(char *line)
{
    struct args args;
    char *verb = strsep(&line, " \n");
    command_fn *command = command_named(verb);

    snprintf(current, sizeof(current), "%s", verb);
    error[0] = '\0';
    split(&args, line);
    if (command == NULL)
        fail("%s: no such command", verb);
    else if (error[0] == '\0' && !command(&args))
        fail("%s failed", verb);
    for (unsigned i = 0; i < args.count; i++)
        if (!args.pair[i].used)
            fail("%s does not know %s", verb, args.pair[i].key);
}

static void answer(void)
{
    fflush(reply);
    if (error[0] != '\0')
        printf("error\t%s%s\n", error, reply_text);
    else
        printf("ok%s\n", reply_text);
    fflush(stdout);
}

static void on_alarm(int signal)
{
    static const char head[] = "port: hangs in command ";
    ssize_t ignored = write(2, head, sizeof(head) - 1);

    (void)signal;
    ignored = write(2, current, strlen(current));
    ignored = write(2, "\n", 1);
    (void)ignored;
    _exit(3);
}

/* The next command. What `pester` sends is for calls under test; here it would tear a line apart. */
static bool hear(char **line, size_t *room)
{
    sigset_t pest;
    bool heard;

    sigemptyset(&pest);
    sigaddset(&pest, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &pest, NULL);
    heard = getline(line, room, stdin) > 0;
    pthread_sigmask(SIG_UNBLOCK, &pest, NULL);
    return heard;
}

int main(int argc, char **argv)
{
    char *line = NULL;
    size_t room = 0;

    signal(SIGALRM, on_alarm);
    alarm(COMMAND_SECONDS);
    if (rte_eal_init(argc, argv) < 0) {
        printf("error\tno EAL: %s\n", rte_strerror(rte_errno));
        return 1;
    }
    process_seed = (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
    printf("ok\tversion=%s\n", rte_version());
    fflush(stdout);
    for (;;) {
        alarm(0); /* whoever talks to us may take his time */
        if (!hear(&line, &room))
            break;
        alarm(COMMAND_SECONDS);
        reply = open_memstream(&reply_text, &reply_length);
        run(line);
        answer();
        fclose(reply);
        free(reply_text);
    }
    alarm(COMMAND_SECONDS);
    free(line);
    rte_eal_cleanup();
    return 0;
}
