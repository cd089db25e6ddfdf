/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
#include "testpmd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define PROMPT  "testpmd> "
#define WAIT_MS 20000
#define PROGRAM "dpdk-testpmd"

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

/* Adds to the tail; what is too old goes. */
static void remember(struct testpmd *t, const char *text, size_t len)
{
    size_t have = strlen(t->tail), room = sizeof(t->tail) - 1;

    if (have + len > room) {
        size_t drop = have + len - room;

        memmove(t->tail, t->tail + drop, have - drop + 1);
        have -= drop;
    }
    memcpy(t->tail + have, text, len);
    t->tail[have + len] = 0;
}

/* The last line that is more than the prompt. */
static const char *last_words(struct testpmd *t)
{
    char *end = t->tail + strlen(t->tail);

    while (end > t->tail && strchr("\r\n ", end[-1]))
        *--end = 0;
    char *line = strrchr(t->tail, '\n');
    snprintf(t->said, sizeof(t->said), PROGRAM ": %.100s", line ? line + 1 : t->tail);
    return t->said;
}

static const char *wait_for_prompt(struct testpmd *t)
{
    int64_t deadline = now_ms() + WAIT_MS;
    struct pollfd fd = {t->out, POLLIN, 0};
    char text[1024];

    while (!strstr(t->tail, PROMPT)) {
        int64_t left = deadline - now_ms();
        ssize_t len;

        if (left <= 0)
            return PROGRAM " does not answer";
        if (poll(&fd, 1, left) <= 0)
            continue;
        len = read(t->out, text, sizeof(text));
        if (len <= 0)
            return last_words(t);
        for (ssize_t i = 0; i < len; i++)
            if (!text[i])
                text[i] = ' ';
        remember(t, text, len);
    }
    return NULL;
}

static void __attribute__((noreturn)) become_testpmd(const char *socket, int cpu, uint16_t queues, bool no_huge)
{
    char lcores[32], vdev[160], rxq[16], txq[16];
    const char *memory = no_huge ? "--no-huge" : "--single-file-segments";
    cpu_set_t set;

    /* It does not outlive this program, even when that is killed. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
    snprintf(lcores, sizeof(lcores), "0@%d,1@%d", cpu, cpu);
    snprintf(vdev, sizeof(vdev), "net_vhost0,iface=%s,queues=%u", socket, queues);
    snprintf(rxq, sizeof(rxq), "--rxq=%u", queues);
    snprintf(txq, sizeof(txq), "--txq=%u", queues);
    execlp(PROGRAM, PROGRAM, "--lcores", lcores, "--no-pci", "--no-telemetry", "--in-memory", memory, "-m", "64",
           "--log-level=error", "--vdev", vdev, "--", "-i", "--nb-cores=1", "--total-num-mbufs=8192", "--no-flush-rx",
           "--disable-link-check", rxq, txq, (char *)NULL);
    printf("can't be started: %s\n", strerror(errno));
    fflush(stdout);
    _exit(127);
}

const char *testpmd_start(struct testpmd *t, const char *socket, int cpu, uint16_t queues, bool no_huge)
{
    int in[2], out[2];
    const char *wrong;

    memset(t, 0, sizeof(*t));
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
        return "no pipe";
    t->pid = fork();
    if (t->pid < 0)
        return "no process";
    if (t->pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        dup2(out[1], STDERR_FILENO);
        become_testpmd(socket, cpu, queues, no_huge);
    }
    close(in[0]);
    close(out[1]);
    t->in = in[1];
    t->out = out[0];
    wrong = wait_for_prompt(t);
    if (wrong)
        testpmd_stop(t);
    return wrong;
}

static void forget(struct testpmd *t)
{
    close(t->in);
    close(t->out);
    t->pid = 0;
}

void testpmd_stop(struct testpmd *t)
{
    if (!t->pid)
        return;
    /* Not by its own quit: what it holds is gone with it, and it might not listen. */
    kill(t->pid, SIGKILL);
    waitpid(t->pid, NULL, 0);
    forget(t);
}

const char *testpmd_command(struct testpmd *t, const char *format, ...)
{
    char command[128];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(command, sizeof(command) - 1, format, args);
    va_end(args);
    command[len++] = '\n';
    t->tail[0] = 0;
    if (!t->pid || write(t->in, command, len) != len)
        return PROGRAM " has gone";
    return wait_for_prompt(t);
}

void testpmd_pause(struct testpmd *t)
{
    int status;

    /* To process 0 would be to us, and all our group. */
    if (!t->pid)
        return;
    kill(t->pid, SIGSTOP);
    if (waitpid(t->pid, &status, WUNTRACED) == t->pid && !WIFSTOPPED(status))
        forget(t);   /* it has ended by itself */
}

void testpmd_resume(struct testpmd *t)
{
    if (t->pid)
        kill(t->pid, SIGCONT);
}

/* Opens a file of one of its threads. */
static FILE *about_thread(const struct testpmd *t, const char *thread, const char *what)
{
    char path[300];

    snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", t->pid, thread, what);
    return fopen(path, "r");
}

static bool forwards(const struct testpmd *t, const char *thread)
{
    FILE *comm = about_thread(t, thread, "comm");
    char name[32] = "";
    bool worker = comm && fgets(name, sizeof(name), comm) && strstr(name, "worker");

    if (comm)
        fclose(comm);
    return worker;
}

uint64_t testpmd_waited_ns(const struct testpmd *t)
{
    char path[64];
    struct dirent *thread;
    uint64_t waited = 0;
    DIR *threads;

    snprintf(path, sizeof(path), "/proc/%d/task", t->pid);
    threads = opendir(path);
    while (threads && (thread = readdir(threads)))
        if (thread->d_name[0] != '.' && forwards(t, thread->d_name))
            waited += waited_by(about_thread(t, thread->d_name, "schedstat"));
    if (threads)
        closedir(threads);
    return waited;
}
