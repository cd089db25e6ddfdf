/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* A dpdk-testpmd of our own with one vhost port, at the other end of two pipes. */
#ifndef VERSUS_TESTPMD_H
#define VERSUS_TESTPMD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct testpmd {
    pid_t pid;          /* 0: there is none */
    int in, out;        /* its standard input and output */
    char tail[4096];    /* the last of what it has said */
    char said[160];     /* what is wrong */
};

/* Starts it on one CPU, listening at a socket. NULL or a sentence. */
const char *testpmd_start(struct testpmd *testpmd, const char *socket, int cpu, uint16_t queues, bool no_huge);
void testpmd_stop(struct testpmd *testpmd);

/* Types a command, and waits for the next prompt. NULL or a sentence. */
const char *testpmd_command(struct testpmd *testpmd, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Takes the CPU from it, and gives it back. When testpmd_pause returns it does not run any more. */
void testpmd_pause(struct testpmd *testpmd);
void testpmd_resume(struct testpmd *testpmd);

/* How long those of its threads that forward have waited for a CPU. */
uint64_t testpmd_waited_ns(const struct testpmd *testpmd);

#endif
