/* SPDX-License-Identifier: MIT */
/* Property test of the interval tree: random inserts, removals and queries against a sorted array. */
#include "cmocka_setup.h"

#include <stdlib.h>
#include <string.h>

#include "mm/interval_tree.h"
#include "random.h"

#define NR_NODES 600u
#define NR_OPS 100000u
#define SPACE 2000u /* small, so that equal starts and overlaps are common */

struct model {
	struct interval_tree tree;
	struct interval_node node[NR_NODES];
	struct interval_node *sorted[NR_NODES]; /* by start, equal ones by time of insertion */
	unsigned nr;
	bool in_tree[NR_NODES];
};

static void model_insert(struct model *m, struct interval_node *node)
{
	unsigned i = m->nr;

	while (i > 0 && m->sorted[i - 1]->start > node->start) {
		m->sorted[i] = m->sorted[i - 1];
		i--;
	}
	m->sorted[i] = node;
	m->nr++;
	interval_tree_insert(&m->tree, node);
}

static void model_remove(struct model *m, struct interval_node *node)
{
	unsigned i = 0;

	while (m->sorted[i] != node)
		i++;
	memmove(&m->sorted[i], &m->sorted[i + 1], (m->nr - i - 1) * sizeof(struct interval_node *));
	m->nr--;
	interval_tree_remove(&m->tree, node);
}

/* The tree finds exactly the overlapping intervals, in the array's order. */
static void check_query(struct model *m, u64 start, u64 last)
{
	struct interval_node *found = interval_tree_first(&m->tree, start, last);

	for (unsigned i = 0; i < m->nr; i++) {
		struct interval_node *node = m->sorted[i];

		if (node->start > last || node->last < start)
			continue;
		assert_ptr_equal(found, node);
		found = interval_tree_next(found, start, last);
	}
	assert_null(found);
}

static void random_operation(struct model *m, u64 *seed)
{
	unsigned i = (unsigned)random_below(seed, NR_NODES);
	u64 start = random_below(seed, SPACE);

	if (m->in_tree[i]) {
		model_remove(m, &m->node[i]);
	} else {
		m->node[i].start = start;
		m->node[i].last = start + random_below(seed, random_below(seed, 8) ? 20 : SPACE);
		model_insert(m, &m->node[i]);
	}
	m->in_tree[i] = !m->in_tree[i];
}

static void test_random_operations(void **state)
{
	struct model *m = calloc(1, sizeof(*m));
	u64 seed = 1;

	(void)state;
	assert_non_null(m);
	for (unsigned op = 0; op < NR_OPS; op++) {
		u64 start = random_below(&seed, SPACE);

		random_operation(m, &seed);
		if (op % 16 == 0)
			check_query(m, start, start + random_below(&seed, 50));
		if (op % 64 == 0)
			assert_true(interval_tree_is_valid(&m->tree));
	}
	check_query(m, 0, ~0ull);
	/* Emptied in random order, it stays valid to the end. */
	for (unsigned i = 0; i < NR_NODES; i++) {
		if (m->in_tree[i])
			model_remove(m, &m->node[i]);
		assert_true(interval_tree_is_valid(&m->tree));
	}
	assert_true(interval_tree_empty(&m->tree));
	free(m);
}

/* Race B65 depends on it: a child's VMA, linked after its parent's of the same start, is visited after it. */
static void test_equal_starts_keep_insertion_order(void **state)
{
	struct interval_tree tree = { 0 };
	struct interval_node node[100], *found;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		node[i].start = 7;
		node[i].last = 7 + i % 5;
		interval_tree_insert(&tree, &node[i]);
	}
	found = interval_tree_first(&tree, 7, 7);
	for (unsigned i = 0; i < 100; i++) {
		assert_ptr_equal(found, &node[i]);
		found = interval_tree_next(found, 7, 7);
	}
	assert_null(found);
}

/* The validator is worth something only if it sees damage. */
static void test_validator_sees_damage(void **state)
{
	struct interval_tree tree = { 0 };
	struct interval_node node[20];

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		node[i].start = 10ull * i;
		node[i].last = 10ull * i + 5;
		interval_tree_insert(&tree, &node[i]);
	}
	assert_true(interval_tree_is_valid(&tree));
	tree.root->subtree_last--;
	assert_false(interval_tree_is_valid(&tree));
	tree.root->subtree_last++;
	node[3].height++;
	assert_false(interval_tree_is_valid(&tree));
	node[3].height--;
	node[9].start = 0;
	assert_false(interval_tree_is_valid(&tree));
	node[9].start = 90;
	assert_true(interval_tree_is_valid(&tree));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_operations),
		cmocka_unit_test(test_equal_starts_keep_insertion_order),
		cmocka_unit_test(test_validator_sees_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
