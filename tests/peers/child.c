/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* A back-end in a process of its own, which lives as long as it is let. */
#define _GNU_SOURCE

#include "peers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Its ends of pipes and files are opened once, so that the descriptors of this process can be counted. */
static bool prepare(struct run *run, struct child *child)
{
    int ends[2];

    if (child->out != 0)
        return true;
    child->out = open(child->log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (child->out < 0 || pipe2(ends, O_CLOEXEC) < 0)
        return wrong(run, "%s: %s", child->log, strerror(errno));
    child->in = ends[0]; /* The other end stays open. */
    return true;
}

bool child_start(struct run *run, struct child *child)
{
    if (!prepare(run, child))
        return false;
    child->pid = fork();
    if (child->pid < 0)
        return wrong(run, "fork: %s", strerror(errno));
    if (child->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(child->in, 0);
        dup2(child->out, 1);
        dup2(child->out, 2);
        execvp(child->command[0], child->command);
        _exit(127);
    }
    return true;
}

bool child_lives(struct run *run, struct child *child)
{
    int status = 0;

    if (child->pid > 0 && waitpid(child->pid, &status, WNOHANG) == 0)
        return true;
    child->pid = 0;
    return wrong(run, "the back-end ended by itself, wait status 0x%x: see its log", (unsigned)status);
}

void child_stop(const struct child *child)
{
    kill(child->pid, SIGSTOP);
    while (waitpid(child->pid, NULL, WUNTRACED) < 0 && errno == EINTR)
        ;
}

void child_continue(const struct child *child)
{
    kill(child->pid, SIGCONT);
}

void child_end(struct child *child)
{
    const double begin = now();

    kill(child->pid, SIGTERM);
    while (child->pid > 0 && now() - begin < 5) {
        if (waitpid(child->pid, NULL, WNOHANG) != 0)
            child->pid = 0;
        else
            usleep(1000);
    }
    child_kill(child);
}

void child_kill(struct child *child)
{
    if (child->pid <= 0)
        return;
    kill(child->pid, SIGKILL);
    while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    child->pid = 0;
}
