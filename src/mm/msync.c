/* SPDX-License-Identifier: MIT */
/*
 * msync: writes back what shared file mappings of a range have changed. MS_ASYNC asks for nothing that would not
 * happen anyway, and MS_INVALIDATE for nothing either, for all mappings of a file share its pages; what is left of
 * the latter is that it is refused for locked memory.
 */
#include "mm/map.h"

/* Writes the part [start, end) of a shared file mapping back, without the mmap lock that the caller holds for read. */
static int msync_vma_unlock(struct quire_cpu *cpu, struct quire_mm *mm, const struct vma *vma, u64 start, u64 end)
{
	struct quire_file *file = vma->file;
	u64 first = vma_linear_index(vma, start), last = vma_linear_index(vma, end - 1);
	int error;

	quire_file_get(file); /* the VMA and its reference may go as soon as the lock does (B77) */
	mmap_read_unlock(mm);
	error = file_sync_range(cpu, file, first, last);
	quire_file_put(cpu, file);
	return error;
}

/* Private changes never reach the file. */
static bool wants_sync(const struct vma *vma, int flags)
{
	return (flags & MS_SYNC) && vma->file && (vma->flags & VM_SHARED);
}

/* Holes are an error, told at the end when all that is mapped
 * has been written; MS_ASYNC alone, which does nothing, stops. */
static int msync_range(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, int flags)
{
	int hole = 0, error = 0;

	while (start < end && !error) {
		const struct vma *vma;
		u64 next;

		mmap_read_lock(mm);
		vma = vma_tree_find(&mm->tree, start);
		if (!vma || vma->start >= end || (vma->start > start && flags == MS_ASYNC)) {
			mmap_read_unlock(mm);
			return -ENOMEM;
		}
		if (vma->start > start) {
			start = vma->start;
			hole = -ENOMEM;
		}
		next = min_u64(vma->end, end);
		if ((flags & MS_INVALIDATE) && (vma->flags & VM_LOCKED))
			error = -EBUSY;
		if (!error && wants_sync(vma, flags))
			error = msync_vma_unlock(cpu, mm, vma, start, next);
		else
			mmap_read_unlock(mm);
		start = next;
	}
	return error ? error : hole;
}

/* The lock is not held while a file is written: VMAs are looked up anew, and a mapping made meanwhile is synced too. */
int quire_msync(struct quire_cpu *cpu, uint64_t addr, uint64_t len, int flags)
{
	u64 end = addr + page_align(len);

	if (!cpu->mm || (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) || !page_aligned(addr) ||
	    ((flags & MS_ASYNC) && (flags & MS_SYNC)))
		return -EINVAL;
	if (end < addr)
		return -ENOMEM;
	return msync_range(cpu, cpu->mm, addr, end, flags);
}
