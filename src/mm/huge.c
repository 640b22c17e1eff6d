/* SPDX-License-Identifier: MIT */
/* Leaf PMDs. The rules stand in huge.h. */
#include "mm/huge.h"
#include "mm/vm_fault.h"

bool huge_allowed(const struct quire_cpu *cpu, const struct vma *vma, u64 addr)
{
	u64 base = addr & PMD_MASK;

	if (!(READ_ONCE(cpu->q->config.anon_orders) >> MAX_FOLIO_ORDER & 1) || !vma_is_anonymous(vma))
		return false;
	return !(vma->flags & VM_NOHUGEPAGE) && base >= vma->start && base + PMD_SIZE <= vma->end;
}

/* Maps @folio by a leaf PMD; the PMD is none, its table's lock is held. @deposit makes a later split possible. */
static void map_huge(struct quire_cpu *cpu, struct vma *vma, struct ptdesc *tbl, pmd_t *pmdp, u64 base,
		     struct folio *folio, struct ptdesc *deposit)
{
	u64 bits = vma_entry_bits(vma) | _PAGE_ACCESSED | _PAGE_PSE;

	bits |= vma->flags & VM_WRITE ? _PAGE_RW | _PAGE_DIRTY : 0;
	folio_add_new_anon_rmap(cpu, folio, vma, base, 1);
	pgtable_deposit(tbl, deposit);
	mm_tables_add(vma->mm, cpu->id, 1);
	mm_count_mapped(cpu, vma->mm, folio, PTRS_PER_TABLE);
	pte_set(pmdp, pte_mk(folio->pfn, bits));
}

int do_huge_anonymous(struct quire_cpu *cpu, struct vma *vma, struct ptdesc *tbl, pmd_t *pmdp, u64 addr)
{
	struct folio *folio = folio_alloc(cpu, MAX_FOLIO_ORDER, GFP_ZERO | GFP_NORETRY, true);
	struct ptdesc *deposit = folio ? ptdesc_alloc(cpu, vma->mm, 0) : NULL;
	int ret = FAULT_RETRY;

	if (!deposit) {
		if (folio)
			folio_put(cpu, folio);
		return -ENOMEM;
	}
	WRITE_ONCE(folio->flags, 1ull << PG_swapbacked | 1ull << PG_uptodate);
	spin_lock(&tbl->ptl);
	if (pmd_none(pte_read(pmdp))) {
		map_huge(cpu, vma, tbl, pmdp, addr & PMD_MASK, folio, deposit);
		ret = 0;
	}
	spin_unlock(&tbl->ptl);
	if (ret) {
		ptdesc_free(cpu, deposit);
		folio_put(cpu, folio);
	} else {
		count_event(cpu, FAULT_ANON, 1);
	}
	return ret;
}

/* Exclusivity of each page, which the first page's bit stood for so far. PMD lock held; nothing else maps the pages. */
static void split_exclusive(struct quire *q, u64 pfn)
{
	bool exclusive = page_anon_exclusive(q, pfn);

	for (u64 i = 1; i < PTRS_PER_TABLE; i++) {
		if (page_anon_exclusive(q, pfn + i) == exclusive)
			continue;
		if (exclusive)
			page_set_anon_exclusive(q, pfn + i);
		else
			page_clear_anon_exclusive(q, pfn + i);
	}
}

/* Fills @pt with 512 entries that map what @pmd maps. Nobody else sees the table yet. */
static void split_fill(struct quire *q, struct ptdesc *pt, pmd_t pmd)
{
	pte_t *ptes = ptdesc_entries(q, pt);
	pte_t pte = pmd & ~_PAGE_PSE;

	for (u64 i = 0; i < PTRS_PER_TABLE; i++)
		WRITE_ONCE(ptes[i], pte + (i << PAGE_SHIFT));
}

void split_huge_pmd(struct quire_cpu *cpu, struct vma *vma, struct ptdesc *tbl, pmd_t *pmdp, u64 addr)
{
	u64 base = addr & PMD_MASK;
	struct folio *folio;
	struct ptdesc *pt;
	pmd_t pmd;

	spin_lock(&tbl->ptl);
	if (pmd_leaf(pte_read(pmdp))) {
		/* None while we work: a walker faults and waits for our lock. Flushed before it changes its size, so that
		 * accessed and dirty bits set through the leaf are all in what we copy. */
		pmd = pte_get_and_clear(pmdp);
		tlb_flush_range(cpu, vma->mm, base, base + PMD_SIZE);
		folio = pfn_folio(cpu->q, pte_pfn(pmd));
		pt = pgtable_withdraw(tbl);
		split_exclusive(cpu->q, pte_pfn(pmd));
		split_fill(cpu->q, pt, pmd);
		folio_map_many(folio, PTRS_PER_TABLE - 1);
		if (pmd & _PAGE_MLOCKED)
			folio_mlock(cpu, folio, PTRS_PER_TABLE - 1);
		pte_set(pmdp, pte_mk(pt->pfn, TABLE_BITS));
	}
	spin_unlock(&tbl->ptl);
}

/* One leaf is the only mapping and every reference is a mapping: the page is ours. Folio lock and PMD lock held. */
static bool huge_can_reuse(const struct folio *folio)
{
	return __atomic_load_n(&folio->refs, __ATOMIC_ACQUIRE) == FOLIO_MAP && !folio_test(folio, PG_swapcache);
}

/* Makes a read-only leaf writable if its folio is exclusive. PMD lock held. */
static bool huge_try_reuse(struct quire_cpu *cpu, struct vma *vma, pmd_t *pmdp, pmd_t pmd)
{
	struct folio *folio = pfn_folio(cpu->q, pte_pfn(pmd));
	bool mine = page_anon_exclusive(cpu->q, folio->pfn);

	if (!mine && folio_trylock(folio)) {
		mine = huge_can_reuse(folio);
		if (mine)
			page_set_anon_exclusive(cpu->q, folio->pfn);
		folio_unlock(cpu, folio);
	}
	if (!mine)
		return false;
	while (!pte_cmpxchg(pmdp, &pmd, pmd | _PAGE_ACCESSED | (vma->flags & VM_WRITE ? _PAGE_RW | _PAGE_DIRTY : 0)))
		;
	count_event(cpu, FAULT_COW_REUSE, 1);
	return true;
}

void do_huge_wp(struct quire_cpu *cpu, struct vma *vma, struct ptdesc *tbl, pmd_t *pmdp, u64 addr)
{
	bool split = false;
	pmd_t pmd;

	spin_lock(&tbl->ptl);
	pmd = pte_read(pmdp);
	if (pmd_leaf(pmd) && !pte_write(pmd))
		split = !huge_try_reuse(cpu, vma, pmdp, pmd);
	spin_unlock(&tbl->ptl);
	if (split)
		split_huge_pmd(cpu, vma, tbl, pmdp, addr);
}
