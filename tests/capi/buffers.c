/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* struct vuser_pool and struct vuser_mbuf: from the pool and back, and what can be done with a packet meanwhile. */
#include "check.h"

#define COUNT 100

static struct vuser_mbuf *all[COUNT + 1];

static void pools_are_made_of_what_was_asked_for(void)
{
	struct vuser_pool_config config;
	struct vuser_pool *pool = NULL;
	struct vuser_mbuf *m;

	memset(&config, 0, sizeof(config));
	REFUSED(EINVAL, "sizeof", vuser_pool_create(&config, &pool));
	config.size = sizeof(config);
	config.no_huge = 1;
	REFUSED(EINVAL, "pool is NULL", vuser_pool_create(&config, NULL));
	config.headroom = 256;
	config.data_size = 300;
	REFUSED(EINVAL, "headroom", vuser_pool_create(&config, &pool));
	config.data_size = 1024;
	config.count = (1u << 24) + 1;
	REFUSED(EINVAL, "buffers", vuser_pool_create(&config, &pool));
	CHECK(pool == NULL);
	config.count = 3;
	CHECK(vuser_pool_create(&config, &pool) == 0 && vuser_pool_available(pool) == 3);
	m = vuser_mbuf_alloc(pool);
	CHECK(m != NULL && m->buf_len == 1024 && m->data_off == 256 && vuser_pool_available(pool) == 2);
	vuser_mbuf_free(m);
	vuser_pool_free(pool);
	/* All defaults, and a struct that knows no more than its size and the number. */
	CHECK(vuser_pool_create(NULL, &pool) == 0 && vuser_pool_available(pool) == 8192);
	vuser_pool_free(pool);
	config.size = offsetof(struct vuser_pool_config, data_size);
	CHECK(vuser_pool_create(&config, &pool) == 0 && vuser_pool_available(pool) == 3);
	m = vuser_mbuf_alloc(pool);
	CHECK(m != NULL && m->buf_len == 2176 && m->data_off == 128);
	vuser_mbuf_free(m);
	vuser_pool_free(pool);
	vuser_pool_free(NULL);
	CHECK(vuser_pool_available(NULL) == 0);
}

static void a_pool_gives_what_it_has_and_no_more(void)
{
	struct vuser_pool *pool = make_pool(COUNT);
	unsigned i, round;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < COUNT; i++) {
			all[i] = vuser_mbuf_alloc(pool);
			CHECK(all[i] != NULL && all[i]->next == NULL && all[i]->nb_segs == 1 && all[i]->refcnt == 1);
			CHECK(all[i]->pkt_len == 0 && all[i]->data_len == 0 && all[i]->ol_flags == 0);
			CHECK((uintptr_t)all[i] % 64 == 0 && all[i]->tx_offload == 0);
			/* Whatever was written is gone the next time. */
			memset(vuser_mbuf_append(all[i], 60), (int)i, 60);
			all[i]->ol_flags = VUSER_MBUF_F_TX_VLAN;
			all[i]->tx_offload = 7;
		}
		CHECK(vuser_mbuf_alloc(pool) == NULL && vuser_pool_available(pool) == 0);
		CHECK(vuser_mbuf_alloc_bulk(pool, all + COUNT, 1) == -ENOMEM);
		if (round == 0)
			vuser_mbuf_free_bulk(all, COUNT);
		else
			for (i = 0; i < COUNT; i++)
				vuser_mbuf_free(all[i]);
		CHECK(vuser_pool_available(pool) == COUNT);
	}
	/* All or none. */
	CHECK(vuser_mbuf_alloc_bulk(pool, all, COUNT + 1) == -ENOMEM && vuser_pool_available(pool) == COUNT);
	CHECK(vuser_mbuf_alloc_bulk(pool, all, COUNT) == 0 && vuser_pool_available(pool) == 0);
	/* No data are in two buffers. */
	for (i = 0; i < COUNT; i++)
		memset(vuser_mbuf_append(all[i], 1500), (int)i, 1500);
	for (i = 0; i < COUNT; i++) {
		const uint8_t *data = (const uint8_t *)vuser_mbuf_data(all[i]);

		CHECK(data[0] == i && memcmp(data, data + 1, 1499) == 0);
	}
	/* NULLs among packets are passed over. */
	vuser_mbuf_free(all[7]);
	all[7] = NULL;
	vuser_mbuf_free_bulk(all, COUNT);
	CHECK(vuser_pool_available(pool) == COUNT);
	CHECK(vuser_mbuf_alloc_bulk(pool, all, 0) == 0);
	vuser_mbuf_free_bulk(all, 0);
	vuser_mbuf_free_bulk(NULL, 0);
	vuser_mbuf_free(NULL);
	CHECK(vuser_mbuf_alloc(NULL) == NULL && strstr(vuser_last_error(), "pool is NULL") != NULL);
	CHECK(vuser_mbuf_alloc_bulk(NULL, all, 1) == -EINVAL);
	vuser_pool_free(pool);
}

static void data_grow_and_shrink_at_both_ends(void)
{
	struct vuser_pool *pool = make_pool(4);
	struct vuser_mbuf *m = vuser_mbuf_alloc(pool);
	uint8_t *first = (uint8_t *)vuser_mbuf_data(m);

	CHECK(first == (uint8_t *)m->buf_addr + 128);
	CHECK(vuser_mbuf_append(m, 2049) == NULL && m->pkt_len == 0);
	CHECK(vuser_mbuf_append(m, 2000) == first && m->pkt_len == 2000 && m->data_len == 2000);
	CHECK(vuser_mbuf_append(m, 48) == first + 2000 && vuser_mbuf_append(m, 1) == NULL);
	CHECK(vuser_mbuf_append(m, 0) == first + 2048 && m->pkt_len == 2048);
	CHECK(vuser_mbuf_prepend(m, 129) == NULL && m->pkt_len == 2048);
	CHECK(vuser_mbuf_prepend(m, 128) == first - 128 && m->pkt_len == 2176 && m->data_off == 0);
	CHECK(vuser_mbuf_data(m) == first - 128 && vuser_mbuf_prepend(m, 1) == NULL);
	REFUSED(EINVAL, "fewer", vuser_mbuf_adj(m, 2177));
	CHECK(vuser_mbuf_adj(m, 100) == 0 && vuser_mbuf_data(m) == first - 28 && m->pkt_len == 2076);
	CHECK(vuser_mbuf_adj(m, 2076) == 0 && m->pkt_len == 0 && m->data_len == 0);
	REFUSED(EINVAL, "NULL", vuser_mbuf_adj(NULL, 0));
	CHECK(vuser_mbuf_data(NULL) == NULL && vuser_mbuf_append(NULL, 1) == NULL);
	CHECK(vuser_mbuf_prepend(NULL, 1) == NULL);
	vuser_mbuf_free(m);
	CHECK(vuser_pool_available(pool) == 4);
	vuser_pool_free(pool);
}

static void packets_are_chained(void)
{
	struct vuser_pool *pool = make_pool(8);
	struct vuser_mbuf *head = make_frame(pool, 100, 0), *tail = make_frame(pool, 60, 1);
	struct vuser_mbuf *more = make_frame(pool, 40, 2);

	CHECK(vuser_mbuf_chain(tail, more) == 0 && tail->nb_segs == 2 && tail->pkt_len == 100);
	CHECK(vuser_mbuf_chain(head, tail) == 0);
	CHECK(head->nb_segs == 3 && head->pkt_len == 200 && head->next == tail && tail->next == more);
	CHECK(head->data_len == 100 && tail->data_len == 60 && more->next == NULL);
	/* Behind the last segment, in front of the first. */
	CHECK(vuser_mbuf_append(head, 5) != NULL && more->data_len == 45 && head->pkt_len == 205);
	CHECK(vuser_mbuf_prepend(head, 5) != NULL && head->data_len == 105 && head->pkt_len == 210);
	REFUSED(EINVAL, "fewer", vuser_mbuf_adj(head, 106));
	REFUSED(EINVAL, "NULL", vuser_mbuf_chain(head, NULL));
	REFUSED(EINVAL, "NULL", vuser_mbuf_chain(NULL, head));
	CHECK(vuser_pool_available(pool) == 5);
	vuser_mbuf_free(head);
	CHECK(vuser_pool_available(pool) == 8);
	vuser_pool_free(pool);
}

static void a_clone_shares_the_data(void)
{
	struct vuser_pool *pool = make_pool(6), *small = make_pool(1);
	struct vuser_mbuf *m = make_frame(pool, 100, 3), *tail = make_frame(pool, 50, 0), *a, *b;
	unsigned i, k;

	memset(vuser_mbuf_data(tail), 9, 50);
	CHECK(vuser_mbuf_chain(m, tail) == 0);
	CHECK(vuser_mbuf_clone(small, m) == NULL && vuser_pool_available(small) == 1 && m->refcnt == 1);
	a = vuser_mbuf_clone(pool, m);
	CHECK(a != NULL && a->pkt_len == 150 && a->nb_segs == 2 && a->data_len == 100 && a->next->data_len == 50);
	CHECK(vuser_mbuf_data(a) == vuser_mbuf_data(m) && m->refcnt == 2 && tail->refcnt == 2);
	/* A clone of a clone is one of the original. */
	b = vuser_mbuf_clone(pool, a);
	CHECK(b != NULL && m->refcnt == 3 && a->refcnt == 1 && vuser_pool_available(pool) == 0);
	/* In whatever order they go, the data stay until the last has gone. */
	vuser_mbuf_free(m);
	CHECK(vuser_pool_available(pool) == 0);
	vuser_mbuf_free(a);
	CHECK(vuser_pool_available(pool) == 2);
	CHECK(((uint8_t *)vuser_mbuf_data(b))[50] == (uint8_t)(3 * 7 + 50));
	CHECK(((uint8_t *)vuser_mbuf_data(b->next))[49] == 9);
	vuser_mbuf_free(b);
	CHECK(vuser_pool_available(pool) == 6);
	CHECK(vuser_mbuf_clone(NULL, m) == NULL && vuser_mbuf_clone(pool, NULL) == NULL);
	/* Buffers that were clones have their own data again. */
	CHECK(vuser_mbuf_alloc_bulk(pool, all, 6) == 0);
	for (i = 0; i < 6; i++) {
		CHECK(all[i]->ol_flags == 0 && all[i]->buf_len == 2176 && all[i]->data_off == 128);
		for (k = 0; k < i; k++)
			CHECK(all[i]->buf_addr != all[k]->buf_addr);
	}
	vuser_mbuf_free_bulk(all, 6);
	vuser_pool_free(small);
	vuser_pool_free(pool);
}

static void offload_lengths_fit_their_fields(void)
{
	struct vuser_pool *pool = make_pool(1);
	struct vuser_mbuf *m = vuser_mbuf_alloc(pool);

	CHECK(vuser_mbuf_set_tx_offload(m, 14, 20, 32, 1448) == 0);
	CHECK(m->tx_offload == (14 | 20 << 7 | 32 << 16 | UINT64_C(1448) << 24));
	REFUSED(EINVAL, "127", vuser_mbuf_set_tx_offload(m, 128, 20, 20, 0));
	REFUSED(EINVAL, "511", vuser_mbuf_set_tx_offload(m, 14, 512, 20, 0));
	REFUSED(EINVAL, "255", vuser_mbuf_set_tx_offload(m, 14, 20, 256, 0));
	REFUSED(EINVAL, "NULL", vuser_mbuf_set_tx_offload(NULL, 14, 20, 20, 0));
	vuser_mbuf_free(m);
	vuser_pool_free(pool);
}

int main(void)
{
	pools_are_made_of_what_was_asked_for();
	a_pool_gives_what_it_has_and_no_more();
	data_grow_and_shrink_at_both_ends();
	packets_are_chained();
	a_clone_shares_the_data();
	offload_lengths_fit_their_fields();
	return 0;
}
