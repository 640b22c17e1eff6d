/* SPDX-License-Identifier: MIT */
/*
 * The buddy system of one node: free blocks of 2^order frames, aligned to their size, in one doubly linked list per order that
 * runs through the blocks' own descriptors. Two free buddies never exist side by side: they are one block of the next order.
 *
 * Everything here needs the node's lock. A block that is handed out, or taken back, has PAGE_CACHED in its head and PAGE_FREE_TAIL in
 * the rest, so that moving a block between a node and a CPU's stack changes one descriptor.
 */
#ifndef QUIRE_MM_BUDDY_H
#define QUIRE_MM_BUDDY_H

#include "mm/frame.h"

/* A block of exactly 2^order frames, from the smallest free block that is large enough. 0: none. */
u64 buddy_alloc(struct quire *q, struct node *node, unsigned order);

/*
 * A run of adjacent blocks of 2^order frames each, at most @max (at least 1), as many as one free block gives. Returns the first
 * frame, and how many blocks in *nr. 0: none.
 */
u64 buddy_alloc_run(struct quire *q, struct node *node, unsigned order, u32 max, u32 *nr);

/* Takes back one block, and joins it with its buddies. */
void buddy_free(struct quire *q, struct node *node, u64 pfn, unsigned order);

/*
 * Takes back frames [start, end) of the node, which are whole blocks in the state above, adjacent: as the largest blocks that
 * fit. Cheaper than one by one.
 */
void buddy_free_range(struct quire *q, struct node *node, u64 start, u64 end);

/* Boot: all frames of the node, whose descriptors are zero, are free, and the lowest come first. */
void buddy_init(struct quire *q, struct node *node);

#endif
