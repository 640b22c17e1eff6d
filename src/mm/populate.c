/* SPDX-License-Identifier: MIT */
/*
 * Filling page tables ahead of use: MAP_POPULATE, MADV_POPULATE_READ and _WRITE, mlock; and get_user_page for copying to
 * and from other address spaces.
 *
 * Anonymous memory is filled in batches: folios allocated at once outside the page-table lock, then as many entries set
 * under it as were still none. Everything else goes through the fault's own code, entry by entry.
 */
#include "mm/huge.h"
#include "mm/vm_fault.h"

#define POPULATE_BATCH 32u

/* How many entries from @ptep on are none, at most @max. */
static u32 none_run(const pte_t *ptep, u32 max)
{
	u32 nr = 0;

	while (nr < max && pte_none(pte_read(ptep + nr)))
		nr++;
	return nr;
}

/* ---------------------------------------------------------------------------------------- batches */

/* The zero page into up to @nr entries from f->addr on. */
static int populate_zero(struct vm_fault *f, u32 nr)
{
	pte_t zero =
		pte_mk(f->cpu->q->zero_pfn, (vma_entry_bits(f->vma) & ~_PAGE_MLOCKED) | _PAGE_SPECIAL | _PAGE_ACCESSED);
	pte_t *ptep = pte_offset_map_lock(f->mm, f->pmd, f->addr, &f->pt);
	u32 done = 0;

	if (!ptep)
		return FAULT_RETRY;
	for (u32 i = 0; i < nr; i++) {
		if (!pte_none(pte_read(ptep + i)))
			continue;
		pte_set(ptep + i, zero);
		done++;
	}
	pte_unmap_unlock(f->pt);
	count_event(f->cpu, FAULT_ANON_ZERO, done);
	return 0;
}

/* Maps as many of @folios as there are entries still none in @nr from f->addr on; returns how many were used. */
static u32 map_batch(struct vm_fault *f, struct folio **folios, u32 nr, pte_t *ptep)
{
	u64 bits = fault_entry_bits(f, f->vma->flags & VM_WRITE);
	u32 used = 0;

	for (u32 i = 0; i < nr; i++) {
		struct folio *folio = folios[used];

		if (!pte_none(pte_read(ptep + i)))
			continue;
		WRITE_ONCE(folio->flags, 1ull << PG_swapbacked | 1ull << PG_uptodate);
		folio_add_new_anon_rmap(f->cpu, folio, f->vma, f->addr + ((u64)i << PAGE_SHIFT), 1);
		pte_set(ptep + i, pte_mk(folio->pfn, bits));
		used++;
	}
	mm_rss_add(f->mm, f->cpu->id, MM_ANONPAGES, used);
	count_event(f->cpu, NR_ANON_MAPPED, used);
	count_event(f->cpu, FAULT_ANON, used);
	return used;
}

/* Fresh order-0 folios into up to @nr (at most POPULATE_BATCH) entries from f->addr on; *next is behind the last. */
static int populate_small(struct vm_fault *f, u32 nr, u64 *next)
{
	struct folio *folios[POPULATE_BATCH];
	u32 got = folio_alloc_bulk(f->cpu, nr, folios, GFP_ZERO, true), used = 0;
	pte_t *ptep;

	if (!got)
		return -ENOMEM;
	ptep = pte_offset_map_lock(f->mm, f->pmd, f->addr, &f->pt);
	if (ptep) {
		used = map_batch(f, folios, got, ptep);
		pte_unmap_unlock(f->pt);
	}
	*next = ptep ? f->addr + ((u64)got << PAGE_SHIFT) : f->addr;
	while (got > used)
		folio_put(f->cpu, folios[--got]);
	return ptep ? 0 : FAULT_RETRY;
}

/* Only order-0 folios may be made here, so that batches do what single faults would. */
static bool only_small_folios(const struct vm_fault *f)
{
	return !(READ_ONCE(f->cpu->q->config.anon_orders) & ((1u << MAX_FOLIO_ORDER) - 2)) ||
	       (f->vma->flags & VM_NOHUGEPAGE);
}

/* ---------------------------------------------------------------------------------------- one table */

/* The page at f->addr as a fault would. */
static int populate_fault(struct vm_fault *f, u64 *next)
{
	*next = f->addr + PAGE_SIZE;
	return fault_locked_vma(f);
}

/*
 * Fills some entries from f->addr on, below @end and in one table; *next becomes where to go on. The VMA is read-locked.
 * FAULT_RETRY: the table changed, or a fault wants to start again.
 */
static int populate_some(struct vm_fault *f, u64 end, u64 *next)
{
	u32 left = (u32)((end - f->addr) >> PAGE_SHIFT), nr;
	pte_t *ptep = pte_offset_lockless(f->mm, f->pmd, f->addr);
	bool write = f->flags & FAULT_WRITE;

	if (!ptep)
		return FAULT_RETRY;
	nr = vma_is_anonymous(f->vma) ? none_run(ptep, left) : 0;
	if (nr && !write) {
		*next = f->addr + ((u64)nr << PAGE_SHIFT);
		return populate_zero(f, nr);
	}
	if (nr && only_small_folios(f)) {
		return populate_small(f, nr < POPULATE_BATCH ? nr : POPULATE_BATCH, next);
	}
	f->orig = pte_read(ptep);
	*next = f->addr + PAGE_SIZE;
	if (pte_present(f->orig) && (!write || pte_write(f->orig)))
		return 0;
	if (pte_present(f->orig) && !pte_special(f->orig) && !(f->vma->flags & VM_SHARED))
		return do_wp_pages(f, left, next);
	return populate_fault(f, next);
}

/* Fills [f->addr, end), which lies below one PMD. */
static int populate_pmd(struct vm_fault *f, u64 end)
{
	int ret = 0;

	f->pmd = pmd_alloc(f->cpu, f->mm, f->addr, &f->pmd_tbl);
	if (!f->pmd)
		return -ENOMEM;
	if (pmd_none(pte_read(f->pmd)) && (f->flags & FAULT_WRITE) && huge_allowed(f->cpu, f->vma, f->addr))
		ret = fault_locked_vma(f); /* a leaf, if memory allows, else a table with one entry */
	else
		ret = pte_alloc(f->cpu, f->mm, f->pmd_tbl, f->pmd);
	while (!ret && f->addr < end) {
		pmd_t pmd = pte_read(f->pmd);
		u64 next = end;

		if (!pmd_leaf(pmd))
			ret = populate_some(f, end, &next);
		else if (!pte_write(pmd) && (f->flags & FAULT_WRITE))
			ret = populate_fault(f, &next); /* reuses or splits the leaf; start again in either case */
		if (!ret)				/* else the same place again */
			f->addr = next;
	}
	return ret;
}

/* ---------------------------------------------------------------------------------------- one VMA after another */

/* Read-locks the VMA at f->addr for populating it. -ENOMEM: a hole, or no memory; -EINVAL: it forbids the access. */
static int populate_lock_vma(struct vm_fault *f)
{
	bool write = f->flags & FAULT_WRITE;
	u64 needed = write ? VM_WRITE : f->flags & FAULT_FORCE ? VM_ACCESS_FLAGS : VM_READ;
	struct vma *vma;
	int ret = 0;

	mmap_read_lock(f->mm);
	vma = vma_tree_find(&f->mm->tree, f->addr);
	if (!vma || vma->start > f->addr)
		ret = -ENOMEM;
	else if (!(vma->flags & needed))
		ret = -EINVAL;
	else if (write && !(vma->flags & VM_SHARED))
		ret = anon_vma_prepare(f->cpu, vma);
	if (!ret) {
		vma_start_read_locked(vma);
		f->vma = vma;
	}
	mmap_read_unlock(f->mm);
	return ret;
}

static int populate_flags(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, unsigned flags)
{
	struct vm_fault f = { .cpu = cpu, .mm = mm, .addr = start, .flags = flags };

	while (f.addr < end) {
		u64 stop = pmd_addr_end(f.addr, end);
		int ret = populate_lock_vma(&f);

		if (ret)
			return ret;
		f.real_addr = f.addr;
		ret = populate_pmd(&f, stop < f.vma->end ? stop : f.vma->end);
		vma_end_read(cpu, f.vma);
		if (ret && ret != FAULT_RETRY)
			return ret;
	}
	return 0;
}

int populate_range(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, bool write)
{
	return populate_flags(cpu, mm, start, end, write ? FAULT_WRITE : 0);
}

/* What mlock and MAP_POPULATE do to one VMA: break copy-on-write where it can be written, read elsewhere, even where only
 * execution is allowed. Where nothing is allowed it fails, which mlock tells and the others ignore. */
static int mm_populate_vma(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, u64 flags)
{
	if (flags & VM_LOCKONFAULT)
		return 0;
	if (!(flags & VM_ACCESS_FLAGS))
		return -EFAULT;
	return populate_flags(cpu, mm, start, end,
			      (flags & (VM_WRITE | VM_SHARED)) == VM_WRITE ? FAULT_WRITE : FAULT_FORCE);
}

int mm_populate(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 len)
{
	u64 end = start + len;

	while (start < end) {
		struct vma *vma;
		u64 from, to, flags;
		int ret;

		mmap_read_lock(mm);
		vma = vma_tree_find(&mm->tree, start);
		if (!vma || vma->start >= end) {
			mmap_read_unlock(mm);
			return 0;
		}
		from = vma->start > start ? vma->start : start;
		to = vma->end < end ? vma->end : end;
		flags = vma->flags;
		mmap_read_unlock(mm);
		ret = mm_populate_vma(cpu, mm, from, to, flags);
		if (ret)
			return ret;
		start = to;
	}
	return 0;
}

/* ---------------------------------------------------------------------------------------- one page for a foreigner */

/* The folio behind @addr if the entries there allow the access now, referenced; *pfn 0: they do not. The zero page has no
 * folio: NULL with its *pfn. The mmap lock is held for read. */
static struct folio *lookup_user_page(struct quire_mm *mm, u64 addr, bool write, u64 *pfn)
{
	struct ptdesc *tbl, *pt = NULL;
	pmd_t *pmdp = pmd_offset(mm, addr, &tbl);
	struct folio *folio = NULL;
	pte_t pte = 0, *ptep;

	*pfn = 0;
	if (!pmdp)
		return NULL;
	spin_lock(&tbl->ptl);
	if (pmd_leaf(pte_read(pmdp)))
		pte = (pte_read(pmdp) & ~_PAGE_PSE) + ((u64)pte_index(addr) << PAGE_SHIFT);
	else if ((ptep = pte_offset_map_lock(mm, pmdp, addr, &pt)) != NULL)
		pte = pte_read(ptep);
	if (pte_present(pte) && (!write || pte_write(pte))) {
		*pfn = pte_pfn(pte);
		if (!pte_special(pte)) {
			folio = pfn_folio(mm->q, *pfn);
			folio_get(folio);
		}
	}
	if (pt)
		pte_unmap_unlock(pt);
	spin_unlock(&tbl->ptl);
	return folio;
}

struct folio *get_user_page(struct quire_cpu *cpu, struct quire_mm *mm, u64 addr, bool write, u64 *pfn, int *error)
{
	for (;;) {
		struct folio *folio = NULL;
		struct vma *vma;

		*pfn = 0;
		mmap_read_lock(mm);
		vma = vma_tree_find(&mm->tree, addr);
		if (vma && vma->start <= addr && (vma->flags & (write ? VM_WRITE : VM_READ)))
			folio = lookup_user_page(mm, addr, write, pfn);
		*error = 0;
		if (*pfn)
			return folio;
		mmap_read_unlock(mm);
		*error = handle_mm_fault(cpu, mm, addr, FAULT_FOREIGN | (write ? FAULT_WRITE : 0));
		if (*error)
			return NULL;
	}
}
