/* SPDX-License-Identifier: MIT */
/* mseal: from now on these mappings stay as they are. munmap, mremap, mprotect, MAP_FIXED and the madvise that discards
 * contents check VM_SEALED themselves; nothing clears it but exec and exit. */
#include "mm/map.h"

/* Looked for before anything is sealed: unlike the other calls,
 * this one does all of a range or nothing, memory permitting. */
static bool contains_hole(const struct quire_mm *mm, u64 start, u64 end)
{
	while (start < end) {
		const struct vma *vma = vma_tree_find(&mm->tree, start);

		if (!vma || vma->start > start)
			return true;
		start = vma->end;
	}
	return false;
}

/* No hole in the range. -ENOMEM leaves the VMAs before sealed. */
static int seal_range(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end)
{
	while (start < end) {
		struct vma *vma = vma_tree_find(&mm->tree, start);
		u64 next = min_u64(vma->end, end);

		if (!(vma->flags & VM_SEALED) && vma_modify_flags(cpu, &vma, start, next, vma->flags | VM_SEALED))
			return -ENOMEM;
		start = next;
	}
	return 0;
}

int quire_mseal(struct quire_cpu *cpu, uint64_t addr, uint64_t len, uint64_t flags)
{
	u64 bytes = page_align(len), end = addr + bytes;
	struct quire_mm *mm = cpu->mm;
	int error;

	if (!mm || flags || !page_aligned(addr) || (len && !bytes) || end < addr)
		return -EINVAL;
	if (end == addr)
		return 0;
	mmap_write_lock(mm);
	error = contains_hole(mm, addr, end) ? -ENOMEM : seal_range(cpu, mm, addr, end);
	mmap_write_unlock(mm);
	return error;
}
