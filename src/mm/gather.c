/* SPDX-License-Identifier: MIT */
/* mmu_gather: unmap, then flush, then free. The rules stand in gather.h. */
#include "mm/gather.h"
#include "mm/instance.h"
#include "mm/pagecache.h"

/*
 * What an entry owns, above bit 48: a number of references; 0: the folio, whose count is zero; or, with FOLIO_ONLY_MAPPING, a
 * mapping together with its reference. Bit 0 says what to do before that is given up: folios are aligned to cache lines.
 */
#define FOLIO_COUNT_SHIFT 48
#define FOLIO_COUNT_MAX 0x7fffu
#define FOLIO_ONLY_MAPPING (1ull << 63)
#define FOLIO_REDIRTY 1ull

static struct folio *gathered_folio(u64 entry)
{
	return (struct folio *)(uintptr_t)(entry & ((1ull << FOLIO_COUNT_SHIFT) - 1) & ~FOLIO_REDIRTY);
}

static void gather_reset_range(struct mmu_gather *tlb)
{
	tlb->start = ~0ull;
	tlb->end = 0;
	tlb->freed_tables = false;
}

struct mmu_gather *tlb_gather_mmu(struct quire_cpu *cpu, struct quire_mm *mm)
{
	struct mmu_gather *tlb = &cpu->gather;

	BUG_ON2(tlb->mm, tlb->mm, mm);
	tlb->cpu = cpu;
	tlb->mm = mm;
	tlb->fullmm = false;
	tlb->nr_folios = 0;
	tlb->nr_tables = 0;
	gather_reset_range(tlb);
	tlb_pending_inc(&mm->tlb);
	return tlb;
}

struct mmu_gather *tlb_gather_mmu_fullmm(struct quire_cpu *cpu, struct quire_mm *mm)
{
	struct mmu_gather *tlb = tlb_gather_mmu(cpu, mm);

	tlb->fullmm = true;
	return tlb;
}

/* Gives up what an entry owns. True: that was all there was, and the folio is the caller's to free. */
static bool gathered_put(u64 entry)
{
	struct folio *folio = gathered_folio(entry);
	u32 nr = (u32)(entry >> FOLIO_COUNT_SHIFT);

	if (entry & FOLIO_ONLY_MAPPING)
		return folio_unmap_many(folio, 1);
	return !nr || folio_put_many_testzero(folio, nr);
}

/* Nothing gathered can be in any TLB any more: gives up the references and the tables. */
static void gather_free(struct mmu_gather *tlb)
{
	for (u32 i = 0; i < tlb->nr_folios; i++) {
		u64 entry = tlb->folio[i];

		if (i + 4 < tlb->nr_folios)
			__builtin_prefetch(gathered_folio(tlb->folio[i + 4]), 1);
		if (unlikely(entry & FOLIO_REDIRTY))
			filemap_dirty_folio(tlb->cpu, gathered_folio(entry));
		if (gathered_put(entry))
			folio_free(tlb->cpu, gathered_folio(entry));
	}
	for (u32 i = 0; i < tlb->nr_tables; i++)
		ptdesc_free_rcu(tlb->cpu, tlb->table[i]);
	tlb->nr_folios = 0;
	tlb->nr_tables = 0;
}

void tlb_flush_mmu(struct mmu_gather *tlb)
{
	if (tlb->fullmm)
		tlb_flush_mm(tlb->cpu, tlb->mm);
	else if (tlb->start < tlb->end)
		tlb_flush_range(tlb->cpu, tlb->mm, tlb->start, tlb->end);
	gather_reset_range(tlb);
	gather_free(tlb);
}

static void gather_add(struct mmu_gather *tlb, u64 entry)
{
	if (unlikely(tlb->nr_folios == GATHER_FOLIOS))
		tlb_flush_mmu(tlb);
	tlb->folio[tlb->nr_folios++] = entry;
}

void tlb_remove_folio(struct mmu_gather *tlb, struct folio *folio, u32 nr)
{
	if (tlb->nr_folios) {
		u64 *last = &tlb->folio[tlb->nr_folios - 1];

		/* Not to an entry of another kind: of an exclusive page, or (fullmm) of a folio that is free. */
		if (gathered_folio(*last) == folio && (*last >> FOLIO_COUNT_SHIFT) + nr <= FOLIO_COUNT_MAX) {
			*last += (u64)nr << FOLIO_COUNT_SHIFT;
			return;
		}
	}
	gather_add(tlb, (u64)(uintptr_t)folio | (u64)nr << FOLIO_COUNT_SHIFT);
}

void tlb_redirty_folio(struct mmu_gather *tlb)
{
	tlb->folio[tlb->nr_folios - 1] |= FOLIO_REDIRTY;
}

void tlb_remove_exclusive(struct mmu_gather *tlb, struct folio *folio)
{
	gather_add(tlb, (u64)(uintptr_t)folio | FOLIO_ONLY_MAPPING);
}

void tlb_remove_dying(struct mmu_gather *tlb, struct folio *folio, u32 nr)
{
	VM_BUG_ON2(!tlb->fullmm, tlb->mm, folio->pfn);
	if (folio_unmap_many(folio, nr))
		gather_add(tlb, (u64)(uintptr_t)folio);
}

void tlb_remove_table(struct mmu_gather *tlb, struct ptdesc *pt)
{
	if (tlb->nr_tables == GATHER_TABLES)
		tlb_flush_mmu(tlb);
	tlb->freed_tables = true;
	tlb->table[tlb->nr_tables++] = pt;
}

void tlb_finish_mmu(struct mmu_gather *tlb)
{
	struct mm_tlb *mm_tlb = &tlb->mm->tlb;

	/* Somebody else's cleared entries may be what we found none, or ours what he found (race B24). */
	if (__atomic_load_n(&mm_tlb->flush_pending, __ATOMIC_SEQ_CST) > 1) {
		tlb_flush_mm(tlb->cpu, tlb->mm);
		gather_reset_range(tlb);
	}
	tlb_flush_mmu(tlb);
	tlb->mm = NULL;
	tlb_pending_dec(mm_tlb);
}
