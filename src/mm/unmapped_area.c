/* SPDX-License-Identifier: MIT */
/*
 * Where a new mapping goes, as Linux on x86-64 places it: at the hint if that is free, else as high as possible below
 * mmap_base, else (a crowded address space) as low as possible above a third of the address space.
 *
 * The same sequence of calls gets the same addresses as on Linux without address randomisation. Everything here only
 * looks; the mmap lock is held from here until the place has been taken.
 */
#include "mm/map.h"

#define MAX_ERRNO 4095
#define UNMAPPED_BASE ((TASK_SIZE / 3 + PAGE_SIZE - 1) & PAGE_MASK) /* where the bottom-up search begins */
#define LOW_2G_START 0x40000000ull				    /* MAP_32BIT: the second GiB, for old 32-bit code */
#define LOW_2G_END 0x80000000ull
#define LOW_4G_END 0x100000000ull /* MAP_ABOVE4G */

/* The lowest place in [low, high), whatever the caller's limit: never below where the kernel places anything. */
static s64 search_bottomup(const struct quire_mm *mm, u64 len, u64 low, u64 high)
{
	u64 addr;

	if (low < lowest_place(mm))
		low = lowest_place(mm);
	return vma_tree_gap_bottomup(&mm->tree, len, low, high, &addr) ? (s64)addr : -ENOMEM;
}

/*
 * A stack above [addr, addr + len) whose guard gap reaches down into it, over other mappings that lie in the gap;
 * NULL: none. (The tree's search keeps clear of the gap of the very next mapping only.) It must have @len free right
 * below it.
 */
static const struct vma *stack_reaching_to(const struct quire_mm *mm, u64 addr, u64 len, u64 high)
{
	const struct vma *vma, *reaching = NULL;
	u64 below = 0;

	vma_tree_for_each_range(vma, &mm->tree, addr, addr + len + STACK_GUARD_GAP) {
		u64 top = min_u64(vma->start, high);

		if ((vma->flags & VM_GROWSDOWN) && below && top > below && top - below >= len &&
		    vma_start_gap(vma) < addr + len)
			reaching = vma;
		below = vma->end;
	}
	return reaching;
}

/*
 * Top down. Linux looks at the highest hole that is large enough; when a stack above it needs the hole for its guard
 * gap, it goes on below that gap, even if other mappings in the gap would protect the stack, and so do we.
 */
static bool search_topdown(const struct quire_mm *mm, u64 len, u64 low, u64 *addr)
{
	u64 high = mm->mmap_base;
	const struct vma *stack;

	while (vma_tree_gap_topdown(&mm->tree, len, low, high, addr)) {
		stack = stack_reaching_to(mm, *addr, len, high);
		if (!stack)
			return true;
		high = vma_start_gap(stack);
	}
	return false;
}

/* Without a hint. MAP_32BIT is for old code that keeps addresses in 31 bits, and searches upwards. */
static s64 search(const struct quire_mm *mm, u64 len, u64 flags)
{
	u64 low = flags & MAP_ABOVE4G ? LOW_4G_END : lowest_place(mm);
	u64 addr;

	if (flags & MAP_32BIT)
		return search_bottomup(mm, len, LOW_2G_START, LOW_2G_END);
	if (search_topdown(mm, len, low, &addr))
		return (s64)addr;
	return search_bottomup(mm, len, UNMAPPED_BASE, TASK_SIZE);
}

/* Is [addr, addr + len) free, the guard gap of a stack above it included? A hint may touch what lies below. */
static bool hint_is_free(const struct quire_mm *mm, u64 addr, u64 len, u64 flags)
{
	u64 top = flags & MAP_32BIT ? LOW_2G_END : TASK_SIZE;
	const struct vma *vma;

	if (!addr || len > top || addr > top - len)
		return false;
	vma = vma_tree_find(&mm->tree, addr);
	return !vma || addr + len <= vma_start_gap(vma);
}

/* The hint @addr (page-aligned, or 0) if it is free, else what the search finds. */
static s64 place(const struct quire_mm *mm, u64 addr, u64 len, u64 flags)
{
	return hint_is_free(mm, addr, len, flags) ? (s64)addr : search(mm, len, flags);
}

/*
 * A place where address and file offset are congruent modulo the size of a leaf PMD, so that large folios can be
 * mapped whole; 0 when the mapping is too small to gain, or no such place is found. The hint counts only if there is
 * room for the padding too, as in Linux.
 */
static u64 place_pmd_aligned(const struct quire_mm *mm, u64 addr, u64 len, u64 offset, u64 flags)
{
	u64 first = (offset + PMD_SIZE - 1) & PMD_MASK; /* the first aligned offset in the mapping */
	s64 found;
	u64 skew;

	if (offset + len < offset || offset + len < first || offset + len - first < PMD_SIZE)
		return 0;
	found = place(mm, addr, len + PMD_SIZE, flags);
	if (found < 0 || (u64)found == addr)
		return found < 0 ? 0 : addr;
	skew = (offset - (u64)found) & (PMD_SIZE - 1);
	/* The place is PMD_SIZE too large. When both its ends fit, the upper one is taken. */
	return (u64)found + (skew ? skew : PMD_SIZE);
}

/* Does Linux look for an aligned place? For anonymous memory without a hint, and for files that have large folios. */
static bool wants_pmd_aligned(const struct quire_file *file, u64 addr, u64 len, u64 flags)
{
	if (file)
		return !file->shmem;
	return !(flags & MAP_SHARED) && !addr && !(len & ~PMD_MASK);
}

/* Aligned where that is wished for and possible, anywhere otherwise. */
static s64 choose_area(const struct quire_mm *mm, const struct quire_file *file, u64 addr, u64 len, u64 pgoff,
		       u64 flags)
{
	u64 aligned = 0;

	if (wants_pmd_aligned(file, addr, len, flags))
		aligned = place_pmd_aligned(mm, addr, len, file ? pgoff << PAGE_SHIFT : 0, flags);
	return aligned ? (s64)aligned : place(mm, addr, len, flags);
}

/* A fixed address is only checked, and last of all for being one
 * that the program may use: EPERM, as for lack of a capability. */
s64 get_unmapped_area(const struct quire_mm *mm, const struct quire_file *file, u64 addr, u64 len, u64 pgoff, u64 flags)
{
	s64 found;

	if (len > TASK_SIZE)
		return -ENOMEM;
	found = flags & MAP_FIXED ? (s64)addr : choose_area(mm, file, addr, len, pgoff, flags);
	if (found < 0 && found >= -MAX_ERRNO)
		return found; /* Linux, too, takes a fixed address in the last page for an error */
	addr = (u64)found;
	if (addr > TASK_SIZE - len)
		return -ENOMEM;
	if (!page_aligned(addr))
		return -EINVAL;
	return addr < mm->mmap_min_addr ? -EPERM : (s64)addr;
}
