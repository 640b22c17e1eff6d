/* SPDX-License-Identifier: MIT */
/*
 * mincore: which pages are resident. Linux tells the truth about a file only to who owns it or may write to it, lest
 * one learns what others read; everybody owns the files of a quire, so the truth is told always.
 */
#include "mm/map.h"

#define MINCORE_BATCH 4096u /* pages looked at under one hold of the lock */

/* The pages from @start that lie in one VMA, at most @max. Their number, or -ENOMEM for a hole. */
static s64 mincore_some(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 max, unsigned char *vec)
{
	struct vma *vma;
	s64 pages = -ENOMEM;

	mmap_read_lock(mm);
	vma = vma_tree_find(&mm->tree, start);
	if (vma && vma->start <= start) {
		u64 end = min_u64(vma->end, start + (max << PAGE_SHIFT));

		mincore_range(cpu, vma, start, end, vec);
		pages = (s64)((end - start) >> PAGE_SHIFT);
	}
	mmap_read_unlock(mm);
	return pages;
}

/*
 * The answer is a snapshot: pages may come and go as soon as the lock is dropped. On a hole the part of @vec before
 * it has been filled in. The checks: alignment, then the range of addresses (ENOMEM, not EINVAL), then the vector.
 */
int quire_mincore(struct quire_cpu *cpu, uint64_t addr, uint64_t len, unsigned char *vec)
{
	u64 pages = page_align(len) >> PAGE_SHIFT;

	if (!cpu->mm || !page_aligned(addr))
		return -EINVAL;
	if (addr > TASK_SIZE || len > TASK_SIZE - addr)
		return -ENOMEM;
	if (!vec && pages)
		return -EFAULT;
	while (pages) {
		s64 done = mincore_some(cpu, cpu->mm, addr, min_u64(pages, MINCORE_BATCH), vec);

		if (done < 0)
			return (int)done;
		vec += done;
		addr += (u64)done << PAGE_SHIFT;
		pages -= (u64)done;
	}
	return 0;
}
