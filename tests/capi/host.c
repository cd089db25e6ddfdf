/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The process that loads the library stays as it was: no signal is touched, no variable of the environment is read, no
 * memory is locked, and limits on memory and descriptors are errors with a sentence. */
#define _DEFAULT_SOURCE

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/* In place of the C library's, for all that is loaded. */
static char asked[64];
extern char **environ;

char *getenv(const char *name)
{
	size_t len = strlen(name);
	char **e;

	if (asked[0] == '\0' && len < sizeof(asked))
		memcpy(asked, name, len + 1);
	for (e = environ; e != NULL && *e != NULL; e++)
		if (strncmp(*e, name, len) == 0 && (*e)[len] == '=')
			return *e + len + 1;
	return NULL;
}

static void note_signals(struct sigaction *actions)
{
	int i;

	for (i = 1; i < 32; i++)
		CHECK(sigaction(i, NULL, &actions[i]) == 0);
}

/* A signal that is for the process comes to a thread of the program's. */
static unsigned threads_that_take_no_signals(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned long long blocked;
	unsigned threads = 0;
	struct dirent *task;
	char name[300], line[200];
	FILE *f;

	CHECK(tasks != NULL);
	while ((task = readdir(tasks)) != NULL) {
		if (task->d_name[0] == '.' || atoi(task->d_name) == getpid())
			continue;
		snprintf(name, sizeof(name), "/proc/self/task/%s/status", task->d_name);
		f = fopen(name, "r");
		CHECK(f != NULL);
		blocked = 0;
		while (fgets(line, sizeof(line), f) != NULL)
			if (sscanf(line, "SigBlk: %llx", &blocked) == 1)
				break;
		fclose(f);
		CHECK((blocked >> (SIGINT - 1) & 1) && (blocked >> (SIGTERM - 1) & 1) && (blocked >> (SIGUSR1 - 1) & 1));
		threads++;
	}
	closedir(tasks);
	return threads;
}

static void a_frame_passes(struct rig *rig)
{
	struct vuser_mbuf *m = make_frame(rig->pool, 60, 1);

	CHECK(vuser_tx_burst(rig->tx, &m, 1) == 1);
	m = receive_one(rig->rx);
	check_frame(m, 60, 1);
	vuser_mbuf_free(m);
}

static void nothing_of_the_process_changes(void)
{
	struct sigaction before[32], after[32];
	sigset_t mask, mask_after;
	struct rig rig;
	int i;

	note_signals(before);
	CHECK(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
	rig = rig_open("path=loopback,queue_size=64");
	CHECK(vuser_dev_start(rig.dev) == 0);
	CHECK(threads_that_take_no_signals() >= 2);
	a_frame_passes(&rig);
	CHECK(vuser_dev_stop(rig.dev) == 0);
	rig_close(&rig);
	note_signals(after);
	CHECK(sigprocmask(SIG_SETMASK, NULL, &mask_after) == 0);
	for (i = 1; i < 32; i++) {
		CHECK(before[i].sa_handler == after[i].sa_handler);
		CHECK(sigismember(&mask, i) == sigismember(&mask_after, i));
	}
	if (asked[0] != '\0')
		fprintf(stderr, "the library has read %s of the environment\n", asked);
	CHECK(asked[0] == '\0');
}

static uint64_t bytes_mapped(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	CHECK(f != NULL && fscanf(f, "%lu", &pages) == 1);
	fclose(f);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Under every limit there is a pool, or an error: the program is never ended for want of memory. */
static void a_limit_on_memory_is_an_error(void)
{
	struct rlimit old, limit;
	struct vuser_pool_config config;
	struct vuser_pool *pool;
	unsigned refused = 0;
	uint64_t more;
	int rc = -1;

	memset(&config, 0, sizeof(config));
	config.size = sizeof(config);
	config.count = 1 << 18;
	config.data_size = 192;
	config.no_huge = 1;
	CHECK(getrlimit(RLIMIT_AS, &old) == 0);
	limit = old;
	for (more = 8 << 20; rc != 0 && more < 1 << 30; more += 8 << 20) {
		limit.rlim_cur = bytes_mapped() + more;
		CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
		pool = NULL;
		rc = vuser_pool_create(&config, &pool);
		CHECK(setrlimit(RLIMIT_AS, &old) == 0);
		if (rc == 0)
			vuser_pool_free(pool);
		else
			CHECK(rc == -ENOMEM && pool == NULL && *vuser_last_error() != '\0');
		refused += rc != 0 && strstr(vuser_last_error(), "descriptors") != NULL;
	}
	CHECK(rc == 0 && refused > 0);
}

/* Whatever number of descriptors the process may have: a device, or an error, and nothing is left open. */
static void a_limit_on_descriptors_is_an_error(void)
{
	struct rlimit old, limit;
	struct vuser_config config;
	struct vuser_dev *dev;
	unsigned refused = 0;
	int rc = -1, probe = dup(0);

	CHECK(probe >= 0 && close(probe) == 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
	CHECK(vuser_config_init(&config, sizeof(config)) == 0);
	CHECK(vuser_config_parse(&config, "path=loopback") == 0);
	limit = old;
	for (limit.rlim_cur = (rlim_t)probe; rc != 0 && limit.rlim_cur < (rlim_t)probe + 200; limit.rlim_cur++) {
		CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
		dev = NULL;
		rc = vuser_dev_init(&config, &dev);
		CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
		if (rc == 0)
			vuser_dev_uninit(dev);
		else
			CHECK(rc == -EMFILE && dev == NULL && *vuser_last_error() != '\0');
		refused += rc != 0;
		CHECK(dup(0) == probe && close(probe) == 0);
	}
	CHECK(rc == 0 && refused > 0);
}

static unsigned long kilobytes(const char *what)
{
	FILE *f = fopen("/proc/self/status", "r");
	unsigned long found = ~0UL;
	size_t len = strlen(what);
	char line[200];

	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, what, len) == 0)
			found = strtoul(line + len, NULL, 10);
	fclose(f);
	return found;
}

/* Nothing is locked, so that a program that may lock nothing has all there is. Root may whatever the limit says. */
static void no_memory_is_locked(void)
{
	struct rlimit none = { 0, 0 };
	struct rig rig;
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
		CHECK(geteuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0) || errno == EINVAL);
		rig = rig_open("path=loopback");
		CHECK(vuser_dev_start(rig.dev) == 0);
		a_frame_passes(&rig);
		CHECK(kilobytes("VmLck:") == 0 && kilobytes("VmPin:") == 0);
		rig_close(&rig);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
	no_memory_is_locked();
	/* First: what an error does not read is not read later either. */
	nothing_of_the_process_changes();
	a_limit_on_memory_is_an_error();
	a_limit_on_descriptors_is_an_error();
	nothing_of_the_process_changes();
	return 0;
}
