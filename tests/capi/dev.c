/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* struct vuser_dev: its whole life, in the right order and in wrong ones. */
#define _POSIX_C_SOURCE 200809L

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"

#define HOST_TSO4 (UINT64_C(1) << 11)
#define UNKNOWN   (UINT64_C(1) << 48)

static int init(const char *devargs, struct vuser_dev **dev)
{
	struct vuser_config config;

	CHECK(vuser_config_init(&config, sizeof(config)) == 0 && vuser_config_parse(&config, devargs) == 0);
	return vuser_dev_init(&config, dev);
}

static void no_device_without_a_back_end(void)
{
	struct vuser_dev *dev = NULL;
	struct vuser_config config;
	struct sockaddr_un addr;
	char devargs[160];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	REFUSED(EINVAL, "config is NULL", vuser_dev_init(NULL, &dev));
	CHECK(vuser_config_init(&config, sizeof(config)) == 0 && vuser_config_parse(&config, "path=loopback") == 0);
	REFUSED(EINVAL, "dev is NULL", vuser_dev_init(&config, NULL));
	REFUSED(ENOENT, "/no/such/socket", init("path=/no/such/socket", &dev));
	REFUSED(EINVAL, "connects to nobody", init("path=loopback,server=1", &dev));
	/* A socket at which nobody listens. */
	memset(&addr, 0, sizeof(addr));
	addr.sun_family = AF_UNIX;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/tmp/vuser-capi-%ld", (long)getpid());
	unlink(addr.sun_path);
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	snprintf(devargs, sizeof(devargs), "path=%s", addr.sun_path);
	REFUSED(ECONNREFUSED, addr.sun_path, init(devargs, &dev));
	/* One that listens and says nothing. */
	CHECK(listen(fd, 1) == 0);
	snprintf(devargs, sizeof(devargs), "path=%s,timeout_ms=100", addr.sun_path);
	REFUSED(ETIMEDOUT, "", init(devargs, &dev));
	CHECK(dev == NULL);
	unlink(addr.sun_path);
	close(fd);
}

static void calls_refuse_no_device(void)
{
	struct vuser_dev_info info;

	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	REFUSED(EINVAL, "dev is NULL", vuser_dev_start(NULL));
	REFUSED(EINVAL, "dev is NULL", vuser_dev_stop(NULL));
	REFUSED(EINVAL, "dev is NULL", vuser_dev_reset(NULL));
	REFUSED(EINVAL, "dev is NULL", vuser_dev_set_features(NULL, 0));
	REFUSED(EINVAL, "dev is NULL", vuser_dev_set_status(NULL, 0));
	REFUSED(EINVAL, "dev is NULL", vuser_dev_get_info(NULL, &info));
	REFUSED(EINVAL, "dev is NULL", vuser_rx_queue_setup(NULL, 0, 0, NULL));
	REFUSED(EINVAL, "dev is NULL", vuser_tx_queue_setup(NULL, 0, 0, NULL));
	REFUSED(EINVAL, "dev is NULL", vuser_mem_register(NULL, 0, 0, 4096, &info));
	REFUSED(EINVAL, "dev is NULL", vuser_mem_unregister(NULL, &info));
	CHECK(vuser_dev_get_status(NULL) == 0 && vuser_dev_features(NULL) == 0);
	CHECK(vuser_dev_device_features(NULL) == 0);
	CHECK(vuser_rx_queue(NULL, 0) == NULL && vuser_tx_queue(NULL, 0) == NULL);
	vuser_dev_uninit(NULL);
}

static void features_are_a_choice_among_those_offered(void)
{
	struct rig rig = rig_open("path=loopback");
	struct vuser_dev *dev = rig.dev;
	uint64_t offered = vuser_dev_device_features(dev), agreed = vuser_dev_features(dev);
	struct vuser_dev_info info;

	CHECK((offered & (VERSION_1 | RING_PACKED | IN_ORDER | MRG_RXBUF)) ==
	      (VERSION_1 | RING_PACKED | IN_ORDER | MRG_RXBUF));
	CHECK((agreed & ~offered) == 0 && (agreed & VERSION_1) != 0 && (agreed & RING_PACKED) == 0);
	REFUSED(EINVAL, "not offered", vuser_dev_set_features(dev, VERSION_1 | UNKNOWN));
	REFUSED(EINVAL, "need", vuser_dev_set_features(dev, VERSION_1 | HOST_TSO4));
	REFUSED(EINVAL, "need", vuser_dev_set_features(dev, RING_PACKED));
	CHECK(vuser_dev_features(dev) == agreed);
	CHECK(vuser_dev_set_features(dev, VERSION_1) == 0 && vuser_dev_features(dev) == VERSION_1);
	/* The choice is what is used, also where the configuration says otherwise. */
	CHECK(vuser_dev_set_features(dev, VERSION_1 | RING_PACKED) == 0);
	CHECK(vuser_dev_start(dev) == 0);
	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	CHECK(vuser_dev_get_info(dev, &info) == 0);
	CHECK(info.packed == 1 && info.in_order == 0 && info.mergeable == 0);
	CHECK(info.features == (VERSION_1 | RING_PACKED) && info.device_features == offered);
	REFUSED(EBUSY, "stop it first", vuser_dev_set_features(dev, VERSION_1));
	/* A stop keeps the choice, a reset forgets it. */
	CHECK(vuser_dev_stop(dev) == 0 && vuser_dev_features(dev) == (VERSION_1 | RING_PACKED));
	CHECK(vuser_dev_reset(dev) == 0 && vuser_dev_features(dev) == agreed);
	rig_close(&rig);
}

static void queues_come_before_the_start(void)
{
	struct vuser_pool *pool = make_pool(64);
	struct vuser_dev *dev = make_dev("path=loopback,queues=2");

	REFUSED(EINVAL, "no queue has been set up; call vuser_rx_queue_setup", vuser_dev_start(dev));
	CHECK(vuser_rx_queue(dev, 0) == NULL && strstr(vuser_last_error(), "not set up") != NULL);
	CHECK(vuser_rx_queue_setup(dev, 0, 0, pool) == 0 && vuser_tx_queue_setup(dev, 0, 64, pool) == 0);
	CHECK(vuser_rx_queue_setup(dev, 1, 0, pool) == 0);
	REFUSED(EINVAL, "queues=2", vuser_rx_queue_setup(dev, 2, 0, pool));
	REFUSED(EINVAL, "queues=2", vuser_tx_queue_setup(dev, 65535, 0, pool));
	REFUSED(EINVAL, "power of two", vuser_rx_queue_setup(dev, 0, 100, pool));
	REFUSED(EINVAL, "queue_size=1", vuser_rx_queue_setup(dev, 0, 1, pool));
	REFUSED(EINVAL, "pool is NULL", vuser_rx_queue_setup(dev, 0, 0, NULL));
	REFUSED(EINVAL, "pool is NULL", vuser_tx_queue_setup(dev, 0, 0, NULL));
	CHECK(vuser_rx_queue(dev, 2) == NULL && vuser_tx_queue(dev, 1) == NULL);
	CHECK((vuser_dev_get_status(dev) & VUSER_STATUS_DRIVER_OK) == 0);
	/* The pool lives as long as the device needs it. */
	vuser_pool_free(pool);
	vuser_dev_uninit(dev);
}

static void a_device_starts_stops_and_starts_again(void)
{
	static const uint8_t started =
		VUSER_STATUS_ACK | VUSER_STATUS_DRIVER | VUSER_STATUS_FEATURES_OK | VUSER_STATUS_DRIVER_OK;
	struct rig rig = rig_open("path=loopback");
	struct vuser_dev *dev = rig.dev;
	struct vuser_mbuf *m;
	unsigned i;

	CHECK(vuser_dev_get_status(dev) == (VUSER_STATUS_ACK | VUSER_STATUS_DRIVER));
	CHECK(vuser_dev_stop(dev) == 0);
	for (i = 0; i < 4; i++) {
		/* Either way. */
		CHECK((i % 2 ? vuser_dev_set_status(dev, VUSER_STATUS_DRIVER_OK) : vuser_dev_start(dev)) == 0);
		CHECK(vuser_dev_get_status(dev) == started);
		REFUSED(EBUSY, "stop it first", vuser_dev_start(dev));
		REFUSED(EBUSY, "stop it first", vuser_rx_queue_setup(dev, 0, 0, rig.pool));
		REFUSED(EBUSY, "stop it first", vuser_dev_set_offloads(dev, 0));
		CHECK(vuser_dev_set_queue_pairs(dev, 1) == 0);
		REFUSED(ENOENT, "no memory is registered", vuser_mem_unregister(dev, &rig));
		CHECK(vuser_dev_get_status(dev) == started);
		/* The queues are those of before. */
		CHECK(vuser_rx_queue(dev, 0) == rig.rx && vuser_tx_queue(dev, 0) == rig.tx);
		m = make_frame(rig.pool, 64, i);
		CHECK(vuser_tx_burst(rig.tx, &m, 1) == 1);
		m = receive_one(rig.rx);
		check_frame(m, 64, i);
		vuser_mbuf_free(m);
		CHECK((i < 2 ? vuser_dev_stop(dev) : vuser_dev_set_status(dev, 0)) == 0);
		CHECK(vuser_dev_stop(dev) == 0);
		CHECK((vuser_dev_get_status(dev) & (VUSER_STATUS_DRIVER_OK | VUSER_STATUS_FEATURES_OK)) == 0);
		CHECK(vuser_pool_available(rig.pool) == RIG_BUFFERS);
	}
	/* Another size, another pool's place: set up anew. */
	CHECK(vuser_rx_queue_setup(dev, 0, 32, rig.pool) == 0 && vuser_dev_start(dev) == 0);
	CHECK(vuser_rx_queue(dev, 0) == rig.rx);
	/* Closed while it runs. */
	rig_close(&rig);
}

static void info_says_what_is_known(void)
{
	struct {
		struct vuser_dev_info info;
		unsigned char more[32];
	} newer;
	struct rig rig = rig_open("path=loopback,mac=52:54:00:00:00:07,queue_size=64,speed=25000");
	struct vuser_dev_info info;
	size_t i;

	memset(&info, 0, sizeof(info));
	REFUSED(EINVAL, "sizeof", vuser_dev_get_info(rig.dev, &info));
	REFUSED(EINVAL, "info is NULL", vuser_dev_get_info(rig.dev, NULL));
	info.size = sizeof(info);
	CHECK(vuser_dev_get_info(rig.dev, &info) == 0 && info.link_up == 0);
	CHECK(vuser_dev_start(rig.dev) == 0 && vuser_dev_get_info(rig.dev, &info) == 0);
	CHECK(info.size == sizeof(info) && info.link_up == 1 && info.packed == 0 && info.in_order == 1);
	CHECK(info.mergeable == 1 && info.hdr_len == 12 && info.mtu == 1500 && info.speed == 25000);
	CHECK(info.queue_pairs == 1 && info.max_queue_pairs == 1 && info.queue_size == 64);
	CHECK(memcmp(info.mac, "\x52\x54\0\0\0\x07", 6) == 0 && info.status == vuser_dev_get_status(rig.dev));
	CHECK(strstr(info.backend, "loopback") != NULL && strncmp(info.path, "split", 5) == 0);
	CHECK(info.features == vuser_dev_features(rig.dev) && info.protocol_features != 0);
	/* Smaller and larger structs than the library's. */
	memset(&info, 0xa5, sizeof(info));
	info.size = offsetof(struct vuser_dev_info, mtu);
	CHECK(vuser_dev_get_info(rig.dev, &info) == 0 && info.queue_size == 64);
	CHECK(info.size == offsetof(struct vuser_dev_info, mtu) && info.mtu == 0xa5a5);
	memset(&newer, 0xa5, sizeof(newer));
	newer.info.size = sizeof(newer);
	CHECK(vuser_dev_get_info(rig.dev, &newer.info) == 0 && newer.info.mtu == 1500);
	for (i = 0; i < sizeof(newer.more); i++)
		CHECK(newer.more[i] == 0xa5);
	rig_close(&rig);
}

static void filters_need_a_device_that_has_them(void)
{
	static const uint8_t mac[12] = {2, 0, 0, 0, 0, 0x55, 1, 0, 0x5e, 0, 0, 1};
	struct rig rig = rig_open("path=loopback");
	struct vuser_dev *dev = rig.dev;
	struct vuser_dev_info info;

	REFUSED(EINVAL, "dev is NULL", vuser_dev_set_mac(NULL, mac));
	REFUSED(EINVAL, "mac is NULL", vuser_dev_set_mac(dev, NULL));
	REFUSED(EINVAL, "a group of stations", vuser_dev_set_mac(dev, mac + 6));
	CHECK(vuser_dev_set_mac(dev, mac) == 0);
	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	CHECK(vuser_dev_get_info(dev, &info) == 0 && memcmp(info.mac, mac, 6) == 0);
	REFUSED(EINVAL, "dev is NULL", vuser_dev_set_promiscuous(NULL, 1));
	REFUSED(ENOTSUP, "CTRL_RX", vuser_dev_set_promiscuous(dev, 1));
	REFUSED(ENOTSUP, "CTRL_RX", vuser_dev_set_allmulticast(dev, 1));
	REFUSED(EINVAL, "addresses is NULL", vuser_dev_set_addresses(dev, NULL, 1));
	REFUSED(ENOTSUP, "CTRL_RX", vuser_dev_set_addresses(dev, mac, 2));
	REFUSED(ENOTSUP, "CTRL_VLAN", vuser_dev_vlan_filter(dev, 5, 1));
	REFUSED(EINVAL, "no VLAN 4096", vuser_dev_vlan_filter(dev, 4096, 1));
	REFUSED(ENOTSUP, "GUEST_ANNOUNCE", vuser_dev_announced(dev));
	rig_close(&rig);
}

int main(void)
{
	no_device_without_a_back_end();
	calls_refuse_no_device();
	features_are_a_choice_among_those_offered();
	filters_need_a_device_that_has_them();
	queues_come_before_the_start();
	a_device_starts_stops_and_starts_again();
	info_says_what_is_known();
	return 0;
}
