/* SPDX-License-Identifier: MIT */
/*
 * The frame allocator against a model that knows of every frame whether it is allocated: no overlap, alignment, nothing lost,
 * everything joined again in the end; and what happens when memory runs out.
 */
#include "fixture.h"

#include <stdlib.h>

#include "random.h"

#define MAX_BLOCKS 65536u

struct block {
	u64 pfn;
	unsigned order;
};

/* Who has which frame. */
struct model {
	struct fixture f;
	u8 *taken; /* by frame */
	struct block *block;
	u32 nr_blocks;
	u64 nr_taken;
};

static void model_start(struct model *m, u64 memory, unsigned nodes, bool poison)
{
	struct quire_config config = { .memory = memory, .nr_cpus = 2, .nr_nodes = nodes, .poison = poison };

	*m = (struct model){ .nr_blocks = 0 };
	fixture_start(&m->f, &config);
	m->taken = calloc(m->f.q->nr_frames, 1);
	m->block = malloc(MAX_BLOCKS * sizeof(*m->block));
	assert_non_null(m->taken);
	assert_non_null(m->block);
}

static void model_stop(struct model *m)
{
	fixture_stop(&m->f);
	free(m->taken);
	free(m->block);
}

static void model_take(struct model *m, u64 pfn, unsigned order)
{
	assert_int_equal(pfn & ((1ull << order) - 1), 0);
	assert_in_range(pfn, m->f.q->first_frame, m->f.q->nr_frames - (1ull << order));
	for (u64 i = 0; i < 1ull << order; i++) {
		assert_false(m->taken[pfn + i]);
		m->taken[pfn + i] = 1;
		assert_int_equal(page_word_type(m->f.q->pages[pfn + i].word), PAGE_RAW);
	}
	m->nr_taken += 1ull << order;
	assert_true(m->nr_blocks < MAX_BLOCKS);
	m->block[m->nr_blocks++] = (struct block){ pfn, order };
}

static void model_free(struct model *m, u32 index)
{
	struct block block = m->block[index];

	memset(m->taken + block.pfn, 0, 1ull << block.order);
	m->nr_taken -= 1ull << block.order;
	m->block[index] = m->block[--m->nr_blocks];
	frame_free(m->f.cpu, block.pfn, block.order);
}

static bool model_alloc(struct model *m, unsigned order, unsigned gfp)
{
	u64 pfn = frame_alloc(m->f.cpu, order, gfp);

	if (pfn)
		model_take(m, pfn, order);
	return pfn != 0;
}

static void model_check(struct model *m)
{
	assert_int_equal(frame_nr_free(m->f.q), m->f.nr_free - m->nr_taken);
	fixture_validate(&m->f);
}

/* Every block of the buddy system is as large as alignment and the node's borders allow. */
static void assert_merged(struct quire *q)
{
	for (u32 i = 0; i < q->nr_nodes; i++) {
		struct node *node = &q->nodes[i];

		assert_int_equal(node->nr_free, node->end_pfn - node->start_pfn);
		for (unsigned order = 0; order < MAX_FOLIO_ORDER; order++)
			assert_int_equal(node->nr_free_blocks[order], 0);
	}
}

/* ------------------------------------------------------------------------------------- random use */

static void random_use(u64 memory, unsigned nodes, u64 seed, unsigned steps)
{
	struct model m;
	u64 random = seed;

	model_start(&m, memory, nodes, false);
	for (unsigned i = 0; i < steps; i++) {
		/* Small orders more often; phases in which it fills up and in which it empties. */
		bool filling = i / (steps / 6) % 2 == 0;
		unsigned order = (unsigned)__builtin_ctzll(random_next(&random) | 1ull << MAX_ORDER);

		if (m.nr_blocks && random_below(&random, 10) < (filling ? 3 : 7))
			model_free(&m, (u32)random_below(&random, m.nr_blocks));
		else
			model_alloc(&m, order, random_below(&random, 2) ? GFP_NORETRY : GFP_KERNEL);
		if (i % (steps / 12) == 0)
			model_check(&m);
	}
	while (m.nr_blocks)
		model_free(&m, (u32)random_below(&random, m.nr_blocks));
	model_check(&m);
	quire_drain(m.f.cpu);
	assert_merged(m.f.q);
	model_stop(&m);
}

static void random_use_of_one_node(void **state)
{
	(void)state;
	for (u64 seed = 1; seed <= 4; seed++)
		random_use(32u << 20, 1, seed, 12000);
}

static void random_use_of_uneven_nodes(void **state)
{
	(void)state;
	random_use(34u << 20, 3, 7, 12000);
	random_use(4u << 20, 8, 8, 6000);
}

/* ------------------------------------------------------------------------------------- running out */

/* Takes everything in blocks of one order; then nothing of this order or a larger one is left, and it says so. */
static void exhaust(struct model *m, unsigned order)
{
	while (model_alloc(m, order, GFP_KERNEL))
		;
	for (unsigned o = order; o <= MAX_ORDER; o++) {
		assert_int_equal(frame_alloc(m->f.cpu, o, GFP_KERNEL), 0);
		assert_int_equal(frame_alloc(m->f.cpu, o, GFP_NORETRY), 0);
	}
	model_check(m);
}

static void every_order_until_nothing_is_left(void **state)
{
	struct model m;

	(void)state;
	model_start(&m, 16u << 20, 2, false);
	for (unsigned order = 0; order <= MAX_ORDER; order++) {
		exhaust(&m, order);
		if (order <= MAX_FOLIO_ORDER)
			assert_int_equal(m.nr_taken, m.f.nr_free);
		while (m.nr_blocks)
			model_free(&m, m.nr_blocks / 2);
		model_check(&m);
	}
	model_stop(&m);
}

/* What lies in our own caches as small blocks must not stand in the way of a large one. */
static void own_caches_are_drained_when_memory_is_short(void **state)
{
	struct model m;

	(void)state;
	model_start(&m, 16u << 20, 1, false);
	exhaust(&m, 0);
	while (m.nr_blocks)
		model_free(&m, 0);
	assert_true(m.f.cpu->pcp.list[0].count > 0);
	exhaust(&m, MAX_FOLIO_ORDER);
	assert_int_equal(m.nr_taken, m.f.nr_free);
	while (m.nr_blocks)
		model_free(&m, 0);
	model_stop(&m);
}

struct deferred {
	struct rcu_head rcu;
	u64 pfn;
};

static void free_deferred(struct quire_cpu *cpu, struct rcu_head *head)
{
	frame_free(cpu, container_of(head, struct deferred, rcu)->pfn, 0);
}

/* Frames that readers hold back are waited for. */
static void deferred_frees_are_waited_for(void **state)
{
	struct deferred deferred[8];
	struct model m;

	(void)state;
	model_start(&m, 4u << 20, 1, false);
	exhaust(&m, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(deferred); i++) {
		struct block block = m.block[--m.nr_blocks];

		deferred[i].pfn = block.pfn;
		m.taken[block.pfn] = 0;
		m.nr_taken--;
		call_rcu(m.f.cpu, &deferred[i].rcu, free_deferred);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(deferred); i++)
		assert_true(model_alloc(&m, 0, GFP_KERNEL));
	exhaust(&m, 0);
	while (m.nr_blocks)
		model_free(&m, 0);
	model_stop(&m);
}

/* ------------------------------------------------------------------------------------- bulk, order, contents */

static void bulk_takes_what_there_is(void **state)
{
	static u64 pfns[5000];
	struct model m;
	unsigned got;

	(void)state;
	model_start(&m, 16u << 20, 2, false);
	for (unsigned nr = 1; nr < 1500; nr = nr * 3 + 1) {
		got = frame_alloc_bulk(m.f.cpu, nr, pfns, GFP_ZERO);
		assert_int_equal(got, nr);
		for (unsigned i = 0; i < got; i++)
			model_take(&m, pfns[i], 0);
		model_check(&m);
	}
	got = frame_alloc_bulk(m.f.cpu, ARRAY_SIZE(pfns), pfns, GFP_KERNEL);
	assert_int_equal(got, m.f.nr_free - m.nr_taken);
	for (unsigned i = 0; i < got; i++)
		model_take(&m, pfns[i], 0);
	assert_int_equal(frame_alloc_bulk(m.f.cpu, 3, pfns, GFP_NORETRY), 0);
	while (m.nr_blocks)
		model_free(&m, 0);
	model_stop(&m);
}

/* A range that is populated in order gets frames in order, and the frame freed last is had first. */
static void frames_rise_and_are_reused_last_in_first_out(void **state)
{
	struct model m;
	u64 prev, breaks = 0;

	(void)state;
	model_start(&m, 64u << 20, 1, false);
	prev = frame_alloc(m.f.cpu, 0, GFP_KERNEL);
	model_take(&m, prev, 0);
	for (unsigned i = 0; i < 4096; i++) {
		u64 pfn = frame_alloc(m.f.cpu, 0, GFP_KERNEL);

		breaks += pfn != prev + 1;
		model_take(&m, pfn, 0);
		prev = pfn;
	}
	assert_in_range(breaks, 0, 4);
	frame_free(m.f.cpu, m.block[10].pfn, 0);
	assert_int_equal(frame_alloc(m.f.cpu, 0, GFP_KERNEL), m.block[10].pfn);
	while (m.nr_blocks)
		model_free(&m, m.nr_blocks - 1);
	model_stop(&m);
}

static void frames_are_zeroed_on_request(void **state)
{
	static const unsigned orders[] = { 0, 2, 9, 10 };
	struct fixture f;
	struct quire_config config = { .memory = 16u << 20, .nr_cpus = 1 };

	(void)state;
	fixture_start(&f, &config);
	for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
		u64 bytes = PAGE_SIZE << orders[i];
		u64 pfn = frame_alloc(f.cpu, orders[i], GFP_KERNEL);
		u8 *frame;

		assert_true(pfn);
		memset(pfn_to_virt(f.q, pfn), 0x55, bytes);
		frame_free(f.cpu, pfn, orders[i]);
		pfn = frame_alloc(f.cpu, orders[i], GFP_ZERO);
		frame = pfn_to_virt(f.q, pfn);
		assert_int_equal(frame[0], 0);
		assert_memory_equal(frame, frame + 1, bytes - 1);
		frame_free(f.cpu, pfn, orders[i]);
	}
	fixture_stop(&f);
}

/* With poisoning, what a freed frame contained is gone, and unharmed free frames pass the check on allocation. */
static void freed_frames_are_poisoned(void **state)
{
	struct model m;
	u8 *frame;

	(void)state;
	model_start(&m, 8u << 20, 1, true);
	exhaust(&m, 0);
	frame = pfn_to_virt(m.f.q, m.block[5].pfn);
	frame[100] = 1;
	while (m.nr_blocks)
		model_free(&m, m.nr_blocks - 1);
	assert_int_equal(frame[0], 0xaa);
	assert_memory_equal(frame, frame + 1, PAGE_SIZE - 1);
	exhaust(&m, 0);
	while (m.nr_blocks)
		model_free(&m, m.nr_blocks - 1);
	model_stop(&m);
}

static void write_after_free(struct fixture *f)
{
	u64 pfn = frame_alloc(f->cpu, 0, GFP_KERNEL);

	frame_free(f->cpu, pfn, 0);
	pfn_to_virt(f->q, pfn)[1234] ^= 1;
	frame_alloc(f->cpu, 0, GFP_ZERO);
}

static void write_before_first_use(struct fixture *f)
{
	u64 next = frame_alloc(f->cpu, 0, GFP_KERNEL) + 1;

	pfn_to_virt(f->q, next)[PAGE_SIZE - 1] = 1;
	frame_alloc(f->cpu, 0, GFP_KERNEL);
}

static void free_twice(struct fixture *f)
{
	u64 pfn = frame_alloc(f->cpu, 3, GFP_KERNEL);

	frame_free(f->cpu, pfn, 3);
	frame_free(f->cpu, pfn, 3);
}

static void free_reserved(struct fixture *f)
{
	frame_free(f->cpu, f->q->zero_pfn, 0);
}

static void misuse_is_caught(void **state)
{
	struct quire_config config = { .memory = 8u << 20, .nr_cpus = 1, .poison = true };
	struct fixture f;

	(void)state;
	fixture_start(&f, &config);
	assert_bug(&f, write_after_free);
	assert_bug(&f, write_before_first_use);
	assert_bug(&f, free_twice);
	assert_bug(&f, free_reserved);
	fixture_stop(&f);
}

/* The validation itself: damage of each kind is seen. */
static void damage_is_reported(void **state)
{
	struct fixture f;
	struct quire_config config = { .memory = 16u << 20, .nr_cpus = 1 };
	struct node *node;
	u64 pfn, word;

	(void)state;
	fixture_start(&f, &config);
	node = &f.q->nodes[0];
	pfn = frame_alloc(f.cpu, 0, GFP_KERNEL);

	/* A frame says that it is in use, but is on a CPU's stack. */
	word = f.q->pages[f.cpu->pcp.list[0].pfn[0]].word;
	f.q->pages[f.cpu->pcp.list[0].pfn[0]].word = PAGE_RAW;
	assert_true(frame_validate(f.q, NULL, NULL) > 0);
	f.q->pages[f.cpu->pcp.list[0].pfn[0]].word = word;
	fixture_validate(&f);

	/* A frame is on the stack twice, another not at all. */
	f.cpu->pcp.list[0].pfn[0] = f.cpu->pcp.list[0].pfn[1];
	assert_true(frame_validate(f.q, NULL, NULL) > 0);
	f.cpu->pcp.list[0].pfn[0] = f.cpu->pcp.list[0].pfn[1] + 1;

	/* A frame inside a free block is in use; one in use says that it is free. */
	f.q->pages[node->free_head[MAX_ORDER] + 5].word = PAGE_RAW;
	assert_int_equal(frame_validate(f.q, NULL, NULL), 1);
	f.q->pages[node->free_head[MAX_ORDER] + 5].word = PAGE_FREE_TAIL;
	f.q->pages[pfn].word = PAGE_FREE_TAIL;
	assert_int_equal(frame_validate(f.q, NULL, NULL), 1);
	f.q->pages[pfn].word = PAGE_RAW;

	/* Counts. */
	node->nr_free++;
	assert_int_equal(frame_validate(f.q, NULL, NULL), 1);
	node->nr_free--;
	node->nr_free_blocks[MAX_ORDER]++;
	assert_true(frame_validate(f.q, NULL, NULL) > 0);
	node->nr_free_blocks[MAX_ORDER]--;

	frame_free(f.cpu, pfn, 0);
	fixture_stop(&f);
}

/* ------------------------------------------------------------------------------------- nodes */

/* A CPU gets memory of its own node while there is some, then of others; freeing brings each frame back to its own. */
static void nodes_in_order_of_distance(void **state)
{
	struct fixture f;
	struct quire_config config = { .memory = 12u << 20, .nr_cpus = 3, .nr_nodes = 3 };
	static u64 pfns[3073];
	u64 nr = 0, seen[3] = { 0 };

	(void)state;
	fixture_start(&f, &config);
	assert_int_equal(f.cpu->node, 0);
	while ((pfns[nr] = frame_alloc(f.cpu, 0, GFP_KERNEL))) {
		u32 node = pfn_node(f.q, pfns[nr])->id;

		for (u32 farther = node + 1; farther < 3; farther++)
			assert_int_equal(seen[farther], 0);
		seen[node]++;
		nr++;
	}
	assert_int_equal(nr, 3072);
	/* Those of other nodes are freed last, and yet are not what is had first. */
	for (u64 i = 0; i < nr; i++)
		frame_free(f.cpu, pfns[i], 0);
	for (nr = 0; nr < 600; nr++) {
		pfns[nr] = frame_alloc(f.cpu, 0, GFP_KERNEL);
		assert_int_equal(pfn_node(f.q, pfns[nr])->id, 0);
	}
	fixture_validate(&f);
	while (nr)
		frame_free(f.cpu, pfns[--nr], 0);
	quire_drain(f.cpu);
	assert_merged(f.q);
	fixture_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_use_of_one_node),
		cmocka_unit_test(random_use_of_uneven_nodes),
		cmocka_unit_test(every_order_until_nothing_is_left),
		cmocka_unit_test(own_caches_are_drained_when_memory_is_short),
		cmocka_unit_test(deferred_frees_are_waited_for),
		cmocka_unit_test(bulk_takes_what_there_is),
		cmocka_unit_test(frames_rise_and_are_reused_last_in_first_out),
		cmocka_unit_test(frames_are_zeroed_on_request),
		cmocka_unit_test(freed_frames_are_poisoned),
		cmocka_unit_test(misuse_is_caught),
		cmocka_unit_test(damage_is_reported),
		cmocka_unit_test(nodes_in_order_of_distance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
