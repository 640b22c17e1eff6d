/* SPDX-License-Identifier: MIT */
/*
 * The page cache of a file: a multi-order radix tree from page index to folio. Lookups take no lock: find the slot in an
 * RCU section, take a reference unless zero, read the slot again (seed mechanism 10, race B59).
 */
#ifndef QUIRE_MM_PAGECACHE_H
#define QUIRE_MM_PAGECACHE_H

#include "mm/folio.h"
#include "mm/interval_tree.h"

struct quire_file;

enum pagecache_mark { /* searchable marks on entries; under the tree's lock */
	PAGECACHE_DIRTY,
	PAGECACHE_WRITEBACK,
	PAGECACHE_TOWRITE, /* was dirty when a sync began: what that sync writes, however fast others dirty */
	PAGECACHE_PRESENT, /* every entry carries it; the tree's own, never set or cleared by others */
	NR_PAGECACHE_MARKS,
};

#define PAGECACHE_SHIFT 6u
#define PAGECACHE_SLOTS (1u << PAGECACHE_SHIFT)

/*
 * A node of the tree: 64 slots, each of which stands for 2^shift pages and is empty, a child, or the folio that covers those
 * pages. See pagecache_tree.h for the rules. Freed through RCU; zeroed by whoever allocates it.
 *
 * Legend: T pages_lock to write, RCU to read; W pages_lock; c constant once published.
 */
struct pagecache_node {
	u8 shift;		       /* c: log2 of the pages below one slot: 0, 6, 12, ... */
	u8 offset;		       /* c: slot of the parent that this node stands in */
	struct pagecache_node *parent; /* W: NULL in the root; links nodes before and after their time in the tree */
	struct rcu_head rcu;
	u64 marks[NR_PAGECACHE_MARKS]; /* T: bit per slot: an entry there or below carries the mark */
	u64 slots[PAGECACHE_SLOTS];    /* T: 0, a struct folio *, or a struct pagecache_node * | 1 */
};

/* Legend: T pages_lock to write, RCU to read; I i_mmap_rwsem; a atomic. */
struct address_space {
	struct quire_file *host;      /* const */
	struct spinlock pages_lock;   /* innermost but for the frame allocator's */
	struct pagecache_node *root;  /* T: NULL when nothing is cached */
	u64 nr_pages;		      /* T: pages in the cache */
	struct rwsem invalidate_lock; /* read: faults and reads that add folios; write: truncate and punch */
	struct rwsem i_mmap_rwsem;    /* mappings of this file; after the folio lock, before anon_vma and PTL */
	struct interval_tree i_mmap;  /* I: by page offset in the file; nodes are vma->i_mmap_node */
	u32 i_mmap_writable;	      /* a: VM_SHARED mappings that may be written */
};

void pagecache_init(struct address_space *mapping, struct quire_file *host);

/* The folio that holds page @index, with a reference; NULL when it is not cached. No lock needed. */
struct folio *filemap_get_folio(struct quire_cpu *cpu, struct address_space *mapping, u64 index);
/* Up to @max folios from index *start to @last, in order, each with a reference; *start becomes the index after the last
 * one returned. */
unsigned filemap_get_folios(struct quire_cpu *cpu, struct address_space *mapping, u64 *start, u64 last, unsigned max,
			    struct folio **folios);
/* The same, only folios that carry @mark. */
unsigned filemap_get_folios_marked(struct quire_cpu *cpu, struct address_space *mapping, u64 *start, u64 last,
				   enum pagecache_mark mark, unsigned max, struct folio **folios);
/* The first index >= @index that is cached; ~0 when there is none. A racy hint. */
u64 filemap_next_cached(struct quire_cpu *cpu, struct address_space *mapping, u64 index);
/* Is page @index cached and uptodate? A racy hint. */
bool filemap_page_uptodate(struct quire_cpu *cpu, struct address_space *mapping, u64 index);

/*
 * Adds a locked, referenced folio at @index (aligned to its size): takes folio_nr_pages more references for the cache.
 * 0, -EEXIST when any of its slots is taken, -ENOMEM. May sleep.
 */
int filemap_add_folio(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio, u64 index);
/*
 * Takes a locked, unmapped folio out: slots empty, folio->mapping NULL, marks and counts cleared, the cache's references
 * dropped (the caller keeps its own).
 */
void filemap_remove_folio(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio);
/* The same for several at once; the cache's references become the caller's. */
void filemap_take_folios(struct quire_cpu *cpu, struct address_space *mapping, struct folio **folios, unsigned nr);
/*
 * Splits a locked, unmapped, otherwise unreferenced folio of a partly truncated range into order-0 folios, by freezing it
 * (race B55). The caller owns one reference before and one on each afterwards, all locked. -EAGAIN when somebody
 * else holds a reference; -ENOMEM. May sleep.
 */
int filemap_split_folio(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio);

/* Marks of a folio that the caller holds a reference on; nothing happens when it has left the cache. */
void filemap_set_mark(struct address_space *mapping, struct folio *folio, enum pagecache_mark mark);
void filemap_clear_mark(struct address_space *mapping, struct folio *folio, enum pagecache_mark mark);
/* Does anything in the cache carry the mark? A racy hint. */
bool filemap_marked(struct quire_cpu *cpu, struct address_space *mapping, enum pagecache_mark mark);
/* Marks TOWRITE what is dirty in [first, last] now. */
void filemap_mark_towrite(struct address_space *mapping, u64 first, u64 last);

/*
 * Marks a folio of a file dirty, once; true when it was clean. The caller keeps the file from going away. The folio is locked, or
 * the PTL is held of an entry of it that is being unmapped, or (host files only) it is merely referenced: it may then be
 * taken out of the cache meanwhile, and nothing is done.
 */
bool filemap_dirty_folio(struct quire_cpu *cpu, struct folio *folio);
/*
 * A locked folio whose entries have been write-protected and flushed is about to be written: clears dirty and sets
 * writeback, which brings a reference. False, and nothing but TOWRITE changed, when it is not dirty. Whoever dirties the
 * folio from now on makes it dirty again.
 */
bool filemap_start_writeback(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio);
/* The write is over: wakes who waits, drops the reference. The folio need not be locked. */
void filemap_end_writeback(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio);

unsigned pagecache_validate(struct address_space *mapping, violation_fn report, void *arg);

#endif
