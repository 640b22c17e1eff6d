/* SPDX-License-Identifier: MIT */
/*
 * Reverse mapping: from a folio to every entry that maps it.
 *
 * Anonymous folios point to an anon_vma; it lists, in an interval tree by page offset, every VMA that may map one of its
 * folios: the VMA in which it was made, and the VMAs that fork, split and move made from that. A VMA links to its own
 * anon_vma and to those of all its ancestors through anon_vma_chain objects. All anon_vmas of a family share the lock of
 * the root.
 *
 * A folio's mapping field is not cleared when its last mapping goes. Whoever follows it must be in an RCU section, take a
 * reference on the anon_vma unless that is zero, and check that the folio is still mapped and its mapping unchanged after
 * the lock is taken (folio_lock_anon_vma_read; races S3-R1 to R4, B64).
 */
#ifndef QUIRE_MM_RMAP_H
#define QUIRE_MM_RMAP_H

#include "mm/counters.h"
#include "mm/folio.h"
#include "mm/vma.h"

/* Legend: R root's rwsem (write to change, read to read); a atomic; c constant while refcount > 0. */
struct anon_vma {
	struct rwsem rwsem;	   /* used in the root only */
	u32 refcount;		   /* a: 1 while any chain links it, 1 per descendant in a root, and walkers */
	u32 num_children;	   /* R: anon_vmas whose parent is this one; a root counts itself */
	u32 num_active_vmas;	   /* R: VMAs whose anon_vma this is */
	struct anon_vma *root;	   /* c */
	struct anon_vma *parent;   /* c */
	struct interval_tree tree; /* R */
};

struct anon_vma_chain {
	struct vma *vma;	   /* c */
	struct anon_vma *anon_vma; /* c */
	struct list_head same_vma; /* vma->anon_vma_chain: mmap lock write, or read + page_table_lock */
	struct interval_node node; /* R */
};

/* ---- anon_vma.c */

/* Gives the VMA an anon_vma, perhaps a mergeable neighbour's with its whole chain. mmap lock held (read is enough).
 * 0 or -ENOMEM. May sleep. */
int anon_vma_prepare(struct quire_cpu *cpu, struct vma *vma);
/* Links @dst to every anon_vma of @src (split, merge, move). @dst->anon_vma is set to @src's. mmap lock for write.
 * -ENOMEM leaves nothing linked. */
int anon_vma_clone(struct quire_cpu *cpu, struct vma *dst, struct vma *src);
/* As clone for a child's VMA, and gives the child an anon_vma of its own (or an abandoned one: B62). */
int anon_vma_fork(struct quire_cpu *cpu, struct vma *vma, struct vma *parent);
/* Unlinks the VMA from all; anon_vmas without links are freed. mmap lock write, or the VMA is detached. */
void unlink_anon_vmas(struct quire_cpu *cpu, struct vma *vma);
/* Before and after start, end or pgoff of a linked VMA change: takes it out of the interval trees, and puts it back.
 * Between them the root's lock is held for write (anon_vma_lock_write). */
void anon_vma_interval_remove(struct vma *vma);
void anon_vma_interval_insert(struct vma *vma);
void anon_vma_lock_write(struct anon_vma *anon_vma);
void anon_vma_unlock_write(struct anon_vma *anon_vma);
void anon_vma_lock_read(struct anon_vma *anon_vma);
void anon_vma_unlock_read(struct anon_vma *anon_vma);
void put_anon_vma(struct quire_cpu *cpu, struct anon_vma *anon_vma);
/* The folio's anon_vma locked for read, the folio mapped at that moment; NULL when it is not mapped any more. The caller
 * holds a reference on the folio. Unlock with anon_vma_unlock_read and put_anon_vma. */
struct anon_vma *folio_lock_anon_vma_read(struct quire_cpu *cpu, struct folio *folio);

/* ---- rmap.c: adding and removing mappings. The PTL of the entries is held throughout; the caller counts rss. */

/* A fresh anonymous folio, exclusive to @vma, about to be mapped by @nr entries, its first page at @addr. One reference of the
 * caller's becomes one of theirs. */
void folio_add_new_anon_rmap(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u64 addr, u32 nr);
/* @nr more entries of a page-cache folio in @vma; each brings a reference. */
void folio_add_file_rmap(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u32 nr);
/* The bits of an entry mapped in @vma, without _PAGE_RW: permissions, and whether it counts as mlocked. */
u64 vma_entry_bits(const struct vma *vma);
/* @nr entries of the folio start or stop counting as mlocked. PTL held. */
void folio_mlock(struct quire_cpu *cpu, struct folio *folio, u32 nr);
void folio_munlock(struct quire_cpu *cpu, struct folio *folio, u32 nr);
/* Removes @nr entries' mappings but leaves their references to the caller. @pte is one of the entries: all of them had the
 * same _PAGE_MLOCKED bit. */
static inline void folio_remove_rmap_keep_refs(struct quire_cpu *cpu, struct folio *folio, pte_t pte, u32 nr)
{
	if (unlikely(pte & _PAGE_MLOCKED))
		folio_munlock(cpu, folio, nr);
	folio_unmap_keep_refs(folio, nr);
}
/* Which counter of the resident set a folio's pages belong to. */
static inline enum mm_counter folio_mm_counter(const struct folio *folio)
{
	if (folio_anon(folio))
		return MM_ANONPAGES;
	return folio_test(folio, PG_swapbacked) ? MM_SHMEMPAGES : MM_FILEPAGES;
}
/* @pages more (fewer) of @folio's pages are mapped in @mm. */
void mm_count_mapped(struct quire_cpu *cpu, struct quire_mm *mm, const struct folio *folio, s64 pages);

/* ---- walks. The folio is locked (file) or referenced (anon). May sleep. */

struct rmap_walk_control {
	void *arg;
	/* Called with the lock of the mapping (anon_vma's root or i_mmap) held for read. @addr is where the folio's first page is
	 * or would be in @vma, perhaps below its start. False stops the walk. */
	bool (*rmap_one)(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u64 addr, void *arg);
};
/* Visits every VMA in which the folio may be mapped. */
void rmap_walk(struct quire_cpu *cpu, struct folio *folio, struct rmap_walk_control *rwc);
/* Visits every entry of @vma that maps a page of @folio, its PTL held; @level is 0 for a PTE, 1 for a leaf PMD. */
typedef void (*mapped_entry_fn)(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u64 addr, u64 *entry,
				unsigned level, void *arg);
void for_each_mapped_entry(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u64 addr, mapped_entry_fn fn,
			   void *arg);

/* Write-protects and cleans every entry of a locked file folio, and flushes; true when any was dirty or writable. */
bool folio_mkclean(struct quire_cpu *cpu, struct folio *folio);
/* Counts entries whose accessed bit was set, clearing it. */
u32 folio_referenced(struct quire_cpu *cpu, struct folio *folio);

#endif
