/* SPDX-License-Identifier: MIT */
/* Faults in anonymous memory where nothing is mapped yet: the zero page for a read, fresh folios for a write. */
#include "mm/vm_fault.h"

/* A read maps the one frame of zeroes; it has no folio and is not counted. */
static int map_zero_page(struct vm_fault *f)
{
	pte_t *ptep = fault_lock_same(f);

	if (!ptep)
		return FAULT_RETRY;
	pte_set(ptep, pte_mk(f->cpu->q->zero_pfn,
			     (vma_entry_bits(f->vma) & ~_PAGE_MLOCKED) | _PAGE_SPECIAL | _PAGE_ACCESSED));
	pte_unmap_unlock(f->pt);
	count_event(f->cpu, FAULT_ANON_ZERO, 1);
	return 0;
}

static bool all_none(const pte_t *ptep, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		if (!pte_none(pte_read(ptep + i)))
			return false;
	return true;
}

/* The largest order that policy allows, that fits the VMA around the fault, and where nothing is mapped yet. Below 9:
 * leaf PMDs are huge.c's. The entries are checked again under the lock. */
static unsigned anon_order(const struct vm_fault *f)
{
	u32 orders = READ_ONCE(f->cpu->q->config.anon_orders) & ((1u << MAX_FOLIO_ORDER) - 1);
	const pte_t *table = pte_offset_lockless(f->mm, f->pmd, f->addr & PMD_MASK);

	if (!table || !pte_none(f->orig) || (f->vma->flags & VM_NOHUGEPAGE))
		return 0;
	for (orders &= ~1u; orders; orders &= ~(1u << (31 - __builtin_clz(orders)))) {
		unsigned order = 31 - (unsigned)__builtin_clz(orders);
		u64 base = f->addr & ~((PAGE_SIZE << order) - 1);

		if (base >= f->vma->start && base + (PAGE_SIZE << order) <= f->vma->end &&
		    all_none(table + pte_index(base), 1u << order))
			return order;
	}
	return 0;
}

/* Maps all of @folio at @addr: the entries are none, their PTL is held. */
static void map_anon_folio(struct vm_fault *f, struct folio *folio, u64 addr, pte_t *ptep)
{
	u32 nr = folio_nr_pages(folio);
	pte_t pte = pte_mk(folio->pfn, fault_entry_bits(f, f->vma->flags & VM_WRITE));

	folio_add_new_anon_rmap(f->cpu, folio, f->vma, addr, nr);
	for (u32 i = 0; i < nr; i++)
		pte_set(ptep + i, pte + ((u64)i << PAGE_SHIFT));
	mm_rss_add(f->mm, f->cpu->id, MM_ANONPAGES, nr);
	count_event(f->cpu, NR_ANON_MAPPED, nr);
}

static void anon_folio_init(struct folio *folio)
{
	/* Nobody else can see the folio yet; the entry publishes it. */
	WRITE_ONCE(folio->flags, READ_ONCE(folio->flags) | 1ull << PG_swapbacked | 1ull << PG_uptodate);
}

int install_anon_folio(struct vm_fault *f, struct folio *folio)
{
	pte_t *ptep;

	anon_folio_init(folio);
	ptep = fault_lock_same(f);
	if (!ptep) {
		folio_put(f->cpu, folio);
		return FAULT_RETRY;
	}
	if (!pte_none(f->orig)) {
		pte_set(ptep, 0);
		/* Other CPUs may hold the zero page in their TLBs and would go on reading zeroes. */
		tlb_flush_range(f->cpu, f->mm, f->addr, f->addr + PAGE_SIZE);
	}
	map_anon_folio(f, folio, f->addr, ptep);
	pte_unmap_unlock(f->pt);
	return 0;
}

/* A folio of several pages around the fault. FAULT_RETRY also when there is no such block of memory or one of the entries
 * is taken by now: @order must be tried smaller then. */
static int map_large_folio(struct vm_fault *f, unsigned order)
{
	u64 base = f->addr & ~((PAGE_SIZE << order) - 1);
	struct folio *folio = folio_alloc(f->cpu, order, GFP_ZERO | GFP_NORETRY, true);
	pte_t *ptep;

	if (!folio)
		return FAULT_RETRY;
	anon_folio_init(folio);
	ptep = pte_offset_map_lock(f->mm, f->pmd, base, &f->pt);
	if (ptep && all_none(ptep, 1u << order)) {
		map_anon_folio(f, folio, base, ptep);
		pte_unmap_unlock(f->pt);
		return 0;
	}
	if (ptep)
		pte_unmap_unlock(f->pt);
	folio_put(f->cpu, folio);
	return FAULT_RETRY;
}

int do_anonymous_page(struct vm_fault *f)
{
	struct folio *folio;
	unsigned order;
	int ret;

	if (!(f->flags & FAULT_WRITE))
		return map_zero_page(f);
	order = anon_order(f);
	if (order == 0 || map_large_folio(f, order) != 0) {
		folio = folio_alloc(f->cpu, 0, GFP_ZERO, true);
		if (!folio)
			return -ENOMEM;
		ret = install_anon_folio(f, folio);
		if (ret)
			return ret;
	}
	count_event(f->cpu, FAULT_ANON, 1);
	return 0;
}
