/* SPDX-License-Identifier: MIT */
/*
 * The radix tree below a page cache: which folio covers page i. Knows slots, nodes and marks; references, locking of
 * folios and accounting are pagecache.c's.
 *
 * Shape. A node of shift s has 64 slots of 2^s pages each; the root's shift is the smallest that covers the highest index.
 * A folio of order o stands at the level of shift s = 6 * (o / 6), in 2^(o % 6) neighbouring slots, all of which point
 * to it: order 3 is 8 slots of a lowest node, order 9 is 8 slots one level up, and the path to it ends there.
 *
 *      order 0..5: shift 0, 1..32 slots      order 6..9: shift 6, 1..8 slots
 *
 * Marks. A bit of node->marks[m] says that the entry in that slot, or some entry below it, carries m. Presence is itself such
 * a mark, so a search for the next entry and for the next dirty one are the same search. No node in the tree is empty.
 *
 * Readers hold an RCU section or pages_lock. Without the lock they see each slot at some instant of their walk: a
 * node that left the tree keeps its empty slots (or, when the root shrank, its one child) until the grace period is
 * over, so that to read a slot again tells whether its folio is still there.
 *
 * Writers hold pages_lock and bring the nodes that they need in a pool: nothing here can fail for lack of memory.
 */
#ifndef QUIRE_MM_PAGECACHE_TREE_H
#define QUIRE_MM_PAGECACHE_TREE_H

#include "mm/pagecache.h"

#define PAGECACHE_SLOT_MASK (PAGECACHE_SLOTS - 1u)
#define PAGECACHE_NODE_TAG 1ull

/* Nodes outside any tree, linked by ->parent: allocated ahead of the lock, or taken out and not yet freed. */
struct pagecache_pool {
	struct pagecache_node *head;
	u32 nr;
};

/*
 * Where a walk in rising order was last: the next page is most often in the same node. Zeroed at the start. Valid as long
 * as the RCU section or the section of pages_lock in which it is used.
 */
struct pagecache_cursor {
	struct pagecache_node *node;
	u64 base; /* page index >> what the node covers */
};

static inline struct folio *entry_folio(u64 entry)
{
	return (struct folio *)(uintptr_t)entry;
}

/* The shift of the level at which folios of this order stand, and how many slots they take there. */
static inline unsigned order_shift(unsigned order)
{
	return order / PAGECACHE_SHIFT * PAGECACHE_SHIFT;
}

static inline unsigned order_slots(unsigned order)
{
	return 1u << order % PAGECACHE_SHIFT;
}

/* Brings the pool to @nr zeroed nodes. False: no memory, the pool keeps what it had. No lock held; may sleep. */
bool pagecache_pool_fill(struct quire_cpu *cpu, struct pagecache_pool *pool, u32 nr);
/* Frees nodes that no reader ever saw. */
void pagecache_pool_free(struct quire_cpu *cpu, struct pagecache_pool *pool);
/* Frees nodes that were in a tree, after a grace period. No lock need be held. */
void pagecache_pool_free_rcu(struct quire_cpu *cpu, struct pagecache_pool *pool);

/*
 * The slot that decides about page @index and its entry, read once: a folio, or 0. NULL when no node reaches that far down.
 * RCU section or pages_lock.
 */
u64 *pagecache_slot(struct address_space *mapping, u64 index, u64 *entry);
/*
 * The slot of the first entry with @mark that covers a page from *index to @last, with *index moved to the first such
 * page. NULL: none. RCU section or pages_lock; without the lock an entry may be missed that came or went meanwhile.
 */
u64 *pagecache_find(struct address_space *mapping, struct pagecache_cursor *cursor, u64 *index, u64 last,
		    enum pagecache_mark mark, u64 *entry);

/* How many nodes inserting there takes, or -EEXIST when some page of the range is taken. pages_lock. */
int pagecache_missing(struct address_space *mapping, u64 index, unsigned order);
/* Puts an entry where pagecache_missing has just said how many nodes it takes, which the pool has. pages_lock. */
void pagecache_insert(struct address_space *mapping, u64 index, unsigned order, u64 entry, struct pagecache_pool *pool);
/* Empties the slots of an entry that is there, and unlinks nodes that became empty into @freed. pages_lock. */
void pagecache_erase(struct address_space *mapping, struct pagecache_cursor *cursor, u64 index, unsigned order,
		     struct pagecache_pool *freed);
/*
 * Replaces the entry of a folio of 2^order pages by as many of one page each, which inherit its marks: the folio itself for
 * its first page, then @tails (linked by lru, in order). A reader finds the old entry or the one of the page that it asks
 * for, never another (race B56). The pool has pagecache_split_nodes(order) nodes. pages_lock; @folio is frozen.
 */
void pagecache_split(struct address_space *mapping, struct folio *folio, unsigned order, struct list_head *tails,
		     struct pagecache_pool *pool);
static inline u32 pagecache_split_nodes(unsigned order)
{
	return order < PAGECACHE_SHIFT ? 0 : 1u << (order - PAGECACHE_SHIFT);
}

/* Marks of an entry that is there, and of the tree as a whole. pages_lock to change. */
void pagecache_set_mark(struct address_space *mapping, u64 index, unsigned order, enum pagecache_mark mark);
void pagecache_clear_mark(struct address_space *mapping, u64 index, unsigned order, enum pagecache_mark mark);
bool pagecache_test_mark(struct address_space *mapping, u64 index, enum pagecache_mark mark);

/* Shape, presence and propagation of marks; reports each violation and returns how many. pages_lock or quiescent. */
unsigned pagecache_tree_validate(struct address_space *mapping, violation_fn report, void *arg);

#endif
