/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* A child that was forked: the device stays the parent's, whatever the child does with it but bursts. */
#define _POSIX_C_SOURCE 200809L

#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static void echo(struct rig *rig, unsigned number)
{
	struct vuser_mbuf *m = make_frame(rig->pool, 60, number);
	double end = seconds() + 60;

	while (vuser_tx_burst(rig->tx, &m, 1) == 0)
		CHECK(seconds() < end);
	while (vuser_rx_burst(rig->rx, &m, 1) == 0)
		CHECK(seconds() < end);
	check_frame(m, 60, number);
	vuser_mbuf_free(m);
}

static void child(struct rig *rig)
{
	struct vuser_dev_info info;

	info.size = sizeof(info);
	REFUSED(ECHILD, "forked", vuser_dev_get_info(rig->dev, &info));
	REFUSED(ECHILD, "forked", vuser_dev_stop(rig->dev));
	CHECK(vuser_dev_process(rig->dev, NULL, 0) == -ECHILD);
	vuser_dev_uninit(rig->dev);
	_exit(0);
}

int main(void)
{
	struct rig rig = rig_open("path=loopback");
	unsigned round;
	int status;

	CHECK(vuser_dev_start(rig.dev) == 0);
	for (round = 0; round < 20; round++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid == 0)
			child(&rig);
		echo(&rig, 2 * round);
		CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
		echo(&rig, 2 * round + 1);
	}
	rig_close(&rig);
	return 0;
}
