/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* struct vuser_feature: what a back-end offers, and why not all of it is used. */
#define _POSIX_C_SOURCE 200809L

#include <unistd.h>

#include "check.h"

static struct vuser_feature get(struct vuser_dev *dev, uint32_t kind, const char *name)
{
	struct vuser_feature feature;
	unsigned i;
	int rc;

	memset(&feature, 0, sizeof(feature));
	feature.size = sizeof(feature);
	for (i = 0; (rc = vuser_dev_feature(dev, i, &feature)) == 0; i++)
		if (feature.kind == kind && strcmp(feature.name, name) == 0)
			return feature;
	CHECK(rc == -ENOENT);
	fprintf(stderr, "no feature %s\n", name);
	exit(1);
}

static void the_table_agrees_with_the_masks(void)
{
	struct vuser_dev *dev = make_dev("path=loopback,packed_vq=1");
	struct vuser_feature feature;
	struct vuser_dev_info info;
	uint64_t offered[2] = { 0, 0 }, used[2] = { 0, 0 };
	const uint64_t own = UINT64_C(1) << 26 | UINT64_C(1) << 30; /* between the library and the back-end */
	unsigned i;

	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	CHECK(vuser_dev_get_info(dev, &info) == 0);
	memset(&feature, 0, sizeof(feature));
	feature.size = sizeof(feature);
	for (i = 0; vuser_dev_feature(dev, i, &feature) == 0; i++) {
		CHECK(feature.kind == VUSER_FEATURE_VIRTIO || feature.kind == VUSER_FEATURE_PROTOCOL);
		CHECK(feature.bit < 64 && feature.name[0] != '\0' && feature.size == sizeof(feature));
		CHECK(!feature.used || (feature.known && feature.why[0] == '\0'));
		CHECK(!feature.offered || feature.used || feature.why[0] != '\0');
		offered[feature.kind] |= (uint64_t)feature.offered << feature.bit;
		used[feature.kind] |= (uint64_t)feature.used << feature.bit;
	}
	CHECK(i > 60);
	CHECK((offered[0] & ~own) == info.device_features && (used[0] & ~own) == info.features);
	CHECK(offered[1] == info.protocol_features_offered && used[1] == info.protocol_features);
	feature = get(dev, VUSER_FEATURE_VIRTIO, "ring_packed");
	CHECK(feature.offered && feature.used && feature.known && feature.bit == 34);
	CHECK(strstr(get(dev, VUSER_FEATURE_VIRTIO, "host_tso4").why, "tso=1 asks for it") != NULL);
	CHECK(get(dev, VUSER_FEATURE_PROTOCOL, "reply_ack").used);
	vuser_dev_uninit(dev);
}

static void wrong_calls_are_refused(void)
{
	struct vuser_dev *dev = make_dev("path=loopback");
	struct vuser_feature feature;
	/* A caller that knows the first fields only. */
	struct {
		size_t size;
		uint32_t kind, bit;
		char beyond[8];
	} old = { 16, 7, 7, "beyond" };

	memset(&feature, 0, sizeof(feature));
	REFUSED(EINVAL, "size", vuser_dev_feature(dev, 0, &feature));
	REFUSED(EINVAL, "feature is NULL", vuser_dev_feature(dev, 0, NULL));
	feature.size = sizeof(feature);
	REFUSED(EINVAL, "dev is NULL", vuser_dev_feature(NULL, 0, &feature));
	REFUSED(ENOENT, "no feature 4294967295", vuser_dev_feature(dev, UINT32_MAX, &feature));
	CHECK(vuser_dev_feature(dev, 1, (struct vuser_feature *)&old) == 0);
	CHECK(old.kind == VUSER_FEATURE_VIRTIO && old.bit == 1 && strcmp(old.beyond, "beyond") == 0);
	vuser_dev_uninit(dev);
}

static void a_device_that_waits_for_its_back_end_has_wishes(void)
{
	struct vuser_feature feature;
	struct vuser_dev *dev;
	char devargs[160];

	snprintf(devargs, sizeof(devargs), "path=/tmp/vuser-feature-%ld,server=1,packed_vq=1", (long)getpid());
	dev = make_dev(devargs);
	feature = get(dev, VUSER_FEATURE_VIRTIO, "ring_packed");
	CHECK(!feature.offered && feature.used && strstr(feature.why, "no back-end has come yet") != NULL);
	feature = get(dev, VUSER_FEATURE_PROTOCOL, "config");
	CHECK(!feature.offered && !feature.used && strstr(feature.why, "no back-end has come yet") != NULL);
	vuser_dev_uninit(dev);
}

int main(void)
{
	the_table_agrees_with_the_masks();
	wrong_calls_are_refused();
	a_device_that_waits_for_its_back_end_has_wishes();
	return 0;
}
