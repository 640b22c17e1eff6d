/* SPDX-License-Identifier: MIT */
/*
 * Readers without locks against a writer of a VMA tree. Each reader takes one root in an RCU section and checks that all it
 * finds from there is one version: nodes agree with each other, what is always there is there, and a question asked twice
 * has one answer.
 *
 * Fence posts, VMAs that never change, stand at regular places; the writer works in the fields between them. One VMA, the
 * token, only ever changes its size, so every version has it exactly once.
 */
#include "cmocka_setup.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "mm/instance.h"
#include "random.h"

#define NR_READERS 3u
#define NR_POSTS 64u
#define FIELD 16u /* pages from post to post; slots 1..14 of them are worked on */
#define NR_CHANGES 20000u

struct stress {
	struct quire *q;
	struct vma_tree tree;
	struct vma post[NR_POSTS];
	struct vma field[NR_POSTS][FIELD];
	bool in_tree[NR_POSTS][FIELD]; /* the writer's */
	u32 stop;		       /* atomic */
};

struct reader {
	struct stress *stress;
	unsigned id;
	u64 versions, wrong;
};

static u64 page_of(unsigned field, unsigned slot)
{
	return (u64)(field * FIELD + slot + 1) << PAGE_SHIFT;
}

static void count_violation(void *arg, const char *what, u64 a, u64 b)
{
	printf("%s %llx %llx\n", what, (unsigned long long)a, (unsigned long long)b);
	*(u64 *)arg += 1;
}

/* ---------------------------------------------------------------------------------------- the writer */

static void vma_place(struct vma *vma, unsigned field, unsigned slot)
{
	vma->start = page_of(field, slot);
	vma->end = page_of(field, slot + 1);
	vma->flags = VM_READ;
}

/* Takes everything out between post @field and the next, or fills it up one by one. */
static void sweep_field(struct stress *s, struct vma_txn *txn, unsigned field)
{
	vma_tree_erase_range(txn, page_of(field, 1), page_of(field, FIELD));
	for (unsigned slot = 1; slot < FIELD; slot++)
		s->in_tree[field][slot] = false;
}

static void toggle_slot(struct stress *s, struct vma_txn *txn, unsigned field, unsigned slot)
{
	struct vma *vma = &s->field[field][slot];

	if (s->in_tree[field][slot]) {
		vma_tree_erase(txn, vma);
	} else {
		vma_place(vma, field, slot);
		vma_tree_insert(txn, vma);
	}
	s->in_tree[field][slot] = !s->in_tree[field][slot];
}

/* Field 0 has the token in slots 1..14, and nothing else. */
static void move_token(struct stress *s, struct vma_txn *txn, u64 *seed)
{
	unsigned slot = 1 + (unsigned)random_below(seed, FIELD - 2);
	unsigned end = slot + 1 + (unsigned)random_below(seed, FIELD - 1 - slot);

	vma_tree_resize(txn, &s->field[0][1], page_of(0, slot), page_of(0, end));
}

static void random_change(struct stress *s, struct vma_txn *txn, u64 *seed)
{
	unsigned field = 1 + (unsigned)random_below(seed, NR_POSTS - 1);
	u64 dice = random_below(seed, 100);

	if (dice < 10)
		move_token(s, txn, seed);
	else if (dice < 15)
		sweep_field(s, txn, field);
	else
		toggle_slot(s, txn, field, 1 + (unsigned)random_below(seed, FIELD - 2));
}

static u64 run_writer(struct stress *s, struct quire_cpu *cpu)
{
	u64 seed = 7, failed = 0;

	for (unsigned n = 0; n < NR_CHANGES; n += 4) {
		struct vma_txn txn;

		if (vma_txn_begin(&txn, cpu, &s->tree, 4)) {
			failed++;
			continue;
		}
		for (unsigned i = 0; i < 4; i++)
			random_change(s, &txn, &seed);
		vma_txn_end(&txn);
	}
	return failed;
}

/* ---------------------------------------------------------------------------------------- readers */

static u64 check_posts(struct stress *s, const struct vma_tree *version)
{
	u64 wrong = 0;

	for (unsigned i = 0; i < NR_POSTS; i++) {
		wrong += vma_tree_find(version, s->post[i].start) != &s->post[i];
		wrong += vma_tree_find_below(version, s->post[i].end) != &s->post[i];
	}
	return wrong;
}

/* The token is the only VMA between its two posts: from below and from above it is found as the neighbour of both. */
static u64 check_token(struct stress *s, const struct vma_tree *version)
{
	const struct vma *token = &s->field[0][1];
	u64 wrong = vma_tree_find(version, s->post[0].end) != token;

	return wrong + (vma_tree_find_below(version, s->post[1].start) != token);
}

static u64 check_answers(const struct vma_tree *version, u64 *seed)
{
	u64 wrong = 0, addr = random_below(seed, page_of(NR_POSTS, 0)), first = 0, second = 0;
	bool found = vma_tree_gap_topdown(version, 3 * PAGE_SIZE, 0, addr & PAGE_MASK, &first);
	const struct vma *vma = vma_tree_find(version, addr);

	wrong += vma_tree_find(version, addr) != vma;
	wrong += found != vma_tree_gap_topdown(version, 3 * PAGE_SIZE, 0, addr & PAGE_MASK, &second);
	/* What the first search found free is free in the same version. */
	if (found)
		wrong += !vma_tree_gap_bottomup(version, 3 * PAGE_SIZE, first, first + 3 * PAGE_SIZE, &second);
	return wrong + (first != second);
}

static void *run_reader(void *arg)
{
	struct reader *r = arg;
	struct stress *s = r->stress;
	u64 seed = r->id;
	struct quire_cpu *cpu;

	if (quire_cpu_enter(s->q, r->id, &cpu)) {
		r->wrong++;
		return NULL;
	}
	while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
		struct vma_tree version = { .q = s->q };

		rcu_read_lock(cpu);
		version.root = rcu_dereference(s->tree.root);
		vma_tree_validate_nodes(version.root, count_violation, &r->wrong);
		r->wrong += check_posts(s, &version) + check_token(s, &version) + check_answers(&version, &seed);
		rcu_read_unlock(cpu);
		r->versions++;
	}
	quire_cpu_leave(cpu);
	return NULL;
}

/* ---------------------------------------------------------------------------------------- */

static void build_tree(struct stress *s, struct quire_cpu *cpu)
{
	struct vma_txn txn;

	for (unsigned i = 0; i < NR_POSTS; i++) {
		vma_place(&s->post[i], i, 0);
		assert_int_equal(vma_txn_begin(&txn, cpu, &s->tree, 1), 0);
		vma_tree_insert(&txn, &s->post[i]);
		vma_txn_end(&txn);
	}
	vma_place(&s->field[0][1], 0, 1);
	assert_int_equal(vma_txn_begin(&txn, cpu, &s->tree, 1), 0);
	vma_tree_insert(&txn, &s->field[0][1]);
	vma_txn_end(&txn);
}

static void test_readers_against_writer(void **state)
{
	const struct quire_config config = { .memory = 64ull << 20, .nr_cpus = NR_READERS + 1 };
	struct stress *s = calloc(1, sizeof(*s));
	struct reader reader[NR_READERS];
	pthread_t thread[NR_READERS];
	struct quire_cpu *cpu;
	u64 failed, violations = 0;

	(void)state;
	assert_non_null(s);
	assert_int_equal(quire_create(&config, &s->q), 0);
	assert_int_equal(quire_cpu_enter(s->q, 0, &cpu), 0);
	s->tree.q = s->q;
	build_tree(s, cpu);
	for (unsigned i = 0; i < NR_READERS; i++) {
		reader[i] = (struct reader){ .stress = s, .id = i + 1 };
		assert_int_equal(pthread_create(&thread[i], NULL, run_reader, &reader[i]), 0);
	}
	failed = run_writer(s, cpu);
	__atomic_store_n(&s->stop, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < NR_READERS; i++) {
		pthread_join(thread[i], NULL);
		assert_int_equal(reader[i].wrong, 0);
		assert_int_not_equal(reader[i].versions, 0);
	}
	assert_int_equal(failed, 0);
	assert_int_equal(vma_tree_validate(&s->tree, count_violation, &violations), 0);

	/* Not a node may be left. */
	vma_tree_destroy(cpu, &s->tree);
	quire_drain(cpu);
	assert_int_equal(kmem_cache_in_use(&s->q->cache[CACHE_VMA_NODE]), 0);
	quire_cpu_leave(cpu);
	assert_int_equal(quire_destroy(s->q), 0);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readers_against_writer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
