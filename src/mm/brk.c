/* SPDX-License-Identifier: MIT */
/*
 * brk: the end of the heap. The heap is a private anonymous mapping that begins at mm->start_brk; mm->brk is its end
 * in bytes, and the last page is mapped whole. Nothing ties the two together but this file: a program may unmap or
 * protect parts of its heap, or map something in its way, and brk then does what it still can.
 *
 * brk reports no errors: it returns the break that holds now, and a caller compares.
 */
#include "mm/map.h"

/* What data is mapped with; a program that wants to execute it calls mprotect. */
#define HEAP_FLAGS (VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_ACCOUNT)

/* A VMA for new heap that cannot simply be the one before it grown. */
static int heap_new_vma(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, u64 flags)
{
	struct vma *vma = vma_alloc(cpu, mm, start, end, flags);

	if (!vma)
		return -ENOMEM;
	if (vma_insert(cpu, vma)) {
		vma_free(cpu, vma);
		return -ENOMEM;
	}
	return 0;
}

/* Maps [start, end): by growing the VMA that ends there, if it may; never joined with the one after it. */
static int heap_map(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end)
{
	u64 flags = HEAP_FLAGS | mm->def_flags, pages = (end - start) >> PAGE_SHIFT;
	struct vma_merge merge = {
		.mm = mm,
		.prev = vma_tree_find_below(&mm->tree, start),
		.start = start,
		.end = end,
		.pgoff = start >> PAGE_SHIFT,
		.flags = flags,
	};
	struct vma *vma;

	if (!may_expand_vm(mm, flags, pages) || mm->tree.count > DEFAULT_MAX_MAP_COUNT)
		return -ENOMEM;
	/* What ends before the heap begins may be alike, but is the program's own mapping. */
	if (merge.prev && merge.prev->end <= mm->start_brk)
		merge.prev = NULL;
	if (vma_merge_new_range(cpu, &merge, &vma) || (!vma && heap_new_vma(cpu, mm, start, end, flags)))
		return -ENOMEM;
	mm_account(mm, flags, (s64)pages);
	return 0;
}

/* Room for a heap up to @end: no mapping there, and a page and a stack's guard gap to the next. */
static int heap_check_room(const struct quire_mm *mm, u64 start, u64 end)
{
	const struct vma *next = vma_tree_find(&mm->tree, start);
	s64 addr = get_unmapped_area(mm, NULL, start, end - start, 0, MAP_FIXED);

	if (addr < 0)
		return (int)addr;
	if (!mlock_future_ok(mm, mm->def_flags, end - start))
		return -EAGAIN;
	return next && end + PAGE_SIZE > vma_start_gap(next) ? -ENOMEM : 0;
}

/* The heap from the page after its last up to @to. */
static int heap_grow(struct quire_cpu *cpu, struct quire_mm *mm, u64 from, u64 to)
{
	int error = heap_check_room(mm, from, to);

	return error ? error : heap_map(cpu, mm, from, to);
}

/* Not below the start, and no more than RLIMIT_DATA: here in bytes, before anything is rounded to pages. */
static bool brk_allowed(const struct quire_mm *mm, u64 brk)
{
	return mm->start_brk && brk >= mm->start_brk && brk - mm->start_brk <= READ_ONCE(mm->limits.data);
}

/* The heap shrinks to @brk: something of what goes must be mapped still. Unlocks. */
static u64 brk_shrink(struct quire_cpu *cpu, struct quire_mm *mm, u64 brk)
{
	u64 old = mm->brk, from = page_align(brk);
	const struct vma *vma = vma_tree_find(&mm->tree, from);
	struct vma_unmap unmap;

	if (!vma || vma->start >= page_align(old) || unmap_begin(cpu, mm, from, page_align(old), &unmap)) {
		mmap_write_unlock(mm);
		return old;
	}
	mm->brk = brk; /* while the lock is still ours; nothing can fail any more */
	unmap_finish_unlock(cpu, &unmap);
	return brk;
}

/* Unlocks. @brk near the end of all numbers wraps around to an end of 0. */
static u64 brk_grow(struct quire_cpu *cpu, struct quire_mm *mm, u64 brk)
{
	u64 old = mm->brk, start = page_align(old), end = page_align(brk);
	bool populate;

	if (!end || heap_grow(cpu, mm, start, end)) {
		mmap_write_unlock(mm);
		return old;
	}
	mm->brk = brk;
	populate = mm->def_flags & VM_LOCKED;
	mmap_write_unlock(mm);
	if (populate)
		mm_populate(cpu, mm, start, end - start);
	return brk;
}

uint64_t quire_brk(struct quire_cpu *cpu, uint64_t brk)
{
	struct quire_mm *mm = cpu->mm;
	u64 now;

	if (!mm)
		return 0;
	mmap_write_lock(mm);
	now = mm->brk;
	if (brk_allowed(mm, brk)) {
		if (brk < now && page_align(brk) != page_align(now))
			return brk_shrink(cpu, mm, brk);
		if (page_align(brk) != page_align(now))
			return brk_grow(cpu, mm, brk);
		mm->brk = now = brk; /* within the last page */
	}
	mmap_write_unlock(mm);
	return now;
}
