/* SPDX-License-Identifier: MIT */
/*
 * mmu_gather: unmap, then flush, then free. Entries are cleared under the PTL; the references that they owned, and the
 * tables that became empty, are kept here until no TLB can hold them (race B34).
 */
#ifndef QUIRE_MM_GATHER_H
#define QUIRE_MM_GATHER_H

#include "mm/folio.h"
#include "mm/pgtable.h"

#define GATHER_FOLIOS 512u
#define GATHER_TABLES 64u

/* One per CPU, used by one operation at a time; never shared. */
struct mmu_gather {
	struct quire_cpu *cpu;
	struct quire_mm *mm; /* NULL: not in use */
	u64 start, end;	     /* range to flush, empty when start >= end */
	bool freed_tables;
	bool fullmm; /* the address space is dying: no CPU runs it any more */
	u32 nr_folios, nr_tables;
	u64 folio[GATHER_FOLIOS]; /* folio pointer | what it owns << 48: see gather.c */
	struct ptdesc *table[GATHER_TABLES];
};

/* Begins; registers as a pending flush before any entry changes. The mm cannot go away. May be under the mmap lock. */
struct mmu_gather *tlb_gather_mmu(struct quire_cpu *cpu, struct quire_mm *mm);
/* The same for exit: no TLB can use the address space, so flushes are left out; frees happen in batches all the same. */
struct mmu_gather *tlb_gather_mmu_fullmm(struct quire_cpu *cpu, struct quire_mm *mm);
/* Entries in [start, end) were changed such that TLBs must forget them. */
static inline void tlb_gather_range(struct mmu_gather *tlb, u64 start, u64 end)
{
	tlb->start = start < tlb->start ? start : tlb->start;
	tlb->end = end > tlb->end ? end : tlb->end;
}
/* Takes over @nr references of @folio. PTL may be held: flushes and frees in between when full. */
void tlb_remove_folio(struct mmu_gather *tlb, struct folio *folio, u32 nr);
/*
 * The folio that was just taken over is a file's, and an entry of it was dirty: stores may get through a TLB until the flush, and
 * a writeback that finds no entry meanwhile would call the folio clean. So it is made dirty once more after the flush
 * (invariant 83). The file stays until the gather is finished.
 */
void tlb_redirty_folio(struct mmu_gather *tlb);
/*
 * As tlb_remove_folio, for the only mapping of an exclusive anonymous page, whose mapcount goes with the reference, after the flush: one
 * atomic operation instead of two. That the folio counts as mapped for so long misleads nobody: a walk finds no entry, and no
 * other entry exists whose fault would look at the count. But its VMA must stay linked to its anon_vma until then (rmap.h).
 */
void tlb_remove_exclusive(struct mmu_gather *tlb, struct folio *folio);
/* The same for @nr mappings of an address space that no CPU runs (fullmm): nothing needs to wait for a flush. */
void tlb_remove_dying(struct mmu_gather *tlb, struct folio *folio, u32 nr);
/* Takes over an unlinked table; it is freed through RCU after the flush. */
void tlb_remove_table(struct mmu_gather *tlb, struct ptdesc *pt);
/* Flushes now and frees what was gathered; gathering may go on. */
void tlb_flush_mmu(struct mmu_gather *tlb);
/* Flushes, frees, ends. If another gather of this mm overlapped, flushes the whole mm: it may have seen our cleared entries
 * and not flushed them, or we its (race B24). */
void tlb_finish_mmu(struct mmu_gather *tlb);

#endif
