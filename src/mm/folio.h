/* SPDX-License-Identifier: MIT */
/*
 * Folios: what memory is managed in. One struct folio describes 2^order frames (order 0..9) and is allocated apart from
 * them, from a type-stable slab: a stale pointer to one always points to a folio, perhaps a free one (count 0) or another.
 *
 * References and mappings share one 64-bit word, because they move together: a page-table entry that maps any part of
 * the folio is one mapping and brings exactly one reference (seed rule 12). One atomic add per mapping instead of two, and
 * a reader of the word sees both at one instant: "every reference is a mapping" and "frozen means unmapped" are exact.
 *
 *      63 ................ 32 31 ................. 0
 *      mapcount                refcount
 *
 * Who owns references: each leaf entry (1); the page cache (2^order, one a page); the swap cache (likewise); private
 * data (1); a per-CPU batch or an isolating thread (1); whoever called folio_get or a successful folio_try_get.
 */
#ifndef QUIRE_MM_FOLIO_H
#define QUIRE_MM_FOLIO_H

#include "mm/frame.h"

struct address_space;
struct anon_vma;

enum folio_flag {
	PG_locked,     /* one owner, who may sleep; see folio_lock */
	PG_waiters,    /* somebody waits for PG_locked or PG_writeback in the wait table */
	PG_uptodate,   /* the contents are valid; set with release after the last byte is written */
	PG_dirty,      /* newer than the backing store */
	PG_writeback,  /* being written; holds a reference */
	PG_referenced, /* touched since it was last looked at */
	PG_active,     /* on the active list */
	PG_lru,	       /* on a list of the lruvec */
	PG_swapbacked, /* its home is swap: anonymous or shmem; cleared by MADV_FREE */
	PG_swapcache,  /* in the swap cache; changes under the folio lock only */
	PG_mlocked,    /* mapped by a VM_LOCKED VMA; set and cleared under a PTL that maps it */
	PG_unevictable,
	PG_reclaim,
	PG_hwpoison, /* some frame of it is poisoned */
	PG_private,  /* has private data, which owns one reference (race S1-R6) */
	PG_readahead,
};

/*
 * Legend: a atomic; F folio lock; P a PTL of an entry that maps it; C constant while refcount > 0; L lruvec lock;
 * M the mapping's pages lock. Two letters: either to read, both to write.
 */
struct folio {
	u64 flags;	      /* a, enum folio_flag; PG_dirty etc. see docs/rules */
	u64 refs;	      /* a: mapcount << 32 | refcount; 0 when free or frozen */
	u64 mapping;	      /* F; anon: set once at first mapping, see folio_anon_vma. Pointer | FOLIO_MAPPING_* */
	u64 index;	      /* F,M: in pages, of the first page: offset in the file, or linear address in the VMA */
	u32 pfn;	      /* C: first frame */
	u8 order;	      /* C,F */
	u8 node;	      /* C */
	u16 mlock_count;      /* a: entries with _PAGE_MLOCKED; PG_mlocked while > 0; sticks at 65535 */
	u64 swap;	      /* F: swap entry while PG_swapcache; private data otherwise */
	struct list_head lru; /* L: later; free list and private batches meanwhile */
} cache_aligned;

#define FOLIO_MAPPING_ANON 1ull /* mapping is a struct anon_vma * */
#define FOLIO_MAPPING_KSM 2ull	/* together with ANON: a stable node of same-page merging */
#define FOLIO_MAPPING_FLAGS 3ull

#define FOLIO_REF 1ull
#define FOLIO_MAP ((1ull << 32) | 1ull) /* one mapping with its reference */
#define REFS_REFCOUNT(refs) ((u32)(refs))
#define REFS_MAPCOUNT(refs) ((u32)((refs) >> 32))

static inline u32 folio_nr_pages(const struct folio *folio)
{
	return 1u << folio->order;
}

static inline bool folio_test(const struct folio *folio, enum folio_flag flag)
{
	return READ_ONCE(folio->flags) >> flag & 1;
}

static inline void folio_set(struct folio *folio, enum folio_flag flag)
{
	__atomic_fetch_or(&folio->flags, 1ull << flag, __ATOMIC_RELAXED);
}

static inline void folio_clear(struct folio *folio, enum folio_flag flag)
{
	__atomic_fetch_and(&folio->flags, ~(1ull << flag), __ATOMIC_RELAXED);
}

static inline bool folio_test_and_set(struct folio *folio, enum folio_flag flag)
{
	return __atomic_fetch_or(&folio->flags, 1ull << flag, __ATOMIC_ACQ_REL) >> flag & 1;
}

static inline bool folio_test_and_clear(struct folio *folio, enum folio_flag flag)
{
	return __atomic_fetch_and(&folio->flags, ~(1ull << flag), __ATOMIC_ACQ_REL) >> flag & 1;
}

/* Uptodate is published after the contents (B102): release here, acquire in folio_test_uptodate. */
static inline void folio_mark_uptodate(struct folio *folio)
{
	__atomic_fetch_or(&folio->flags, 1ull << PG_uptodate, __ATOMIC_RELEASE);
}

static inline bool folio_test_uptodate(const struct folio *folio)
{
	return smp_load_acquire(&folio->flags) >> PG_uptodate & 1;
}

static inline u32 folio_refcount(const struct folio *folio)
{
	return REFS_REFCOUNT(READ_ONCE(folio->refs));
}

static inline u32 folio_mapcount(const struct folio *folio)
{
	return REFS_MAPCOUNT(READ_ONCE(folio->refs));
}

static inline bool folio_mapped(const struct folio *folio)
{
	return folio_mapcount(folio) != 0;
}

static inline bool folio_anon(const struct folio *folio)
{
	return READ_ONCE(folio->mapping) & FOLIO_MAPPING_ANON;
}

/* Valid only while the folio is mapped (or the caller otherwise pins the anon_vma): see rmap.h. */
static inline struct anon_vma *folio_anon_vma(const struct folio *folio)
{
	return (struct anon_vma *)(uintptr_t)(READ_ONCE(folio->mapping) & ~FOLIO_MAPPING_FLAGS);
}

/* The file's page cache that the folio is in, or NULL: anonymous, or truncated. Stable under the folio lock. */
static inline struct address_space *folio_file_mapping(const struct folio *folio)
{
	u64 mapping = READ_ONCE(folio->mapping);

	return mapping & FOLIO_MAPPING_ANON ? NULL : (struct address_space *)(uintptr_t)mapping;
}

/* -------------------------------------------------------------------------------------------- references */

/* One more reference for somebody who already holds one, or who holds the lock that pins one (a PTL). */
static inline void folio_get(struct folio *folio)
{
	u64 old = __atomic_fetch_add(&folio->refs, FOLIO_REF, __ATOMIC_RELAXED);

	VM_BUG_ON2(REFS_REFCOUNT(old) == 0, folio->pfn, old);
	(void)old;
}

static inline void folio_get_many(struct folio *folio, u32 nr)
{
	__atomic_fetch_add(&folio->refs, (u64)nr, __ATOMIC_RELAXED);
}

/*
 * A speculative reference: fails on a count of zero, that is on a free or frozen folio. Fully ordered on success; the
 * caller must then check that the folio is still what it looked for (seed mechanism 10), and put it if not.
 */
bool folio_try_get(struct folio *folio);

/* Drops a reference; the last one frees the folio. Never sleeps. */
void folio_put(struct quire_cpu *cpu, struct folio *folio);
void folio_put_many(struct quire_cpu *cpu, struct folio *folio, u32 nr);
/* Drops @nr references; true when none is left: nothing else holds the folio, and the caller must call folio_free. */
static inline bool folio_put_many_testzero(struct folio *folio, u32 nr)
{
	u64 old = __atomic_fetch_sub(&folio->refs, nr, __ATOMIC_ACQ_REL);

	BUG_ON2(REFS_REFCOUNT(old) < nr, folio->pfn, old);
	return REFS_REFCOUNT(old) == nr;
}

/*
 * Drops @nr mappings with their references; true when no reference is left, and the caller must call folio_free.
 * Batches (mmu_gather) use it to drop entries now and free after the flush: they keep one reference themselves.
 */
static inline bool folio_unmap_many(struct folio *folio, u32 nr)
{
	u64 old = __atomic_fetch_sub(&folio->refs, nr * FOLIO_MAP, __ATOMIC_ACQ_REL);

	VM_BUG_ON2(REFS_MAPCOUNT(old) < nr || REFS_REFCOUNT(old) < nr, folio->pfn, old);
	return REFS_REFCOUNT(old) == nr;
}

/*
 * Drops @nr mappings but keeps their references, which become the caller's: what zap does, so that the frames outlive the
 * TLB entries. The mapcount falls at once, the references when the gather has flushed.
 */
static inline void folio_unmap_keep_refs(struct folio *folio, u32 nr)
{
	u64 old = __atomic_fetch_sub(&folio->refs, (u64)nr << 32, __ATOMIC_RELAXED);

	VM_BUG_ON2(REFS_MAPCOUNT(old) < nr, folio->pfn, old);
	(void)old;
}

/* Adds @nr mappings with their references; the caller holds a reference or a PTL that pins a mapping. */
static inline void folio_map_many(struct folio *folio, u32 nr)
{
	__atomic_fetch_add(&folio->refs, nr * FOLIO_MAP, __ATOMIC_RELAXED);
}

/* Turns @nr references that the caller owns into mappings. */
static inline void folio_map_owned(struct folio *folio, u32 nr)
{
	__atomic_fetch_add(&folio->refs, (u64)nr << 32, __ATOMIC_RELAXED);
}

/*
 * Freezes: refcount from exactly @expected to 0, and only if nothing is mapped. Afterwards nobody gains a reference until
 * folio_unfreeze. Every reference in @expected must be the caller's to give (seed mechanisms 4 to 7). Full ordering.
 */
bool folio_freeze(struct folio *folio, u32 expected);
/* Publishes @count references again, with release ordering after all that was changed while frozen. */
void folio_unfreeze(struct folio *folio, u32 count);

/* -------------------------------------------------------------------------------------------- life */

/*
 * A folio of 2^order frames with one reference, unmapped, in no cache, not zeroed unless GFP_ZERO, flags 0. @exclusive
 * presets PageAnonExclusive of all its frames. NULL: no memory. May sleep unless GFP_NORETRY.
 */
struct folio *folio_alloc(struct quire_cpu *cpu, unsigned order, unsigned gfp, bool exclusive);

/* What a new slab's objects begin as, and what free folios are again when they are freed. For the cache only. */
void folio_ctor(void *object);

/* Allocates @nr order-0 folios at once; returns how many (all or fewer). The same state as folio_alloc. */
unsigned folio_alloc_bulk(struct quire_cpu *cpu, unsigned nr, struct folio **folios, unsigned gfp, bool exclusive);

/*
 * Frees a folio whose count is zero because the caller dropped the last reference (folio_unmap_many) or has it frozen. Checks that
 * nothing is left of its use (invariant 8). Never sleeps; spin locks may be held.
 */
void folio_free(struct quire_cpu *cpu, struct folio *folio);

/* -------------------------------------------------------------------------------------------- the folio lock */

bool folio_trylock(struct folio *folio);
/* May sleep. Holds a reference. Order: after mmap and VMA locks, before i_mmap, anon_vma and page-table locks. */
void folio_lock(struct quire_cpu *cpu, struct folio *folio);
void folio_unlock(struct quire_cpu *cpu, struct folio *folio);
/* Sleeps until the folio is not locked at some instant; the caller holds a reference. */
void folio_wait_locked(struct quire_cpu *cpu, struct folio *folio);
/*
 * The same, but gives up the caller's reference before sleeping, so that the waiter does not hold up a migration (race
 * S1-R4). The folio must not be touched afterwards (S1-R5).
 */
void folio_put_wait_locked(struct quire_cpu *cpu, struct folio *folio);
void folio_wait_writeback(struct quire_cpu *cpu, struct folio *folio);
/* Clears PG_writeback, wakes waiters, drops the writeback's reference. */
void folio_end_writeback(struct quire_cpu *cpu, struct folio *folio);

/* -------------------------------------------------------------------------------------------- frames of folios */

/*
 * The folio that frame @pfn is part of, if any, with a speculative reference and its identity checked; else NULL. The caller is
 * in an RCU section. Any CPU: giving up a reference that turned out wrong may free.
 */
struct folio *folio_try_get_pfn(struct quire_cpu *cpu, u64 pfn);

#endif
