/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The hash of received frames where the device computes none: as Microsoft's verification suite has it, on all paths. */
#include "check.h"

/* 66.9.149.187:2794 to 161.142.100.80:1766 by UDP, and what the suite says of it. */
static const uint8_t frame[60] = {
	2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0,
	66, 9, 149, 187, 161, 142, 100, 80, 2794 >> 8, 2794 & 255, 1766 >> 8, 1766 & 255,
};
#define WITH_PORTS 0x51ccc178u
#define ADDRESSES  0x323e8fc2u

static void set_rss(struct rig *rig, uint32_t types)
{
	struct vuser_rss rss;

	memset(&rss, 0, sizeof(rss));
	rss.size = sizeof(rss);
	rss.types = types;
	CHECK(vuser_dev_set_rss(rig->dev, &rss) == 0);
}

/* Frames that go to and fro; a multiple of four in one burst, so that they may be taken in steps. */
static void exchange(struct rig *rig, int hashed, uint32_t hash)
{
	struct vuser_mbuf *m[8];
	unsigned i, n;

	for (i = 0; i < 8; i++) {
		m[i] = vuser_mbuf_alloc(rig->pool);
		CHECK(m[i] != NULL);
		memcpy(vuser_mbuf_append(m[i], sizeof(frame)), frame, sizeof(frame));
	}
	CHECK(vuser_tx_burst(rig->tx, m, 8) == 8);
	for (n = 0; n < 8; n++) {
		struct vuser_mbuf *got = receive_one(rig->rx);

		CHECK(!(got->ol_flags & VUSER_MBUF_F_RX_RSS_HASH) == !hashed);
		CHECK(!hashed || got->hash_rss == hash);
		vuser_mbuf_free(got);
	}
}

static void frames_are_hashed(const char *devargs)
{
	struct rig rig = rig_open(devargs);
	struct vuser_rss_limits limits;
	struct vuser_dev_info info;
	struct vuser_rss rss;
	uint8_t key[41];
	uint16_t table[2] = { 0, 0 };

	CHECK(vuser_dev_start(rig.dev) == 0);
	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	CHECK(vuser_dev_get_info(rig.dev, &info) == 0);
	CHECK(info.offloads & info.offload_capa & VUSER_OFFLOAD_HASH);
	exchange(&rig, 1, WITH_PORTS);
	set_rss(&rig, VUSER_HASH_IPV4 | VUSER_HASH_TCPV4);
	exchange(&rig, 1, ADDRESSES);
	set_rss(&rig, VUSER_HASH_IPV6);
	exchange(&rig, 0, 0);
	set_rss(&rig, VUSER_HASH_IPV4 | VUSER_HASH_UDPV4);
	CHECK(vuser_dev_stop(rig.dev) == 0 && vuser_dev_start(rig.dev) == 0);
	exchange(&rig, 1, WITH_PORTS);

	memset(&limits, 0, sizeof(limits));
	REFUSED(EINVAL, "size", vuser_dev_rss_limits(rig.dev, &limits));
	limits.size = sizeof(limits);
	CHECK(vuser_dev_rss_limits(rig.dev, &limits) == 0);
	CHECK(limits.types == 0x1ff && limits.key_len == 40 && limits.table_len == 0);

	memset(&rss, 0, sizeof(rss));
	memset(key, 0, sizeof(key));
	REFUSED(EINVAL, "size", vuser_dev_set_rss(rig.dev, &rss));
	REFUSED(EINVAL, "rss is NULL", vuser_dev_set_rss(rig.dev, NULL));
	rss.size = sizeof(rss);
	rss.types = 0x200;
	REFUSED(ENOTSUP, "types", vuser_dev_set_rss(rig.dev, &rss));
	rss.types = VUSER_HASH_IPV4;
	rss.key_len = 40;
	REFUSED(EINVAL, "key", vuser_dev_set_rss(rig.dev, &rss));
	rss.key = key;
	rss.key_len = 41;
	REFUSED(ENOTSUP, "40 bytes", vuser_dev_set_rss(rig.dev, &rss));
	rss.key_len = 40;
	rss.table = table;
	rss.table_len = 2;
	REFUSED(ENOTSUP, "table", vuser_dev_set_rss(rig.dev, &rss));
	/* Nothing of that was taken. */
	exchange(&rig, 1, WITH_PORTS);
	rss.table = NULL;
	rss.table_len = 0;
	CHECK(vuser_dev_set_rss(rig.dev, &rss) == 0);
	exchange(&rig, 1, 0);
	rig_close(&rig);
}

int main(void)
{
	struct rig rig;

	frames_are_hashed("path=loopback,hash=1,mrg_rxbuf=0");
	frames_are_hashed("path=loopback,hash=1,packed_vq=1,in_order=0");
	/* Not asked for. */
	rig = rig_open("path=loopback");
	CHECK(vuser_dev_start(rig.dev) == 0);
	exchange(&rig, 0, 0);
	rig_close(&rig);
	return 0;
}
