/* SPDX-License-Identifier: MIT */
/* Property test of the VMA tree: random changes, look-ups and gap searches against a sorted array. */
#include "cmocka_setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mm/instance.h"
#include "random.h"

#define NR_OPS 100000u
#define NR_VMAS 3000u
#define SPACE (1u << 15) /* pages; small enough that gaps are tight */

struct model {
	struct quire *q;
	struct quire_cpu *cpu;
	struct vma_tree tree;
	struct vma *sorted[NR_VMAS]; /* by address: what the tree must contain */
	unsigned nr;
	struct vma *unused[NR_VMAS];
	unsigned nr_unused;
	struct vma vma[NR_VMAS];
	u64 seed;
};

static u64 below(struct model *m, u64 n)
{
	return random_below(&m->seed, n);
}

static void print_violation(void *arg, const char *what, u64 a, u64 b)
{
	(void)arg;
	printf("%s %llx %llx\n", what, (unsigned long long)a, (unsigned long long)b);
}

static void ignore_violation(void *arg, const char *what, u64 a, u64 b)
{
	(void)a;
	(void)b;
	*(const char **)arg = what;
}

static int setup(void **state)
{
	const struct quire_config config = { .memory = 64ull << 20, .nr_cpus = 1 };
	struct model *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	assert_int_equal(quire_create(&config, &m->q), 0);
	assert_int_equal(quire_cpu_enter(m->q, 0, &m->cpu), 0);
	m->tree.q = m->q;
	m->seed = 1;
	for (unsigned i = 0; i < NR_VMAS; i++)
		m->unused[m->nr_unused++] = &m->vma[i];
	*state = m;
	return 0;
}

/* Not a node may be left. */
static int teardown(void **state)
{
	struct model *m = *state;

	vma_tree_destroy(m->cpu, &m->tree);
	assert_null(m->tree.root);
	assert_int_equal(m->tree.count, 0);
	quire_drain(m->cpu);
	assert_int_equal(kmem_cache_in_use(&m->q->cache[CACHE_VMA_NODE]), 0);
	quire_cpu_leave(m->cpu);
	assert_int_equal(quire_destroy(m->q), 0);
	free(m);
	return 0;
}

static void check_valid(struct model *m)
{
	assert_int_equal(vma_tree_validate(&m->tree, print_violation, NULL), 0);
}

/* ---------------------------------------------------------------------------------------- the model's answers */

static unsigned model_find(const struct model *m, u64 addr)
{
	unsigned low = 0, high = m->nr;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (m->sorted[middle]->end > addr)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static u64 model_end_before(const struct model *m, unsigned i)
{
	return i > 0 ? m->sorted[i - 1]->end : 0;
}

static u64 model_start_after(const struct model *m, unsigned i)
{
	return i < m->nr ? m->sorted[i]->start : (u64)SPACE << PAGE_SHIFT;
}

/* By going through all gaps; gap i is the one below VMA i. */
static bool model_gap(const struct model *m, u64 len, u64 low, u64 high, bool topdown, u64 *addr)
{
	for (unsigned n = 0; n <= m->nr; n++) {
		unsigned i = topdown ? m->nr - n : n;
		u64 from = model_end_before(m, i), to = i < m->nr ? vma_start_gap(m->sorted[i]) : ~0ull;

		from = from > low ? from : low;
		to = to < high ? to : high;
		if (to <= from || to - from < len)
			continue;
		*addr = topdown ? to - len : from;
		return true;
	}
	return false;
}

static void model_add(struct model *m, unsigned i, struct vma *vma)
{
	memmove(&m->sorted[i + 1], &m->sorted[i], (m->nr - i) * sizeof(struct vma *));
	m->sorted[i] = vma;
	m->nr++;
}

static void model_remove(struct model *m, unsigned i, unsigned nr)
{
	for (unsigned k = i; k < i + nr; k++)
		m->unused[m->nr_unused++] = m->sorted[k];
	memmove(&m->sorted[i], &m->sorted[i + nr], (m->nr - i - nr) * sizeof(struct vma *));
	m->nr -= nr;
}

/* ---------------------------------------------------------------------------------------- random changes */

/* A new VMA in the gap at a random address, often filling it to one or both edges. */
static void random_insert(struct model *m, struct vma_txn *txn)
{
	u64 addr = below(m, SPACE) << PAGE_SHIFT, start, end;
	unsigned i = model_find(m, addr);
	struct vma *vma;

	if (m->nr == NR_VMAS || model_start_after(m, i) <= addr)
		return;
	start = below(m, 4) ? addr : model_end_before(m, i);
	end = model_start_after(m, i);
	if (below(m, 8))
		end = start + ((1 + below(m, below(m, 100) ? 4 : 200)) << PAGE_SHIFT);
	if (end > model_start_after(m, i))
		end = model_start_after(m, i);
	vma = m->unused[--m->nr_unused];
	memset(vma, 0, sizeof(*vma));
	vma->start = start;
	vma->end = end;
	vma->flags = below(m, 10) ? VM_READ : VM_READ | VM_GROWSDOWN;
	vma_tree_insert(txn, vma);
	model_add(m, i, vma);
}

static void random_erase(struct model *m, struct vma_txn *txn)
{
	unsigned i;

	if (!m->nr)
		return;
	i = (unsigned)below(m, m->nr);
	vma_tree_erase(txn, m->sorted[i]);
	model_remove(m, i, 1);
}

/* Anywhere between its neighbours. */
static void random_resize(struct model *m, struct vma_txn *txn)
{
	u64 low, high, start, pages;
	unsigned i;

	if (!m->nr)
		return;
	i = (unsigned)below(m, m->nr);
	low = model_end_before(m, i) >> PAGE_SHIFT;
	high = model_start_after(m, i + 1) >> PAGE_SHIFT;
	start = low + (below(m, 3) ? below(m, high - low) : 0);
	pages = below(m, 3) ? 1 + below(m, high - start) : high - start;
	vma_tree_resize(txn, m->sorted[i], start << PAGE_SHIFT, (start + pages) << PAGE_SHIFT);
}

/* Mostly a few VMAs, sometimes a large part of all. */
static void random_erase_range(struct model *m, struct vma_txn *txn)
{
	unsigned i, nr, most;
	u64 start, end;

	if (!m->nr)
		return;
	i = (unsigned)below(m, m->nr);
	most = m->nr - i;
	if (below(m, 200) && most > 12)
		most = 12;
	nr = (unsigned)below(m, most + 1);
	/* The range may reach into the gaps on both sides. */
	start = below(m, 2) || !nr ? model_end_before(m, i) : m->sorted[i]->start;
	end = nr == 0 ? start : below(m, 2) ? m->sorted[i + nr - 1]->end : model_start_after(m, i + nr);
	vma_tree_erase_range(txn, start, end);
	model_remove(m, i, nr);
}

static void random_change(struct model *m, struct vma_txn *txn, bool growing)
{
	u64 dice = below(m, 100);

	if (dice < (growing ? 70 : 20))
		random_insert(m, txn);
	else if (dice < (growing ? 80 : 50))
		random_erase(m, txn);
	else if (dice < (growing ? 100 : 98))
		random_resize(m, txn);
	else
		random_erase_range(m, txn);
}

/* ---------------------------------------------------------------------------------------- random questions */

static void check_find(struct model *m)
{
	u64 addr = below(m, (u64)SPACE << PAGE_SHIFT);
	unsigned i = model_find(m, addr), j = m->nr;

	while (j > 0 && m->sorted[j - 1]->start >= addr)
		j--;
	assert_ptr_equal(vma_tree_find(&m->tree, addr), i < m->nr ? m->sorted[i] : NULL);
	assert_ptr_equal(vma_tree_find_below(&m->tree, addr), j > 0 ? m->sorted[j - 1] : NULL);
}

static void check_gaps(struct model *m)
{
	u64 len = (1 + below(m, below(m, 4) ? 12 : 3000)) << PAGE_SHIFT;
	u64 low = below(m, SPACE) << PAGE_SHIFT, high = low + (below(m, SPACE) << PAGE_SHIFT);
	u64 expected = 0, addr = 0;
	bool found = model_gap(m, len, low, high, true, &expected);

	assert_int_equal(vma_tree_gap_topdown(&m->tree, len, low, high, &addr), found);
	assert_int_equal(addr, expected);
	found = model_gap(m, len, low, high, false, &expected);
	assert_int_equal(vma_tree_gap_bottomup(&m->tree, len, low, high, &addr), found);
	if (found)
		assert_int_equal(addr, expected);
}

static void check_contents(struct model *m)
{
	struct vma *vma;
	unsigned i = 0;

	vma_tree_for_each(vma, &m->tree)
		assert_ptr_equal(vma, m->sorted[i++]);
	assert_int_equal(i, m->nr);
	check_valid(m);
}

static void test_random_operations(void **state)
{
	struct model *m = *state;
	unsigned largest = 0;

	for (unsigned op = 0; op < NR_OPS;) {
		bool growing = op / 20000 % 2 == 0;
		unsigned changes = 1 + (unsigned)below(m, 8);
		struct vma_txn txn;

		assert_int_equal(vma_txn_begin(&txn, m->cpu, &m->tree, changes), 0);
		for (unsigned i = 0; i < changes; i++, op++) {
			random_change(m, &txn, growing);
			check_find(m);
			if (op % 8 == 0)
				check_gaps(m);
		}
		vma_txn_end(&txn);
		largest = m->nr > largest ? m->nr : largest;
		if (op % 128 < 8)
			check_contents(m);
	}
	check_contents(m);
	/* It was worth testing: several levels. */
	assert_true(largest > 2000);
}

/* ---------------------------------------------------------------------------------------- corners */

static void insert_at(struct model *m, u64 start, u64 end, u64 flags)
{
	struct vma *vma = m->unused[--m->nr_unused];
	struct vma_txn txn;

	memset(vma, 0, sizeof(*vma));
	vma->start = start;
	vma->end = end;
	vma->flags = flags;
	assert_int_equal(vma_txn_begin(&txn, m->cpu, &m->tree, 1), 0);
	vma_tree_insert(&txn, vma);
	vma_txn_end(&txn);
}

/* Gaps of 16 TiB and more are kept only as "at least": searches for less and for more than that are exact all the same. */
static void test_huge_gaps(void **state)
{
	struct model *m = *state;
	const u64 tib = 1ull << 40;
	u64 addr;

	for (u64 i = 0; i < 64; i++) {
		u64 start = i < 32 ? tib + i * 2 * PAGE_SIZE : 60 * tib + i * 2 * PAGE_SIZE;

		insert_at(m, start, start + PAGE_SIZE, VM_READ);
	}
	check_valid(m);
	assert_true(vma_tree_gap_topdown(&m->tree, 20 * tib, 0, 61 * tib, &addr));
	assert_int_equal(addr, 60 * tib + 64 * PAGE_SIZE - 20 * tib);
	assert_true(vma_tree_gap_bottomup(&m->tree, 20 * tib, 0, 61 * tib, &addr));
	assert_int_equal(addr, tib + 63 * PAGE_SIZE);
	assert_false(vma_tree_gap_topdown(&m->tree, 59 * tib + 2 * PAGE_SIZE, 0, 61 * tib, &addr));
	assert_true(vma_tree_gap_bottomup(&m->tree, 59 * tib, 0, TASK_SIZE, &addr));
}

/* Nothing is placed in a stack's guard gap, wherever the neighbour below ends. */
static void test_guard_gap(void **state)
{
	struct model *m = *state;
	u64 stack = 0x10000000, addr;

	insert_at(m, stack, stack + PAGE_SIZE, VM_READ | VM_GROWSDOWN);
	assert_true(vma_tree_gap_topdown(&m->tree, PAGE_SIZE, 0, stack + PAGE_SIZE, &addr));
	assert_int_equal(addr, stack - STACK_GUARD_GAP - PAGE_SIZE);
	/* A neighbour inside the gap leaves no space there, rather than a negative one. */
	insert_at(m, stack - 2 * PAGE_SIZE, stack - PAGE_SIZE, VM_READ);
	check_valid(m);
	assert_false(vma_tree_gap_bottomup(&m->tree, PAGE_SIZE, stack - PAGE_SIZE, stack + PAGE_SIZE, &addr));
	assert_true(vma_tree_gap_topdown(&m->tree, PAGE_SIZE, 0, stack + PAGE_SIZE, &addr));
	assert_int_equal(addr, stack - 3 * PAGE_SIZE);
}

static void test_empty_tree(void **state)
{
	struct model *m = *state;
	u64 addr = 0;

	assert_null(vma_tree_find(&m->tree, 0));
	assert_null(vma_tree_find_below(&m->tree, ~0ull));
	assert_true(vma_tree_gap_topdown(&m->tree, PAGE_SIZE, PAGE_SIZE, 8 * PAGE_SIZE, &addr));
	assert_int_equal(addr, 7 * PAGE_SIZE);
	assert_true(vma_tree_gap_bottomup(&m->tree, 7 * PAGE_SIZE, PAGE_SIZE, 8 * PAGE_SIZE, &addr));
	assert_int_equal(addr, PAGE_SIZE);
	assert_false(vma_tree_gap_bottomup(&m->tree, 8 * PAGE_SIZE, PAGE_SIZE, 8 * PAGE_SIZE, &addr));
	assert_false(vma_tree_gap_topdown(&m->tree, PAGE_SIZE, 8 * PAGE_SIZE, PAGE_SIZE, &addr));
	check_valid(m);
}

/* The validator is worth something only if it sees damage. */
static void test_validator_sees_damage(void **state)
{
	struct model *m = *state;
	const char *what = NULL;
	struct vma_node *root;
	struct vma *vma;

	for (u64 i = 1; i <= 40; i++)
		insert_at(m, i * 16 * PAGE_SIZE, (i * 16 + i % 7 + 1) * PAGE_SIZE, VM_READ);
	check_valid(m);
	root = m->tree.root;
	vma = vma_tree_find(&m->tree, 0);

	root->gap[0]++;
	assert_int_equal(vma_tree_validate(&m->tree, ignore_violation, &what), 1);
	assert_non_null(strstr(what, "largest gap"));
	root->gap[0]--;
	vma->end += PAGE_SIZE;
	vma->start += PAGE_SIZE;
	assert_int_equal(vma_tree_validate(&m->tree, ignore_violation, &what), 1);
	assert_non_null(strstr(what, "vma's range"));
	vma->end -= PAGE_SIZE;
	vma->start -= PAGE_SIZE;
	vma->flags |= VM_GROWSDOWN;
	assert_int_equal(vma_tree_validate(&m->tree, ignore_violation, &what), 1);
	vma->flags &= ~VM_GROWSDOWN;
	m->tree.count++;
	assert_int_equal(vma_tree_validate(&m->tree, ignore_violation, &what), 1);
	m->tree.count--;
	root->end[1] += PAGE_SIZE;
	assert_true(vma_tree_validate(&m->tree, ignore_violation, &what) >= 1);
	root->end[1] -= PAGE_SIZE;
	check_valid(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random_operations, setup, teardown),
		cmocka_unit_test_setup_teardown(test_huge_gaps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guard_gap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_empty_tree, setup, teardown),
		cmocka_unit_test_setup_teardown(test_validator_sees_damage, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
