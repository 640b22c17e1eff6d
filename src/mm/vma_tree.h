/* SPDX-License-Identifier: MIT */
/*
 * The VMAs of an address space: a B-tree of immutable nodes. A change builds new nodes along the path and publishes the
 * new root with one store; old nodes are freed through RCU. Readers need an RCU section or the mmap lock, and see one
 * consistent version of the tree for as long as they hold on to its root.
 *
 * A node holds the ranges of its children (copied from the VMAs) and the largest free gap below each child, so that a look-up
 * touches few cache lines, and placing a mapping is O(log n).
 */
#ifndef QUIRE_MM_VMA_TREE_H
#define QUIRE_MM_VMA_TREE_H

#include "mm/vma.h"

struct vma_node;

struct vma_tree {
	struct quire *q;       /* const */
	struct vma_node *root; /* mmap write to change, RCU or mmap lock to read; NULL: empty */
	u32 count;	       /* mmap lock */
};

/* ---- reading: RCU section or mmap lock */

/* The VMA with the lowest address whose end is above @addr; NULL: none. */
struct vma *vma_tree_find(const struct vma_tree *tree, u64 addr);
/* The VMA with the highest address whose start is below @addr; NULL: none. */
struct vma *vma_tree_find_below(const struct vma_tree *tree, u64 addr);

#define vma_tree_for_each_range(vma, tree, first, last_excl)                                                          \
	for (vma = vma_tree_find(tree, first); vma && vma->start < (last_excl); vma = vma_tree_find(tree, vma->end))
#define vma_tree_for_each(vma, tree) vma_tree_for_each_range(vma, tree, 0, ~0ull)

/*
 * Free ranges. The highest (lowest) page-aligned @addr such that [addr, addr+len) lies in [low, high), overlaps no VMA and
 * no stack's guard gap (vma_start_gap), as Linux's top-down (bottom-up) search. False: there is none. mmap lock held.
 */
bool vma_tree_gap_topdown(const struct vma_tree *tree, u64 len, u64 low, u64 high, u64 *addr);
bool vma_tree_gap_bottomup(const struct vma_tree *tree, u64 len, u64 low, u64 high, u64 *addr);

/* ---- changing: mmap lock for write. First reserve, which may fail and sleep; the changes then cannot fail. */

#define VMA_TXN_NODES 96u
struct vma_txn {
	struct quire_cpu *cpu;
	struct vma_tree *tree;
	u32 nr;
	struct vma_node *node[VMA_TXN_NODES];
};

/* Nodes for up to @changes (1..8) calls of insert, erase and resize. 0 or -ENOMEM. */
int vma_txn_begin(struct vma_txn *txn, struct quire_cpu *cpu, struct vma_tree *tree, unsigned changes);
/* Returns what was not used. Always call it after a successful begin. */
void vma_txn_end(struct vma_txn *txn);

/* Adds @vma at [vma->start, vma->end), which overlaps nothing. */
void vma_tree_insert(struct vma_txn *txn, struct vma *vma);
/* Takes out @vma, which is in the tree with these bounds. */
void vma_tree_erase(struct vma_txn *txn, struct vma *vma);
/* Changes the bounds of @vma, in the tree and in vma->start/end, overlapping nothing. Caller has the VMA write-locked. */
void vma_tree_resize(struct vma_txn *txn, struct vma *vma, u64 start, u64 end);
/* Takes out every VMA in [start, end), which ends on VMA boundaries, with one publication: needs one change, however many
 * VMAs. The caller has them listed already. */
void vma_tree_erase_range(struct vma_txn *txn, u64 start, u64 end);

/* End of the address space: frees all nodes. */
void vma_tree_destroy(struct quire_cpu *cpu, struct vma_tree *tree);

/* Order, bounds against the VMAs, gaps, balance, count. Number of violations. mmap lock held or quiescent. */
unsigned vma_tree_validate(const struct vma_tree *tree, violation_fn report, void *arg);

#endif
