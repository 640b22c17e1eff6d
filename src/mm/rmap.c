/* SPDX-License-Identifier: MIT */
/* Reverse mapping: counting mappings in and out, and walking from a folio to the entries that map it. See rmap.h. */
#include "mm/rmap.h"
#include "mm/fault.h"

/* ---------------------------------------------------------------------------------------- counting */

void mm_count_mapped(struct quire_cpu *cpu, struct quire_mm *mm, const struct folio *folio, s64 pages)
{
	enum mm_counter counter = folio_mm_counter(folio);

	mm_rss_add(mm, cpu->id, counter, pages);
	count_event(cpu, counter == MM_ANONPAGES ? NR_ANON_MAPPED : NR_FILE_MAPPED, (u64)pages);
}

u64 vma_entry_bits(const struct vma *vma)
{
	return (vma->page_prot & ~_PAGE_RW) | (vma->flags & VM_LOCKED ? _PAGE_MLOCKED : 0);
}

#define MLOCK_COUNT_STUCK 0xffffu /* too many to count: the folio stays mlocked until it is freed */

void folio_mlock(struct quire_cpu *cpu, struct folio *folio, u32 nr)
{
	u16 old = READ_ONCE(folio->mlock_count), new_count;

	do {
		new_count = old + nr >= MLOCK_COUNT_STUCK ? (u16)MLOCK_COUNT_STUCK : (u16)(old + nr);
	} while (!__atomic_compare_exchange_n(&folio->mlock_count, &old, new_count, false, __ATOMIC_ACQ_REL,
					      __ATOMIC_RELAXED));
	if (old == 0 && !folio_test_and_set(folio, PG_mlocked))
		count_event(cpu, NR_MLOCK, folio_nr_pages(folio));
}

static void folio_clear_mlocked(struct quire_cpu *cpu, struct folio *folio)
{
	if (folio_test_and_clear(folio, PG_mlocked))
		count_event(cpu, NR_MLOCK, (u64) - (s64)folio_nr_pages(folio));
}

void folio_munlock(struct quire_cpu *cpu, struct folio *folio, u32 nr)
{
	u16 old = READ_ONCE(folio->mlock_count), new_count;

	do {
		if (old == MLOCK_COUNT_STUCK)
			return;
		BUG_ON2(old < nr, folio->pfn, old);
		new_count = (u16)(old - nr);
	} while (!__atomic_compare_exchange_n(&folio->mlock_count, &old, new_count, false, __ATOMIC_ACQ_REL,
					      __ATOMIC_RELAXED));
	if (new_count != 0)
		return;
	folio_clear_mlocked(cpu, folio);
	/* Somebody who counted up from zero between the two steps may have found the flag still set. */
	if (READ_ONCE(folio->mlock_count) != 0 && !folio_test_and_set(folio, PG_mlocked))
		count_event(cpu, NR_MLOCK, folio_nr_pages(folio));
}

void folio_add_new_anon_rmap(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u64 addr, u32 nr)
{
	VM_BUG_ON2(!vma->anon_vma, vma->start, vma->end);
	WRITE_ONCE(folio->index, vma_linear_index(vma, addr));
	WRITE_ONCE(folio->mapping, (u64)(uintptr_t)vma->anon_vma | FOLIO_MAPPING_ANON);
	__atomic_fetch_add(&folio->refs, nr * FOLIO_MAP - FOLIO_REF, __ATOMIC_RELEASE);
	if (unlikely(vma->flags & VM_LOCKED))
		folio_mlock(cpu, folio, nr);
}

void folio_add_file_rmap(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u32 nr)
{
	folio_map_many(folio, nr);
	if (unlikely(vma->flags & VM_LOCKED))
		folio_mlock(cpu, folio, nr);
}

/* ---------------------------------------------------------------------------------------- walking */

static void walk_anon(struct quire_cpu *cpu, struct folio *folio, struct rmap_walk_control *rwc)
{
	struct anon_vma *anon_vma = folio_lock_anon_vma_read(cpu, folio);
	u64 first = folio->index, last = first + folio_nr_pages(folio) - 1;

	if (!anon_vma)
		return;
	for (struct interval_node *node = interval_tree_first(&anon_vma->tree, first, last); node;
	     node = interval_tree_next(node, first, last)) {
		struct vma *vma = container_of(node, struct anon_vma_chain, node)->vma;

		if (!rwc->rmap_one(cpu, folio, vma, vma->start + ((first - vma->pgoff) << PAGE_SHIFT), rwc->arg))
			break;
	}
	anon_vma_unlock_read(anon_vma);
	put_anon_vma(cpu, anon_vma);
}

static void walk_file(struct quire_cpu *cpu, struct folio *folio, struct rmap_walk_control *rwc)
{
	struct address_space *mapping = folio_file_mapping(folio);
	u64 first = folio->index, last = first + folio_nr_pages(folio) - 1;

	if (!mapping)
		return;
	down_read(&mapping->i_mmap_rwsem);
	for (struct interval_node *node = interval_tree_first(&mapping->i_mmap, first, last); node;
	     node = interval_tree_next(node, first, last)) {
		struct vma *vma = container_of(node, struct vma, i_mmap_node);

		if (!rwc->rmap_one(cpu, folio, vma, vma->start + ((first - vma->pgoff) << PAGE_SHIFT), rwc->arg))
			break;
	}
	up_read(&mapping->i_mmap_rwsem);
}

void rmap_walk(struct quire_cpu *cpu, struct folio *folio, struct rmap_walk_control *rwc)
{
	if (folio_anon(folio))
		walk_anon(cpu, folio, rwc);
	else
		walk_file(cpu, folio, rwc);
}

static bool entry_maps(pte_t pte, const struct folio *folio)
{
	return pte_present(pte) && !pte_special(pte) && pte_pfn(pte) - folio->pfn < folio_nr_pages(folio);
}

/* The entries of one PTE table in [addr, end), which are below one PMD. */
static void walk_table(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u64 addr, u64 end,
		       mapped_entry_fn fn, void *arg)
{
	struct ptdesc *tbl, *pt;
	pmd_t *pmdp = pmd_offset(vma->mm, addr, &tbl);
	pte_t *ptep;

	if (!pmdp)
		return;
	if (pmd_leaf(pte_read(pmdp))) {
		spin_lock(&tbl->ptl);
		if (pmd_leaf(pte_read(pmdp)) && entry_maps(pte_read(pmdp), folio))
			fn(cpu, folio, vma, addr & PMD_MASK, pmdp, 1, arg);
		spin_unlock(&tbl->ptl);
	}
	ptep = pte_offset_map_lock(vma->mm, pmdp, addr, &pt);
	if (!ptep)
		return;
	for (; addr < end; addr += PAGE_SIZE, ptep++)
		if (entry_maps(pte_read(ptep), folio))
			fn(cpu, folio, vma, addr, ptep, 0, arg);
	pte_unmap_unlock(pt);
}

void for_each_mapped_entry(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u64 addr, mapped_entry_fn fn,
			   void *arg)
{
	u64 end = addr + ((u64)folio_nr_pages(folio) << PAGE_SHIFT);

	/* A folio that begins before its VMA has a wrapped or lower address: only the part inside counts. */
	if ((s64)(addr - vma->start) < 0)
		addr = vma->start;
	if ((s64)(end - vma->end) > 0)
		end = vma->end;
	for (u64 next; (s64)(end - addr) > 0; addr = next) {
		next = pmd_addr_end(addr, end);
		walk_table(cpu, folio, vma, addr, next, fn, arg);
	}
}

/* ---------------------------------------------------------------------------------------- cleaning */

static void mkclean_entry(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u64 addr, u64 *entry,
			  unsigned level, void *arg)
{
	u64 old = pte_read(entry);
	bool *cleaned = arg;

	(void)folio;
	if (!(old & (_PAGE_DIRTY | _PAGE_RW)))
		return;
	while (!pte_cmpxchg(entry, &old, old & ~(_PAGE_DIRTY | _PAGE_RW)))
		;
	/* Before the page counts as clean no TLB may hold a writable entry (invariants 40, 83). */
	tlb_flush_range(cpu, vma->mm, addr, addr + (level ? PMD_SIZE : PAGE_SIZE));
	*cleaned = true;
}

static bool mkclean_one(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u64 addr, void *arg)
{
	if (vma->flags & VM_SHARED) /* a private mapping's entries of the file are read-only and never dirty */
		for_each_mapped_entry(cpu, folio, vma, addr, mkclean_entry, arg);
	return true;
}

bool folio_mkclean(struct quire_cpu *cpu, struct folio *folio)
{
	bool cleaned = false;
	struct rmap_walk_control rwc = { .arg = &cleaned, .rmap_one = mkclean_one };

	if (folio_mapped(folio))
		rmap_walk(cpu, folio, &rwc);
	return cleaned;
}

static void referenced_entry(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u64 addr, u64 *entry,
			     unsigned level, void *arg)
{
	u32 *count = arg;

	(void)cpu, (void)folio, (void)vma, (void)addr, (void)level;
	if (__atomic_fetch_and(entry, ~_PAGE_ACCESSED, __ATOMIC_RELAXED) & _PAGE_ACCESSED)
		(*count)++;
}

static bool referenced_one(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u64 addr, void *arg)
{
	for_each_mapped_entry(cpu, folio, vma, addr, referenced_entry, arg);
	return true;
}

u32 folio_referenced(struct quire_cpu *cpu, struct folio *folio)
{
	u32 count = 0;
	struct rmap_walk_control rwc = { .arg = &count, .rmap_one = referenced_one };

	if (folio_mapped(folio))
		rmap_walk(cpu, folio, &rwc);
	return count;
}
