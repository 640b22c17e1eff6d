/* SPDX-License-Identifier: MIT */
/*
 * Interval tree: a balanced binary tree ordered by start, each node knowing the largest `last` below it, so that all
 * intervals that overlap a range are found in O(log n + found). Used for the VMAs of an anon_vma and of a file (i_mmap).
 * The caller brings the lock: write to insert and remove, read to look up.
 */
#ifndef QUIRE_MM_INTERVAL_TREE_H
#define QUIRE_MM_INTERVAL_TREE_H

#include "machine/machine.h"

struct interval_node {
	struct interval_node *parent, *left, *right;
	u64 start, last; /* inclusive; constant while in a tree */
	u64 subtree_last;
	u32 height;
};

struct interval_tree {
	struct interval_node *root;
};

/* Nodes of equal start keep insertion order: walks visit the earlier one first (race B65 depends on it). */
void interval_tree_insert(struct interval_tree *tree, struct interval_node *node);
void interval_tree_remove(struct interval_tree *tree, struct interval_node *node);
/* The first node, in walk order, that overlaps [start, last], and the next after @node. NULL: no more. */
struct interval_node *interval_tree_first(const struct interval_tree *tree, u64 start, u64 last);
struct interval_node *interval_tree_next(const struct interval_node *node, u64 start, u64 last);
static inline bool interval_tree_empty(const struct interval_tree *tree)
{
	return tree->root == NULL;
}
/* Balance, order, augmentation. True when all is well. */
bool interval_tree_is_valid(const struct interval_tree *tree);

#endif
