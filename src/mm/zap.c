/* SPDX-License-Identifier: MIT */
/*
 * Zapping: emptying page tables. Entries are cleared under their PTL; what they owned goes to the gather, which flushes
 * before it frees. Every kind of entry is accounted to the counter that it was charged to (seed 5, rules 101 to 111).
 */
#include "mm/entry_batch.h"
#include "mm/huge.h"
#include "mm/softleaf.h"

/* What one walk carries along. */
struct zap {
	struct mmu_gather *tlb;
	struct vma *vma;
	const struct zap_details *details;
	bool linked;	      /* the VMA stays in its anon_vma until the gather is finished */
	struct rss_delta rss; /* pages unmapped, not yet taken off the counters */
};

/* Is this folio to go? Without details everything is; otherwise private copies stay unless the file itself shrinks. */
static bool should_zap_folio(const struct zap_details *details, const struct folio *folio)
{
	if (!details)
		return true;
	if (details->single && details->single != folio)
		return false;
	return details->even_cows || !folio_anon(folio);
}

static bool should_zap_markers(const struct zap_details *details)
{
	return !details || !details->keep_markers;
}

/*
 * Clears a present entry and returns what it was. A plain store will do where nothing can be lost: no CPU runs the address
 * space, the MMU has nothing left to set, or the page is anonymous and exclusive, so that its dirty bit matters to nobody
 * any more. Others need the exchange, because the folio must learn of a store that came just before (invariant 83).
 */
static pte_t zap_clear(const struct zap *zap, pte_t *ptep, pte_t pte, bool exclusive)
{
	if (!exclusive && !zap->tlb->fullmm && !pte_settled(pte))
		return pte_get_and_clear(ptep);
	WRITE_ONCE(*ptep, 0);
	return pte;
}

/* What the MMU noted in the entries belongs to a file's folio now. True when that was a store, of which there may be more. */
static bool zap_transfer_bits(struct quire_cpu *cpu, struct folio *folio, pte_t bits)
{
	if (folio_anon(folio))
		return false;
	if (pte_dirty(bits))
		filemap_dirty_folio(cpu, folio);
	if (pte_young(bits) && !folio_test(folio, PG_referenced))
		folio_set(folio, PG_referenced);
	return pte_dirty(bits);
}

/* Gives @nr cleared entries' mappings and references to the gather. @pte is one of them; @exclusive: the only one there was. */
static void zap_mappings(struct zap *zap, struct folio *folio, pte_t pte, u32 nr, bool exclusive)
{
	if (unlikely(pte & _PAGE_MLOCKED))
		folio_munlock(zap->tlb->cpu, folio, nr);
	if (zap->tlb->fullmm) {
		tlb_remove_dying(zap->tlb, folio, nr);
	} else if (exclusive && zap->linked) {
		tlb_remove_exclusive(zap->tlb, folio);
	} else {
		folio_unmap_keep_refs(folio, nr);
		tlb_remove_folio(zap->tlb, folio, nr);
	}
}

/* Zaps a run of present entries of one folio; returns how many entries were looked at. */
static u32 zap_present(struct zap *zap, pte_t *ptep, pte_t pte, u64 addr, u32 max)
{
	struct quire *q = zap->tlb->cpu->q;
	struct folio *folio;
	bool exclusive, stored;
	pte_t bits;
	u32 nr;

	if (pte_special(pte)) {
		if (zap->details && !zap->details->even_cows)
			return 1; /* the zero page of a private mapping is a private page too */
		WRITE_ONCE(*ptep, 0);
		tlb_gather_range(zap->tlb, addr, addr + PAGE_SIZE);
		return 1;
	}
	folio = pfn_folio(q, pte_pfn(pte));
	nr = folio->order == 0 ? 1 : folio_pte_batch(folio, ptep, pte, max);
	if (!should_zap_folio(zap->details, folio))
		return nr;
	exclusive = folio->order == 0 && page_anon_exclusive(q, pte_pfn(pte));
	bits = zap_clear(zap, ptep, pte, exclusive);
	for (u32 i = 1; i < nr; i++)
		bits |= zap_clear(zap, ptep + i, pte_read(ptep + i), false);
	tlb_gather_range(zap->tlb, addr, addr + ((u64)nr << PAGE_SHIFT));
	stored = zap_transfer_bits(zap->tlb->cpu, folio, bits);
	rss_delta_add(&zap->rss, folio, nr);
	zap_mappings(zap, folio, pte, nr, exclusive);
	if (unlikely(stored && !folio_test(folio, PG_swapbacked) && !zap->tlb->fullmm))
		tlb_redirty_folio(zap->tlb);
	return nr;
}

/* Zaps an entry that is not present. */
static void zap_softleaf(struct zap *zap, pte_t *ptep, pte_t pte)
{
	switch (softleaf_type(pte)) {
	case SOFTLEAF_MARKER:
		if (should_zap_markers(zap->details))
			WRITE_ONCE(*ptep, 0);
		break;
	case SOFTLEAF_NONE:
	case SOFTLEAF_SWAP:
	case SOFTLEAF_MIGRATION_READ:
	case SOFTLEAF_MIGRATION_READ_EXCLUSIVE:
	case SOFTLEAF_MIGRATION_WRITE:
	case SOFTLEAF_HWPOISON:
	case SOFTLEAF_DEVICE_PRIVATE:
	case SOFTLEAF_DEVICE_EXCLUSIVE:
	case NR_SOFTLEAF_TYPES:
		BUG_ON2(true, pte, softleaf_type(pte)); /* nothing makes such entries yet */
	}
}

/* The entries [addr, end) of one table. */
static void zap_pte_range(struct zap *zap, pmd_t *pmdp, u64 addr, u64 end)
{
	struct ptdesc *pt;
	pte_t *ptep = pte_offset_map_lock(zap->tlb->mm, pmdp, addr, &pt);

	if (!ptep)
		return;
	while (addr < end) {
		u32 left = (u32)((end - addr) >> PAGE_SHIFT), nr = 1;
		pte_t pte = pte_read(ptep);

		entry_prefetch(zap->tlb->cpu->q, ptep, left);
		if (pte_present(pte))
			nr = zap_present(zap, ptep, pte, addr, left);
		else if (!pte_none(pte))
			zap_softleaf(zap, ptep, pte);
		addr += (u64)nr << PAGE_SHIFT;
		ptep += nr;
	}
	rss_delta_flush(zap->tlb->cpu, zap->tlb->mm, &zap->rss, -1);
	pte_unmap_unlock(pt);
}

/* A leaf PMD that goes as a whole. False: it is no leaf any more. */
static bool zap_huge_pmd(struct zap *zap, struct ptdesc *tbl, pmd_t *pmdp, u64 addr)
{
	struct ptdesc *deposit;
	struct folio *folio;
	pmd_t pmd;

	spin_lock(&tbl->ptl);
	pmd = pte_read(pmdp);
	if (!pmd_leaf(pmd)) {
		spin_unlock(&tbl->ptl);
		return false;
	}
	folio = pfn_folio(zap->tlb->cpu->q, pte_pfn(pmd));
	if (should_zap_folio(zap->details, folio)) {
		zap_clear(zap, pmdp, pmd, false);
		deposit = pgtable_withdraw(tbl);
		tlb_gather_range(zap->tlb, addr, addr + PMD_SIZE);
		rss_delta_add(&zap->rss, folio, PTRS_PER_TABLE);
		rss_delta_flush(zap->tlb->cpu, zap->tlb->mm, &zap->rss, -1);
		zap_mappings(zap, folio, pmd, 1, page_anon_exclusive(zap->tlb->cpu->q, folio->pfn));
		mm_tables_add(zap->tlb->mm, zap->tlb->cpu->id, -1);
		tlb_remove_table(zap->tlb, deposit);
	}
	spin_unlock(&tbl->ptl);
	return true;
}

static void zap_pmd(struct zap *zap, struct ptdesc *tbl, pmd_t *pmdp, u64 addr, u64 end)
{
	if (pmd_leaf(pte_read(pmdp))) {
		if (end - addr == PMD_SIZE && zap_huge_pmd(zap, tbl, pmdp, addr))
			return;
		split_huge_pmd(zap->tlb->cpu, zap->vma, tbl, pmdp, addr);
	}
	zap_pte_range(zap, pmdp, addr, end);
}

void unmap_page_range(struct mmu_gather *tlb, struct vma *vma, u64 start, u64 end, const struct zap_details *details)
{
	/* With details the VMA is here to stay; an anonymous one is kept by the mmap lock, until the caller is done. */
	struct zap zap = { .tlb = tlb, .vma = vma, .details = details, .linked = details && vma_is_anonymous(vma) };
	struct ptdesc *tbl;
	pmd_t *pmdp;

	while (start < end && (pmdp = pmd_next(tlb->mm, &start, end, &tbl)) != NULL) {
		u64 next = pmd_addr_end(start, end);

		zap_pmd(&zap, tbl, pmdp, start, next);
		start = next;
	}
}

void zap_page_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end)
{
	struct zap_details details = { .even_cows = true, .keep_markers = true };
	struct mmu_gather *tlb = tlb_gather_mmu(cpu, vma->mm);

	mmap_assert_locked(vma->mm);
	unmap_page_range(tlb, vma, start, end, &details);
	tlb_finish_mmu(tlb);
}

/* ---------------------------------------------------------------------------------------- files */

/* The part of the VMA that maps pages [first, last] of its file; the VMA does map some of them. */
static void unmap_mapping_vma(struct quire_cpu *cpu, struct vma *vma, u64 first, u64 last, struct zap_details *details)
{
	u64 vma_last = vma->pgoff + vma_pages(vma) - 1;
	u64 from = first > vma->pgoff ? first : vma->pgoff;
	u64 to = last < vma_last ? last : vma_last;
	struct mmu_gather *tlb = tlb_gather_mmu(cpu, vma->mm);

	unmap_page_range(tlb, vma, vma->start + ((from - vma->pgoff) << PAGE_SHIFT),
			 vma->start + ((to + 1 - vma->pgoff) << PAGE_SHIFT), details);
	tlb_finish_mmu(tlb);
}

/* i_mmap keeps every VMA found, and its tables, in place while we hold its lock: unmapping unlinks first. */
static void unmap_mapping(struct quire_cpu *cpu, struct address_space *mapping, u64 first, u64 last,
			  struct zap_details *details)
{
	down_read(&mapping->i_mmap_rwsem);
	for (struct interval_node *node = interval_tree_first(&mapping->i_mmap, first, last); node;
	     node = interval_tree_next(node, first, last))
		unmap_mapping_vma(cpu, container_of(node, struct vma, i_mmap_node), first, last, details);
	up_read(&mapping->i_mmap_rwsem);
}

void unmap_mapping_range(struct quire_cpu *cpu, struct address_space *mapping, u64 first, u64 nr, bool even_cows)
{
	struct zap_details details = { .even_cows = even_cows, .keep_markers = true };

	unmap_mapping(cpu, mapping, first, nr ? first + nr - 1 : ~0ull, &details);
}

void unmap_mapping_folio(struct quire_cpu *cpu, struct folio *folio)
{
	struct zap_details details = { .keep_markers = true, .single = folio };
	struct address_space *mapping = folio_file_mapping(folio);

	VM_BUG_ON2(!folio_test(folio, PG_locked), folio->pfn, folio->flags);
	if (mapping && folio_mapped(folio))
		unmap_mapping(cpu, mapping, folio->index, folio->index + folio_nr_pages(folio) - 1, &details);
}

/* ---------------------------------------------------------------------------------------- tables */

/* The span of addresses that @entry-s of a table of @level cover, each. */
static u64 level_span(unsigned level)
{
	return PAGE_SIZE << (9 * level);
}

/*
 * Unlinks the tables below @table that cover parts of [addr, end) and lie inside [floor, ceiling), lowest first, so that
 * no table is freed with children. Recursion: one step a level, three at most.
 */
static void free_tables_below(struct mmu_gather *tlb, struct ptdesc *table, u64 addr, u64 end, u64 floor, u64 ceiling)
{
	u64 span = level_span(table->level);
	u64 *entries = ptdesc_entries(tlb->cpu->q, table);

	for (u64 base = addr & ~(span - 1); base < end; base += span) {
		u64 *entry = entries + table_index(base, table->level);
		u64 value = pte_read(entry);
		struct ptdesc *child;

		if (!pmd_table(value))
			continue;
		child = entry_table(tlb->cpu->q, value);
		if (child->level > 0)
			free_tables_below(tlb, child, base > addr ? base : addr, base + span < end ? base + span : end,
					  floor, ceiling);
		if (base < floor || base + span > ceiling)
			continue; /* a neighbour may use it */
		spin_lock(&table->ptl);
		pte_set(entry, 0);
		spin_unlock(&table->ptl);
		tlb_gather_range(tlb, base, base + span);
		mm_tables_add(tlb->mm, tlb->cpu->id, -1);
		tlb_remove_table(tlb, child);
	}
}

void free_pgtables(struct mmu_gather *tlb, struct quire_mm *mm, u64 start, u64 end, u64 floor, u64 ceiling)
{
	u64 top = 1ull << 47;

	if (start < end)
		free_tables_below(tlb, mm->pgd, start, end, floor, ceiling && ceiling < top ? ceiling : top);
}
