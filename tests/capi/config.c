/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* struct vuser_config: defaults, devargs, structs of other releases, fields that can't be. */
#include <stddef.h>

#include "check.h"

static struct vuser_config defaults(void)
{
	struct vuser_config config;

	memset(&config, 0xa5, sizeof(config));
	CHECK(vuser_config_init(&config, sizeof(config)) == 0);
	return config;
}

static struct vuser_config loopback(void)
{
	struct vuser_config config = defaults();

	CHECK(vuser_config_parse(&config, "path=loopback") == 0);
	return config;
}

static void defaults_are_those_of_virtio_user(void)
{
	struct vuser_config c = defaults();

	CHECK(c.size == sizeof(c));
	CHECK(c.path[0] == 0 && c.iface[0] == 0 && c.mode[0] == 0 && c.has_mac == 0 && c.reserved == 0);
	CHECK(c.queues == 1 && c.queue_size == 256 && c.cq == 0 && c.server == 0);
	CHECK(c.mrg_rxbuf == 1 && c.in_order == 1 && c.packed_vq == 0 && c.vectorized == 0);
	CHECK(c.event_idx == 1 && c.indirect == 1 && c.huge == 1 && c.stats == 0);
	CHECK(c.speed == UINT32_MAX && c.timeout_ms == 10000 && c.offloads == 0);
	CHECK(c.reconnect == 1 && c.reconnect_ms == 1000 && c.resend == 1 && c.events_manual == 0);
	CHECK(c.server_wait_ms == 0 && c.socket_mode == 0);
}

/* In all that has a name: what lies between is nobody's. */
static int same(const struct vuser_config *a, const struct vuser_config *b)
{
#define RUN(first, last)                                                                                          \
	(memcmp((const char *)a + offsetof(struct vuser_config, first), (const char *)b + offsetof(struct vuser_config, first), \
		offsetof(struct vuser_config, last) + sizeof(a->last) - offsetof(struct vuser_config, first)) == 0)
	return RUN(size, queue_size) && RUN(speed, persist) && RUN(reconnect_ms, reserved3);
#undef RUN
}

static void devargs_set_what_they_name(void)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
	struct vuser_config c = defaults(), before;

	CHECK(vuser_config_parse(&c, "path=/tmp/s,mac=52:54:00:12:34:56,queues=3,queue_size=0x100,packed_vq=1,"
				     "mrg_rxbuf=0,in_order=0,speed=10000,csum=1,tso=1,timeout_ms=50") == 0);
	CHECK(strcmp(c.path, "/tmp/s") == 0 && c.has_mac == 1 && memcmp(c.mac, mac, 6) == 0);
	CHECK(c.queues == 3 && c.queue_size == 256 && c.packed_vq == 1 && c.mrg_rxbuf == 0 && c.in_order == 0);
	CHECK(c.speed == 10000 && c.timeout_ms == 50);
	CHECK(c.offloads == (VUSER_OFFLOAD_CSUM | VUSER_OFFLOAD_TSO));
	CHECK(vuser_config_parse(&c, "socket_mode=0660,server_wait_ms=70,reconnect=0,reconnect_ms=80,resend=0,"
				     "events=manual") == 0);
	CHECK(c.socket_mode == 0660 && c.server_wait_ms == 70 && c.reconnect == 0 && c.reconnect_ms == 80);
	CHECK(c.resend == 0 && c.events_manual == 1);
	/* What is not named keeps its value; nothing named is right too. */
	before = c;
	CHECK(vuser_config_parse(&c, "") == 0 && same(&c, &before));
	CHECK(vuser_config_parse(&c, "tso=0") == 0 && c.offloads == VUSER_OFFLOAD_CSUM && c.queues == 3);
}

static void wrong_devargs_change_nothing(void)
{
	static const struct {
		const char *devargs, *word;
	} wrong[] = {
		{ "path=/tmp/s,queus=2", "queus" },    { "queues", "queues" },         { "queues=", "queues" },
		{ "queues=0", "1 to 128" },            { "queues=129", "1 to 128" },   { "queues=-1", "queues" },
		{ "queues=2,queues=2", "twice" },      { "packed_vq=2", "0 or 1" },    { "mac=52:54", "mac" },
		{ "mac=01:00:00:00:00:01", "station" }, { "speed=3", "speed" },        { "mode=loop", "echo" },
		{ "path=", "path" },                   { "path=/tmp/s,", "name=value" }, { "queue_size=32769", "32768" },
		{ "iface=0123456789abcdef", "15" },    { "cq=\377", "UTF-8" },
	};
	struct vuser_config c = loopback(), before = c;
	char longest[300];
	size_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		REFUSED(EINVAL, wrong[i].word, vuser_config_parse(&c, wrong[i].devargs));
		CHECK(same(&c, &before));
	}
	/* 255 bytes fit, 256 do not. */
	memset(longest, 'x', sizeof(longest));
	memcpy(longest, "path=", 5);
	longest[5 + 256] = 0;
	REFUSED(EINVAL, "path has 256 bytes", vuser_config_parse(&c, longest));
	CHECK(same(&c, &before));
	longest[5 + 255] = 0;
	CHECK(vuser_config_parse(&c, longest) == 0 && strlen(c.path) == 255);

	REFUSED(EINVAL, "devargs is NULL", vuser_config_parse(&c, NULL));
	REFUSED(EINVAL, "config is NULL", vuser_config_parse(NULL, "queues=1"));
	REFUSED(EINVAL, "config is NULL", vuser_config_init(NULL, sizeof(struct vuser_config)));
}

static void fields_set_by_hand_are_looked_at(void)
{
	struct vuser_config c;
	struct vuser_dev *dev = NULL;

#define WRONG(word, change)                                      \
	do {                                                     \
		c = loopback();                                  \
		change;                                          \
		REFUSED(EINVAL, word, vuser_dev_init(&c, &dev)); \
		CHECK(dev == NULL);                              \
	} while (0)
	WRONG("path does not end", memset(c.path, 'a', sizeof(c.path)));
	WRONG("iface does not end", memset(c.iface, 'a', sizeof(c.iface)));
	WRONG("mode does not end", memset(c.mode, 'a', sizeof(c.mode)));
	WRONG("mode=loop", strcpy(c.mode, "loop"));
	WRONG("iface is not UTF-8", strcpy(c.iface, "\377"));
	WRONG("unknown bits", c.offloads = UINT64_C(1) << 40);
	WRONG("packed_vq=2", c.packed_vq = 2);
	WRONG("has_mac=7", c.has_mac = 7);
	WRONG("reconnect=2", c.reconnect = 2);
	WRONG("events_manual=3", c.events_manual = 3);
	WRONG("socket_mode=10000", c.socket_mode = 010000);
	WRONG("queues=0", c.queues = 0);
	WRONG("queue_size=100", c.queue_size = 100);
	WRONG("timeout_ms=0", c.timeout_ms = 0);
	WRONG("speed", c.speed = 7);
	WRONG("mac=", c.has_mac = 1; c.mac[0] = 1);
	WRONG("path is missing", c.path[0] = 0);
	/* The size is looked at before anything else. */
	WRONG("sizeof", c.size = 0);
	WRONG("sizeof", c.size = 1);
	WRONG("sizeof", c.size = (size_t)1 << 20);
#undef WRONG
	c = defaults();
	c.size = 3;
	REFUSED(EINVAL, "sizeof", vuser_config_parse(&c, "queues=1"));
}

static void structs_of_other_releases_are_understood(void)
{
	struct {
		struct vuser_config config;
		unsigned char more[64];
	} newer;
	struct vuser_config c;
	struct vuser_dev *dev = NULL;
	size_t i;

	/* A program of a release that knew the fields up to `timeout_ms`: what is behind is not ours to touch. */
	c = defaults();
	c.size = offsetof(struct vuser_config, offloads);
	memset((char *)&c + c.size, 0xa5, sizeof(c) - c.size);
	CHECK(vuser_config_parse(&c, "path=loopback,queues=2,csum=1") == 0);
	CHECK(c.queues == 2 && c.size == offsetof(struct vuser_config, offloads));
	for (i = c.size; i < sizeof(c); i++)
		CHECK(((unsigned char *)&c)[i] == 0xa5);
	CHECK(vuser_dev_init(&c, &dev) == 0);
	vuser_dev_uninit(dev);

	/* A program of a release that knows more than this library. */
	memset(&newer, 0xa5, sizeof(newer));
	newer.config = loopback();
	newer.config.size = sizeof(newer);
	CHECK(vuser_config_parse(&newer.config, "queues=2") == 0);
	CHECK(newer.config.queues == 2 && newer.config.size == sizeof(newer));
	for (i = 0; i < sizeof(newer.more); i++)
		CHECK(newer.more[i] == 0xa5);
	CHECK(vuser_dev_init(&newer.config, &dev) == 0);
	vuser_dev_uninit(dev);
}

int main(void)
{
	defaults_are_those_of_virtio_user();
	devargs_set_what_they_name();
	wrong_devargs_change_nothing();
	fields_set_by_hand_are_looked_at();
	structs_of_other_releases_are_understood();
	return 0;
}
