/* SPDX-License-Identifier: MIT */
/*
 * The VMAs of an address space: a B-tree of immutable nodes. A change builds new nodes along the path and publishes the
 * new root with one store; old nodes are freed through RCU. Readers need an RCU section or the mmap lock, and see one
 * consistent version of the tree for as long as they hold on to its root.
 *
 * A node holds the ranges of its children (copied from the VMAs) and the largest free gap inside each child, so that a look-up
 * touches few cache lines, and placing a mapping is O(log n). See vma_tree.c for why gaps need no care across leaves.
 */
#ifndef QUIRE_MM_VMA_TREE_H
#define QUIRE_MM_VMA_TREE_H

#include "mm/vma.h"

#define VMA_NODE_SLOTS 8u
#define VMA_NODE_MIN 4u		/* in every node but the root; an inner root has at least 2 */
#define VMA_TREE_MAX_HEIGHT 12u /* more than 4^11 VMAs: far above any map count */

/*
 * Four cache lines; a look-up touches two per level (end and item). Constant from publication to the end of the grace
 * period after replacement, but for rcu, which readers do not look at.
 *
 * Slot i covers [start, end) of its first to its last VMA. Unused slots have start and end ~0 and item 0. Bit 0 of start is
 * VMA_SLOT_GROWSDOWN; bit 0 of item is set when it is a VMA (leaf) and clear when it is a node.
 */
struct vma_node {
	struct rcu_head rcu;	 /* links reserved and replaced nodes of a transaction, then RCU's */
	u32 level;		 /* 0: leaf */
	u32 nr;			 /* slots in use */
	u32 gap[VMA_NODE_SLOTS]; /* pages, saturated: the largest free gap between two VMAs of this child; leaf: 0 */
	u64 end[VMA_NODE_SLOTS] cache_aligned;
	u64 start[VMA_NODE_SLOTS];
	u64 item[VMA_NODE_SLOTS];
} cache_aligned;

#define VMA_SLOT_GROWSDOWN 1ull /* the slot's first VMA keeps a guard gap below it */

struct vma_tree {
	struct quire *q;       /* const */
	struct vma_node *root; /* mmap write to change, RCU or mmap lock to read; NULL: empty */
	u32 count;	       /* mmap lock */
	u32 nr_spare;	       /* mmap write */
	struct vma_node
		*spare; /* mmap write: nodes reserved by one transaction and left for the next; linked by rcu.next */
};

/* ---- reading: RCU section or mmap lock */

/* The VMA with the lowest address whose end is above @addr; NULL: none. */
struct vma *vma_tree_find(const struct vma_tree *tree, u64 addr);
/* The VMA with the highest address whose start is below @addr; NULL: none. */
struct vma *vma_tree_find_below(const struct vma_tree *tree, u64 addr);

#define vma_tree_for_each_range(vma, tree, first, last_excl)                                                           \
	for ((vma) = vma_tree_find((tree), (first)); (vma) && (vma)->start < (last_excl);                              \
	     (vma) = vma_tree_find((tree), (vma)->end))
#define vma_tree_for_each(vma, tree) vma_tree_for_each_range(vma, tree, 0, ~0ull)

/*
 * Free ranges. The highest (lowest) page-aligned @addr such that [addr, addr+len) lies in [low, high), overlaps no VMA and
 * no stack's guard gap (vma_start_gap), as Linux's top-down (bottom-up) search. False: there is none. mmap lock held.
 */
bool vma_tree_gap_topdown(const struct vma_tree *tree, u64 len, u64 low, u64 high, u64 *addr);
bool vma_tree_gap_bottomup(const struct vma_tree *tree, u64 len, u64 low, u64 high, u64 *addr);

/* ---- changing: mmap lock for write. First reserve, which may fail and sleep; the changes then cannot fail. */

struct vma_txn {
	struct quire_cpu *cpu;
	struct vma_tree *tree;
};

/* Nodes for up to @changes (1..8) calls of insert, erase, erase_range and resize. 0 or -ENOMEM. May sleep. One transaction at a
 * time: what it reserves is the tree's. */
int vma_txn_begin(struct vma_txn *txn, struct quire_cpu *cpu, struct vma_tree *tree, unsigned changes);
/* Keeps a few of the nodes that were not used for the next transaction. Always call it after a successful begin. */
void vma_txn_end(struct vma_txn *txn);

/*
 * Each of the following publishes one new version of the tree; an RCU reader between two of them sees the state between.
 * Order a merge as erase, then resize: readers find a hole for a moment, never an overlap, and take the mmap lock.
 */

/* Adds @vma at [vma->start, vma->end), which overlaps nothing. Caller has the VMA write-locked (race B71). */
void vma_tree_insert(struct vma_txn *txn, struct vma *vma);
/* Takes out @vma, which is in the tree with these bounds. */
void vma_tree_erase(struct vma_txn *txn, struct vma *vma);
/* Changes the bounds of @vma, in the tree and in vma->start/end, passing and overlapping nothing. Caller has the VMA
 * write-locked. */
void vma_tree_resize(struct vma_txn *txn, struct vma *vma, u64 start, u64 end);
/* Takes out every VMA in [start, end), which ends on VMA boundaries, with one publication: needs one change, however many
 * VMAs. The caller has them listed already. */
void vma_tree_erase_range(struct vma_txn *txn, u64 start, u64 end);

/* End of the address space: frees all nodes. */
void vma_tree_destroy(struct quire_cpu *cpu, struct vma_tree *tree);

/* Order, fill, balance and gaps of one version of the tree, VMAs not touched. RCU section or mmap lock. */
unsigned vma_tree_validate_nodes(const struct vma_node *root, violation_fn report, void *arg);
/* The same and bounds against the VMAs, and count. Number of violations. mmap lock held or quiescent. */
unsigned vma_tree_validate(const struct vma_tree *tree, violation_fn report, void *arg);
/* How many nodes a valid tree has, spare ones included: for leak checks. */
u32 vma_tree_nr_nodes(const struct vma_tree *tree);

#endif
