/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* What this process has of the system's: descriptors, mappings, memory. */
#define _GNU_SOURCE

#include "peers.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

unsigned count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (dir != NULL && readdir(dir) != NULL)
        n++;
    if (dir != NULL)
        closedir(dir);
    return n;
}

unsigned count_maps(bool shared)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char line[512], rights[8];
    unsigned n = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "%*s %7s", rights) == 1)
            n += !shared || rights[3] == 's';
    if (file != NULL)
        fclose(file);
    return n;
}

unsigned long resident_kib(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;

    if (file != NULL && fscanf(file, "%*u %lu", &pages) != 1)
        pages = 0;
    if (file != NULL)
        fclose(file);
    return pages * (unsigned long)sysconf(_SC_PAGESIZE) / 1024;
}
