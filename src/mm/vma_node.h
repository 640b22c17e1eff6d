/* SPDX-License-Identifier: MIT */
/* Reading one node of a VMA tree: private to vma_tree.c, vma_gap.c and vma_tree_check.c. Nodes do not change, so nothing here
 * needs a lock beyond what keeps the node from being freed. */
#ifndef QUIRE_MM_VMA_NODE_H
#define QUIRE_MM_VMA_NODE_H

#include "mm/vma_tree.h"

static inline u64 slot_start(const struct vma_node *node, unsigned i)
{
	return node->start[i] & ~VMA_SLOT_GROWSDOWN;
}

/* What vma_start_gap says of the slot's first VMA: nothing may be placed from here up to the slot's start. */
static inline u64 start_floor(u64 start)
{
	if (!(start & VMA_SLOT_GROWSDOWN))
		return start;
	start &= ~VMA_SLOT_GROWSDOWN;
	return start > STACK_GUARD_GAP ? start - STACK_GUARD_GAP : 0;
}

static inline bool item_is_vma(u64 item)
{
	return item & 1;
}

static inline struct vma *item_vma(u64 item)
{
	return (struct vma *)(uintptr_t)(item & ~1ull);
}

static inline struct vma_node *item_node(u64 item)
{
	return (struct vma_node *)(uintptr_t)item;
}

/* Size of the free range [from, to) in pages as slots keep it: none when a guard gap reaches over @from. */
static inline u32 gap_pages(u64 from, u64 to)
{
	u64 pages = to > from ? (to - from) >> PAGE_SHIFT : 0;

	return pages < UINT32_MAX ? (u32)pages : UINT32_MAX;
}

#endif
