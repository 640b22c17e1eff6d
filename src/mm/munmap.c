/* SPDX-License-Identifier: MIT */
/*
 * Unmapping, in the order that keeps every other walker safe:
 *
 *   1 split at both ends; refuse sealed mappings     nothing is changed yet but boundaries
 *   2 write-lock the VMAs, take them out of the tree  no fault gets in, none is inside
 *     -- the mmap lock may be held for read only from here, or not at all if the range is noted in mm->unmaps --
 *   3 clear the entries into a gather                 rmap walks still find the VMA: truncation must not miss a page
 *   4 unlink from anon_vmas and files                 rmap walks cannot reach the tables any more
 *   5 unlink the page tables, up to the neighbours'   the lock or the note keeps new neighbours from appearing
 *   6 flush, then free folios and tables              (tlb_finish_mmu)
 *   7 free the VMAs
 *
 * Without the mmap lock threads unmap mappings of their own side by side. A note covers whole PTE tables, and two
 * notes never overlap, so such a range can be emptied, and PTE tables freed, as if there were no others. Tables of
 * higher levels are shared with ranges further away: where the hole is so large that some of those go too, the lock
 * is kept.
 */
#include "mm/map.h"

/* ---------------------------------------------------------------------------------------- gathering */

/* Cuts the first VMA at the start of the range. The limit on mappings counts only when its rest stays on both sides. */
static int split_start(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end)
{
	struct vma *vma = vma_tree_find(&mm->tree, start);

	if (!vma || vma->start >= start)
		return 0;
	if (vma->end > end && map_count_full(mm))
		return -ENOMEM;
	return vma->flags & VM_SEALED ? -EPERM : vma_split(cpu, vma, start);
}

/* Lists the VMAs of the range, and cuts the last one. */
static int list_vmas(struct quire_cpu *cpu, struct vma_unmap *unmap)
{
	struct vma *vma;

	vma_tree_for_each_range(vma, &unmap->mm->tree, unmap->start, unmap->end) {
		if (vma->flags & VM_SEALED)
			return -EPERM;
		if (vma->end > unmap->end && vma_split(cpu, vma, unmap->end))
			return -ENOMEM;
		list_add_tail(&vma->unmap_list, &unmap->vmas);
		unmap->pages += vma_pages(vma);
	}
	return 0;
}

int unmap_cancel(struct vma_unmap *unmap, int error)
{
	struct vma *vma, *next;

	list_for_each_entry_safe(vma, next, &unmap->vmas, unmap_list)
		list_del_init(&vma->unmap_list);
	unmap->pages = 0;
	return error;
}

int unmap_gather(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, struct vma_unmap *unmap)
{
	const struct vma *prev, *next;
	int error;

	*unmap = (struct vma_unmap){ .mm = mm, .start = start, .end = end };
	INIT_LIST_HEAD(&unmap->vmas);
	error = split_start(cpu, mm, start, end);
	if (!error)
		error = list_vmas(cpu, unmap);
	if (error)
		return unmap_cancel(unmap, error);
	prev = vma_tree_find_below(&mm->tree, start);
	next = vma_tree_find(&mm->tree, end);
	unmap->floor = prev ? prev->end : 0;
	unmap->ceiling = next ? next->start : 0;
	return 0;
}

/* ---------------------------------------------------------------------------------------- taking out */

/* Write-locked one by one: each waits for its own readers only.
 * Published as one change, so that readers see all or none gone. */
void unmap_detach(struct quire_cpu *cpu, struct vma_unmap *unmap, struct vma_txn *txn)
{
	struct vma *vma;

	if (list_empty(&unmap->vmas))
		return;
	list_for_each_entry(vma, &unmap->vmas, unmap_list) {
		vma_start_write(cpu, vma);
		mm_account(unmap->mm, vma->flags, -(s64)vma_pages(vma));
	}
	vma_tree_erase_range(txn, unmap->start, unmap->end);
	list_for_each_entry(vma, &unmap->vmas, unmap_list)
		vma_mark_detached(cpu, vma);
}

/* Everything goes: pages, zero pages, guard markers. Another CPU
 * may still have it in its TLB until the gather is finished. */
static void unmap_entries(struct mmu_gather *tlb, struct vma_unmap *unmap)
{
	struct vma *vma;

	list_for_each_entry(vma, &unmap->vmas, unmap_list)
		unmap_page_range(tlb, vma, vma->start, vma->end, NULL);
}

/* After the entries and before the tables: see above. May sleep for the locks, which the gather allows. */
static void unmap_unlink(struct quire_cpu *cpu, struct vma_unmap *unmap)
{
	struct vma *vma;

	list_for_each_entry(vma, &unmap->vmas, unmap_list) {
		unlink_anon_vmas(cpu, vma);
		if (vma->file)
			vma_unlink_file(vma);
	}
}

void unmap_pages(struct quire_cpu *cpu, struct vma_unmap *unmap)
{
	struct mmu_gather *tlb;

	if (list_empty(&unmap->vmas))
		return;
	tlb = tlb_gather_mmu(cpu, unmap->mm);
	unmap_entries(tlb, unmap);
	unmap_unlink(cpu, unmap);
	free_pgtables(tlb, unmap->mm, unmap->start, unmap->end, unmap->floor, unmap->ceiling);
	tlb_finish_mmu(tlb);
}

/* Without the mmap lock, for the last reference on a file may go here, and its dirty pages are written then. */
void vmas_free(struct quire_cpu *cpu, struct list_head *gone)
{
	struct vma *vma, *next;

	list_for_each_entry_safe(vma, next, gone, unmap_list) {
		list_del_init(&vma->unmap_list);
		vma_free(cpu, vma);
	}
}

/* ---------------------------------------------------------------------------------------- the calls */

#define PMD_TABLE_SIZE (1ull << PUD_SHIFT) /* what one PMD table covers */

static u64 pmd_down(u64 addr)
{
	return addr & PMD_MASK;
}

static u64 pmd_up(u64 addr)
{
	return (addr + PMD_SIZE - 1) & PMD_MASK;
}

/* Is the hole so large that a PMD table of the range, and perhaps tables above it, will not be used any more? */
static bool frees_upper_tables(const struct vma_unmap *unmap)
{
	u64 first = unmap->start & ~(PMD_TABLE_SIZE - 1);
	u64 above_floor = (unmap->floor + PMD_TABLE_SIZE - 1) & ~(PMD_TABLE_SIZE - 1);

	if (first < above_floor)
		first = above_floor;
	return first < unmap->end && (!unmap->ceiling || first + PMD_TABLE_SIZE <= unmap->ceiling);
}

int unmap_begin(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, struct vma_unmap *unmap)
{
	struct vma_txn txn;
	int error = unmap_gather(cpu, mm, start, end, unmap);

	if (error)
		return error;
	/* Others may be emptying ranges of theirs, but not where we free tables; nor what we say is unmapped. */
	if (mmap_unmapping(mm, pmd_down(start), pmd_up(end)) ||
	    (!list_empty(&unmap->vmas) && frees_upper_tables(unmap)))
		mmap_wait_unmapped(mm);
	if (list_empty(&unmap->vmas))
		return 0;
	if (vma_txn_begin(&txn, cpu, &mm->tree, 1))
		return unmap_cancel(unmap, -ENOMEM);
	unmap_detach(cpu, unmap, &txn);
	vma_txn_end(&txn);
	return 0;
}

/* Empties the range without the mmap lock, which it ends. False: it must be kept, and still is. */
static bool unmap_unlocked(struct quire_cpu *cpu, struct vma_unmap *unmap)
{
	u64 start = pmd_down(unmap->start), end = pmd_up(unmap->end);
	struct mm_unmap *note = frees_upper_tables(unmap) ? NULL : mmap_unmap_begin(unmap->mm, start, end);

	if (!note)
		return false;
	mmap_write_unlock(unmap->mm);
	unmap->floor = unmap->floor > start ? unmap->floor : start;
	unmap->ceiling = unmap->ceiling && unmap->ceiling < end ? unmap->ceiling : end;
	unmap_pages(cpu, unmap);
	mmap_unmap_end(unmap->mm, note);
	return true;
}

void unmap_finish_unlock(struct quire_cpu *cpu, struct vma_unmap *unmap)
{
	struct quire_mm *mm = unmap->mm;

	if (list_empty(&unmap->vmas)) {
		mmap_write_unlock(mm);
		return;
	}
	if (!unmap_unlocked(cpu, unmap)) {
		mmap_write_downgrade(mm);
		unmap_pages(cpu, unmap);
		mmap_read_unlock(mm);
	}
	vmas_free(cpu, &unmap->vmas);
}

/* For callers that go on under the same lock: a move, a replacement. */
int do_munmap(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, struct list_head *gone)
{
	struct vma_unmap unmap;
	int error = unmap_begin(cpu, mm, start, end, &unmap);
	struct vma *vma, *next;

	if (error)
		return error;
	unmap_pages(cpu, &unmap);
	list_for_each_entry_safe(vma, next, &unmap.vmas, unmap_list) {
		list_del_init(&vma->unmap_list);
		list_add_tail(&vma->unmap_list, gone);
	}
	return 0;
}

int do_munmap_unlock(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end)
{
	struct vma_unmap unmap;
	int error = unmap_begin(cpu, mm, start, end, &unmap);

	if (error)
		mmap_write_unlock(mm);
	else
		unmap_finish_unlock(cpu, &unmap);
	return error;
}

/* Nothing mapped in the range is no error, but an empty or misplaced range is. */
int quire_munmap(struct quire_cpu *cpu, uint64_t addr, uint64_t len)
{
	struct quire_mm *mm = cpu->mm;

	if (!mm || !page_aligned(addr) || addr > TASK_SIZE || len > TASK_SIZE - addr || !len)
		return -EINVAL;
	mmap_write_lock_unmapping(mm);
	return do_munmap_unlock(cpu, mm, addr, addr + page_align(len));
}
