/* SPDX-License-Identifier: MIT */
/*
 * Faults in file mappings where nothing is mapped yet. The folio comes locked from the file (file_fault_folio): the lock,
 * and the check of mapping and size under it, hold off truncation until the entry is there (races B99, S5-R7).
 */
#include "mm/vm_fault.h"

#define FAULT_AROUND_PAGES 16u /* 64 KiB, as Linux's fault_around_bytes */

/* Gets the locked folio of the faulting page; the fault's outcome when there is none. */
static int fault_get_folio(struct vm_fault *f, struct folio **folio)
{
	int ret = file_fault_folio(f->cpu, f->vma->file, vma_linear_index(f->vma, f->addr), folio);

	if (!ret || ret == -ENOMEM)
		return ret;
	return fault_signal(f, SIGBUS, BUS_ADRERR);
}

/* May an entry of this mapping be writable without the file hearing of the write? Shmem pages are dirty anyway. */
static bool may_map_writable(const struct vma *vma)
{
	return (vma->flags & (VM_SHARED | VM_WRITE)) == (VM_SHARED | VM_WRITE) && vma->file->shmem;
}

/* Bits of an entry that maps a page of the cache for reading. */
static u64 file_entry_bits(const struct vma *vma)
{
	return vma_entry_bits(vma) | (may_map_writable(vma) ? _PAGE_RW : 0);
}

/*
 * Maps those pages of a locked folio that lie in [first, last] (page offsets in the file) and are not mapped yet. PTL held;
 * @ptep is the entry of page @base. Returns how many. Not beyond the end of the file: a folio that truncate could not
 * split reaches further than that.
 */
static u32 map_folio_pages(struct vm_fault *f, struct folio *folio, u64 first, u64 last, pte_t *ptep, u64 base)
{
	u64 from = folio->index > first ? folio->index : first, end = folio->index + folio_nr_pages(folio);
	u64 file_end = file_nr_pages(f->vma->file), bits = file_entry_bits(f->vma) | _PAGE_ACCESSED; /* all, as Linux */
	u32 nr = 0;

	end = end < file_end ? end : file_end;
	end = end <= last ? end : last + 1;
	for (u64 index = from; index < end; index++) {
		pte_t *at = ptep + (s64)(index - base);

		if (!pte_none(pte_read(at)))
			continue;
		/* The reference must be there before the entry is (invariant 13). */
		folio_add_file_rmap(f->cpu, folio, f->vma, 1);
		pte_set(at, pte_mk(folio->pfn + (index - folio->index), bits));
		nr++;
	}
	if (nr)
		mm_count_mapped(f->cpu, f->mm, folio, nr);
	return nr;
}

/*
 * The pages around the fault that may be mapped along with it: inside the VMA and the table, from the address aligned down
 * or the VMA's start on. As on Linux a window that begins late also ends late.
 */
static void around_window(const struct vm_fault *f, u64 *first, u64 *last)
{
	u64 low = f->addr & ~(FAULT_AROUND_PAGES * PAGE_SIZE - 1), high, table_end = (f->addr & PMD_MASK) + PMD_SIZE;

	low = low > f->vma->start ? low : f->vma->start;
	high = low + FAULT_AROUND_PAGES * PAGE_SIZE;
	high = high < f->vma->end ? high : f->vma->end;
	high = high < table_end ? high : table_end;
	*first = vma_linear_index(f->vma, low);
	*last = vma_linear_index(f->vma, high) - 1;
}

/* Maps what else is cached in the window. PTL held; folio locks are tried only, so the order does not matter. */
static void map_around(struct vm_fault *f, pte_t *ptep, u64 index)
{
	struct folio *folio;
	u64 first, last, at;
	u32 nr = 0;

	around_window(f, &first, &last);
	for (at = first; at <= last && (folio = file_next_around(f->cpu, f->vma->file, &at, last)) != NULL;) {
		nr += map_folio_pages(f, folio, first, last, ptep, index);
		folio_unlock(f->cpu, folio);
		folio_put(f->cpu, folio);
	}
	count_event(f->cpu, FAULT_FILE_AROUND, nr);
}

/* The page itself cannot be had; what is around it is mapped all the same, as on Linux. */
static void fault_around_only(struct vm_fault *f)
{
	pte_t *ptep = fault_lock_same(f);

	if (!ptep)
		return;
	map_around(f, ptep, vma_linear_index(f->vma, f->addr));
	pte_unmap_unlock(f->pt);
}

int do_file_read_fault(struct vm_fault *f)
{
	u64 index = vma_linear_index(f->vma, f->addr);
	struct folio *folio;
	pte_t *ptep;
	int ret = fault_get_folio(f, &folio);

	if (ret == -EFAULT)
		fault_around_only(f);
	if (ret)
		return ret;
	ptep = fault_lock_same(f);
	if (ptep) {
		u64 first, last;

		around_window(f, &first, &last);
		map_folio_pages(f, folio, first, last, ptep, index);
		count_event(f->cpu, FAULT_FILE, 1);
		map_around(f, ptep, index);
		pte_unmap_unlock(f->pt);
	}
	folio_unlock(f->cpu, folio);
	folio_put(f->cpu, folio);
	return ptep ? 0 : FAULT_RETRY;
}

int do_file_shared_fault(struct vm_fault *f)
{
	u64 index = vma_linear_index(f->vma, f->addr);
	struct folio *folio;
	pte_t *ptep;
	int ret = fault_get_folio(f, &folio);

	if (ret)
		return ret;
	file_page_mkwrite(f->cpu, folio);
	ptep = fault_lock_same(f);
	if (ptep) {
		folio_add_file_rmap(f->cpu, folio, f->vma, 1);
		pte_set(ptep, pte_mk(folio->pfn + (index - folio->index), fault_entry_bits(f, true)));
		mm_count_mapped(f->cpu, f->mm, folio, 1);
		pte_unmap_unlock(f->pt);
		count_event(f->cpu, FAULT_FILE, 1);
	}
	folio_unlock(f->cpu, folio);
	folio_put(f->cpu, folio);
	return ptep ? 0 : FAULT_RETRY;
}

int do_file_cow_fault(struct vm_fault *f)
{
	struct folio *fresh = folio_alloc(f->cpu, 0, 0, true), *folio;
	u64 index = vma_linear_index(f->vma, f->addr);
	int ret;

	if (!fresh)
		return -ENOMEM;
	ret = fault_get_folio(f, &folio);
	if (ret) {
		folio_put(f->cpu, fresh);
		return ret;
	}
	copy_pages(folio_address(f->cpu->q, fresh), pfn_to_virt(f->cpu->q, folio->pfn + (index - folio->index)),
		   PAGE_SIZE);
	ret = install_anon_folio(f, fresh);
	folio_unlock(f->cpu, folio);
	folio_put(f->cpu, folio);
	if (!ret)
		count_event(f->cpu, FAULT_COW_FILE, 1);
	return ret;
}
