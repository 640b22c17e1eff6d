/* SPDX-License-Identifier: MIT */
/*
 * Write faults on present, read-only entries: copy-on-write and its exclusivity rules (seed 2).
 *
 * PageAnonExclusive of a frame says that one entry of one address space owns it. It is set when the page is made, cleared
 * by fork under the PTL, and set again here when ownership is proven:
 *
 *   exclusive ──fork (PTL, fork's seqcount)──> maybe shared ──wp fault: every reference is one of our entries──> exclusive
 *                                                   └────────wp fault otherwise: copy, the copy is exclusive
 *
 * An exclusive page is reused whatever its reference count: its references may be pins that must stay in step with the
 * mapping (race B08). The count decides only for a page that is not exclusive (B03).
 */
#include "mm/vm_fault.h"

#define WP_BATCH 32u

/* Makes the entry writable. PTL held, page exclusive or shared by intention. */
static void wp_page_reuse(struct vm_fault *f, pte_t *ptep)
{
	pte_t pte = pte_read(ptep);
	u64 bits = _PAGE_ACCESSED | (f->vma->flags & VM_WRITE ? _PAGE_RW | _PAGE_DIRTY : 0);

	/* Permissions only grow: no TLB needs to hear of it; a stale read-only entry costs one spurious fault. */
	while (!pte_cmpxchg(ptep, &pte, pte | bits))
		;
	count_event(f->cpu, FAULT_COW_REUSE, 1);
}

/* Are all mappings of the folio entries of this one table? Counts ours; the PTL keeps them. */
static bool all_mappings_here(struct vm_fault *f, const struct folio *folio, const pte_t *ptep, u32 mapcount)
{
	u64 delta = pte_pfn(f->orig) - folio->pfn; /* the page's place in its folio */
	u32 index = pte_index(f->addr), count = 0;
	u32 first = delta < index ? (u32)(index - delta) : 0;
	u32 last = index + (u32)(folio_nr_pages(folio) - 1 - delta);

	if (mapcount > folio_nr_pages(folio))
		return false;
	for (u32 i = first; i <= last && i < PTRS_PER_TABLE; i++) {
		pte_t pte = pte_read(ptep - index + i);

		if (pte_present(pte) && pte_pfn(pte) - folio->pfn < folio_nr_pages(folio))
			count++;
	}
	return count == mapcount;
}

/*
 * Is this entry's page ours alone? Every reference must be a mapping and every mapping ours; the two counts come from one
 * atomic read, so there is no moment between them. The folio lock keeps those out who move references about without
 * changing the count (swap cache, migration: races S1-R1, S1-R7). Folio lock and PTL held.
 */
static bool wp_can_reuse(struct vm_fault *f, const struct folio *folio, const pte_t *ptep)
{
	u64 refs = __atomic_load_n(&folio->refs, __ATOMIC_ACQUIRE);

	if (REFS_REFCOUNT(refs) != REFS_MAPCOUNT(refs) || folio_test(folio, PG_swapcache))
		return false;
	return REFS_MAPCOUNT(refs) == 1 || all_mappings_here(f, folio, ptep, REFS_MAPCOUNT(refs));
}

/* The fresh copy takes the old page's place; PTL held, the entry still maps @old. */
static void wp_replace(struct vm_fault *f, pte_t *ptep, struct folio *old, struct folio *fresh)
{
	pte_get_and_clear(ptep);
	/* The new page appears only when no CPU can read the old one any more. */
	tlb_flush_range(f->cpu, f->mm, f->addr, f->addr + PAGE_SIZE);
	folio_add_new_anon_rmap(f->cpu, fresh, f->vma, f->addr, 1);
	pte_set(ptep, pte_mk(fresh->pfn, fault_entry_bits(f, f->vma->flags & VM_WRITE)));
	mm_count_mapped(f->cpu, f->mm, old, -1);
	mm_count_mapped(f->cpu, f->mm, fresh, 1);
	folio_remove_rmap_keep_refs(f->cpu, old, f->orig, 1);
}

/* Copies the page into a fresh folio and puts that in its place. We hold a reference on @old, and no lock. */
static int wp_page_copy(struct vm_fault *f, struct folio *old)
{
	struct folio *fresh = folio_alloc(f->cpu, 0, 0, true);
	struct quire *q = f->cpu->q;
	pte_t *ptep;

	if (!fresh)
		return -ENOMEM;
	/* Another thread's write protection may not have reached every TLB yet: a store through one, after our copy,
	 * would be lost (race B14). */
	if (tlb_is_pending(&f->mm->tlb))
		tlb_flush_range(f->cpu, f->mm, f->addr, f->addr + PAGE_SIZE);
	copy_pages(folio_address(q, fresh), pfn_to_virt(q, pte_pfn(f->orig)), PAGE_SIZE);
	WRITE_ONCE(fresh->flags, 1ull << PG_swapbacked | 1ull << PG_uptodate);
	ptep = fault_lock_same(f); /* S2-R1: whatever changed the entry, start again */
	if (!ptep) {
		folio_put(f->cpu, fresh);
		return FAULT_RETRY;
	}
	wp_replace(f, ptep, old, fresh);
	pte_unmap_unlock(f->pt);
	count_event(f->cpu, folio_anon(old) ? FAULT_COW_COPY : FAULT_COW_FILE, 1);
	folio_put(f->cpu, old); /* the mapping's reference; our own is the caller's to put */
	return 0;
}

/* A write to the zero page of an anonymous VMA: a fresh folio of zeroes takes its place. PTL not held. */
static int wp_zero_page(struct vm_fault *f)
{
	struct folio *fresh = folio_alloc(f->cpu, 0, GFP_ZERO, true);
	int ret;

	if (!fresh)
		return -ENOMEM;
	ret = install_anon_folio(f, fresh);
	if (!ret)
		count_event(f->cpu, FAULT_ANON, 1);
	return ret;
}

/* A shared mapping of a file: the entry may become writable once the file knows that the page will be dirty. */
static int wp_page_shared(struct vm_fault *f, struct folio *folio)
{
	int ret = FAULT_RETRY;
	pte_t *ptep;

	folio_lock(f->cpu, folio);
	if (folio_file_mapping(folio) == &f->vma->file->mapping) { /* else truncated meanwhile */
		file_page_mkwrite(f->cpu, folio);
		ptep = fault_lock_same(f);
		if (ptep) {
			wp_page_reuse(f, ptep);
			pte_unmap_unlock(f->pt);
			ret = 0;
		}
	}
	folio_unlock(f->cpu, folio);
	return ret;
}

/* Reuses the page if it is, or proves to be, exclusive to this entry. PTL held. */
static bool wp_try_reuse(struct vm_fault *f, struct folio *folio, pte_t *ptep)
{
	u64 pfn = pte_pfn(f->orig);
	bool mine = page_anon_exclusive(f->cpu->q, pfn);

	if (!mine && folio_trylock(folio)) {
		mine = wp_can_reuse(f, folio, ptep);
		if (mine)
			page_set_anon_exclusive(f->cpu->q, pfn);
		folio_unlock(f->cpu, folio);
	}
	if (mine)
		wp_page_reuse(f, ptep);
	return mine;
}

/* ---------------------------------------------------------------------------------------- several at once */

/* Consecutive entries whose pages are copied together. */
struct wp_batch {
	u32 nr;
	pte_t orig[WP_BATCH];
	struct folio *old[WP_BATCH]; /* with a reference of ours each */
	struct folio *fresh[WP_BATCH];
};

/* Should populating for write copy this entry's page? */
static bool wp_wanted(pte_t pte)
{
	return pte_present(pte) && !pte_write(pte) && !pte_special(pte);
}

/*
 * Looks at the entries from f->addr on, at most @max, as long as they are read-only pages. Those that prove to be ours alone
 * become writable; one that does behind one that has to be copied ends the run. Returns how many were done that way before
 * the first of the batch, which is what has to be copied; f->addr is then the batch's. PTL held.
 */
static u32 wp_batch_collect(struct vm_fault *f, pte_t *ptep, u32 max, struct wp_batch *batch)
{
	struct folio *shared = NULL; /* found not to be ours: so are its other pages */
	u64 start = f->addr;
	u32 reused = 0;

	for (u32 i = 0; i < max && wp_wanted(pte_read(ptep + i)); i++) {
		struct folio *folio;

		f->orig = pte_read(ptep + i);
		f->addr = start + ((u64)i << PAGE_SHIFT);
		folio = pfn_folio(f->cpu->q, pte_pfn(f->orig));
		if (folio != shared && folio_anon(folio) && wp_try_reuse(f, folio, ptep + i)) {
			if (batch->nr)
				break;
			reused++;
			continue;
		}
		shared = folio;
		folio_get(folio);
		batch->orig[batch->nr] = f->orig;
		batch->old[batch->nr++] = folio;
	}
	f->addr = start + ((u64)reused << PAGE_SHIFT);
	return reused;
}

static void wp_batch_copy(struct quire *q, const struct wp_batch *batch, u32 nr)
{
	void *from[WP_BATCH], *to[WP_BATCH];

	for (u32 i = 0; i < nr; i++) {
		from[i] = pfn_to_virt(q, pte_pfn(batch->orig[i]));
		to[i] = folio_address(q, batch->fresh[i]);
	}
	copy_pages_scattered(to, from, nr);
}

/* Clears those of @nr entries that are still as they were, and forgets the others: their fresh folios stay behind. PTL held. */
static u32 wp_batch_clear(struct wp_batch *batch, pte_t *ptep, u32 nr)
{
	u32 cleared = 0;

	for (u32 i = 0; i < nr; i++) {
		if ((pte_read(ptep + i) ^ batch->orig[i]) & ~(_PAGE_ACCESSED | _PAGE_DIRTY)) {
			batch->orig[i] = 0;
			continue;
		}
		pte_get_and_clear(ptep + i);
		cleared++;
	}
	return cleared;
}

/* The fresh folios take the old ones' places; PTL held, the entries are clear and flushed. */
static void wp_batch_install(struct vm_fault *f, struct wp_batch *batch, pte_t *ptep, u32 nr)
{
	u64 bits = fault_entry_bits(f, f->vma->flags & VM_WRITE), addr = f->addr;

	for (u32 i = 0; i < nr; i++, addr += PAGE_SIZE) {
		struct folio *old = batch->old[i], *fresh = batch->fresh[i];

		if (!batch->orig[i])
			continue;
		WRITE_ONCE(fresh->flags, 1ull << PG_swapbacked | 1ull << PG_uptodate);
		folio_add_new_anon_rmap(f->cpu, fresh, f->vma, addr, 1);
		pte_set(ptep + i, pte_mk(fresh->pfn, bits));
		mm_count_mapped(f->cpu, f->mm, old, -1);
		mm_count_mapped(f->cpu, f->mm, fresh, 1);
		count_event(f->cpu, folio_anon(old) ? FAULT_COW_COPY : FAULT_COW_FILE, 1);
		folio_remove_rmap_keep_refs(f->cpu, old, batch->orig[i], 1);
	}
}

/* Gives back what the batch still owns: of each old folio our reference, and the mapping's where it was replaced. */
static void wp_batch_put(struct quire_cpu *cpu, struct wp_batch *batch, u32 nr_fresh)
{
	for (u32 i = 0; i < batch->nr; i++) {
		bool replaced = i < nr_fresh && batch->orig[i];

		if (i < nr_fresh && !replaced)
			folio_put(cpu, batch->fresh[i]);
		folio_put_many(cpu, batch->old[i], replaced ? 2 : 1);
	}
}

/* Copies the batch's pages, as wp_page_copy() does one. FAULT_RETRY: the table is gone. */
static int wp_batch_replace(struct vm_fault *f, struct wp_batch *batch, u32 nr)
{
	u64 end = f->addr + ((u64)nr << PAGE_SHIFT);
	pte_t *ptep;

	if (tlb_is_pending(&f->mm->tlb))
		tlb_flush_range(f->cpu, f->mm, f->addr, end); /* B14 */
	wp_batch_copy(f->cpu->q, batch, nr);
	ptep = pte_offset_map_lock(f->mm, f->pmd, f->addr, &f->pt);
	if (!ptep) {
		memset(batch->orig, 0, sizeof(batch->orig));
		return FAULT_RETRY;
	}
	if (wp_batch_clear(batch, ptep, nr)) {
		tlb_flush_range(f->cpu, f->mm, f->addr, end);
		wp_batch_install(f, batch, ptep, nr);
	}
	pte_unmap_unlock(f->pt);
	return 0;
}

int do_wp_pages(struct vm_fault *f, u32 max, u64 *next)
{
	struct wp_batch batch = { .nr = 0 };
	pte_t *ptep = pte_offset_map_lock(f->mm, f->pmd, f->addr, &f->pt);
	u32 nr;
	int ret;

	if (!ptep)
		return FAULT_RETRY;
	nr = wp_batch_collect(f, ptep, max < WP_BATCH ? max : WP_BATCH, &batch);
	pte_unmap_unlock(f->pt);
	*next = f->addr;
	if (!batch.nr)
		return nr ? 0 : FAULT_RETRY; /* none, or the first entry is another by now */
	nr = folio_alloc_bulk(f->cpu, batch.nr, batch.fresh, 0, true);
	ret = nr ? wp_batch_replace(f, &batch, nr) : -ENOMEM;
	wp_batch_put(f->cpu, &batch, nr);
	if (!ret)
		*next = f->addr + ((u64)nr << PAGE_SHIFT);
	return ret;
}

int do_wp_page(struct vm_fault *f)
{
	pte_t *ptep = fault_lock_same(f);
	struct folio *folio;
	int ret;

	if (!ptep)
		return FAULT_RETRY;
	if (pte_special(f->orig)) {
		pte_unmap_unlock(f->pt);
		return wp_zero_page(f);
	}
	folio = pfn_folio(f->cpu->q, pte_pfn(f->orig));
	if (folio_anon(folio) && wp_try_reuse(f, folio, ptep)) {
		pte_unmap_unlock(f->pt);
		return 0;
	}
	/* The PTL pins the entry's reference; from here on we need our own (seed rules 18 and 19). */
	folio_get(folio);
	pte_unmap_unlock(f->pt);
	ret = f->vma->flags & VM_SHARED ? wp_page_shared(f, folio) : wp_page_copy(f, folio);
	folio_put(f->cpu, folio);
	return ret;
}
