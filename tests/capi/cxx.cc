/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The life of a device, in C++. */
#include <cstdio>

#include "vuser.h"
#include "virtio_user_compat.h"

int main()
{
	vuser_config config;
	vuser_dev *dev = nullptr;
	vuser_pool *pool = nullptr;

	if (vuser_config_init(&config, sizeof(config)) || vuser_config_parse(&config, "path=loopback,packed_vq=1") ||
	    vuser_dev_init(&config, &dev) || vuser_pool_create(nullptr, &pool) ||
	    vuser_rx_queue_setup(dev, 0, 0, pool) || vuser_tx_queue_setup(dev, 0, 0, pool) || vuser_dev_start(dev)) {
		std::fprintf(stderr, "%s\n", vuser_last_error());
		return 1;
	}
	vuser_mbuf *m = vuser_mbuf_alloc(pool);
	if (!m || !vuser_mbuf_append(m, 60) || vuser_tx_burst(vuser_tx_queue(dev, 0), &m, 1) != 1)
		return 2;
	vuser_mbuf *back[1];
	if (vuser_queue_wait(vuser_rx_queue(dev, 0), 5000) != 1 || vuser_rx_burst(vuser_rx_queue(dev, 0), back, 1) != 1)
		return 3;
	if (back[0]->pkt_len != 60)
		return 4;
	vuser_mbuf_free(back[0]);
	vuser_dev_uninit(dev);
	vuser_pool_free(pool);

	virtio_user_dev seed;
	char path[] = "loopback";
	if (virtio_user_dev_init(&seed, path, 1, 0, 256, nullptr, nullptr, 0, 1, 1, 0) != 0)
		return 5;
	virtio_user_dev_uninit(&seed);
	return 0;
}
