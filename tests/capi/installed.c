/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* What a user writes first, compiled against what was installed. */
#include <stdio.h>

#include <vuser.h>

int main(void)
{
	struct vuser_config config;
	struct vuser_dev *dev;

	if (vuser_config_init(&config, sizeof(config)) != 0 || vuser_config_parse(&config, "path=loopback") != 0 ||
	    vuser_dev_init(&config, &dev) != 0) {
		fprintf(stderr, "%s\n", vuser_last_error());
		return 1;
	}
	vuser_dev_uninit(dev);
	printf("%s\n", vuser_version());
	return 0;
}
