/* SPDX-License-Identifier: MIT */
/*
 * Stacks grow down by faults below them (fault.c calls this), as far as RLIMIT_STACK and the guard gap allow. Always
 * with the mmap lock for write: growing changes the bounds of a VMA that is in the tree, and two threads may fault
 * below the same stack at once (races B67, B69).
 */
#include "mm/map.h"

/* Only a mapping that can be accessed must be kept at a distance; a
 * PROT_NONE one is a guard itself, and so is another stack's own gap. */
static bool keeps_gap(const struct quire_mm *mm, const struct vma *stack, u64 addr)
{
	const struct vma *prev = vma_tree_find_below(&mm->tree, stack->start);

	return !prev || (prev->flags & VM_GROWSDOWN) || !(prev->flags & VM_ACCESS_FLAGS) ||
	       addr - prev->end >= STACK_GUARD_GAP;
}

/* Limits. The page offset of an anonymous VMA begins as its
 * address; moved far down, it could not grow below offset 0. */
static bool stack_may_grow(const struct quire_mm *mm, const struct vma *vma, u64 addr)
{
	u64 bytes = vma->start - addr;

	return bytes >> PAGE_SHIFT <= vma->pgoff && may_expand_vm(mm, vma->flags, bytes >> PAGE_SHIFT) &&
	       vma->end - addr <= READ_ONCE(mm->limits.stack) && mlock_future_ok(mm, vma->flags, bytes);
}

/*
 * The anon_vma is made first: its lock is what keeps rmap walks out while start and page offset change together. (Its
 * first page is about to be made anyway.)
 */
static int grow_down(struct quire_cpu *cpu, struct vma *vma, u64 addr)
{
	u64 pages = (vma->start - addr) >> PAGE_SHIFT;
	struct vma_txn txn;

	if (anon_vma_prepare(cpu, vma) || vma_txn_begin(&txn, cpu, &vma->mm->tree, 1))
		return -ENOMEM;
	vma_start_write(cpu, vma);
	vma_rmap_lock(NULL, vma->anon_vma);
	anon_vma_interval_remove(vma);
	vma_tree_resize(&txn, vma, addr, vma->end);
	vma->pgoff -= pages;
	anon_vma_interval_insert(vma);
	vma_rmap_unlock(NULL, vma->anon_vma);
	vma_txn_end(&txn);
	mm_account(vma->mm, vma->flags, (s64)pages);
	return 0;
}

int expand_stack(struct quire_cpu *cpu, struct quire_mm *mm, struct vma *vma, u64 addr)
{
	mmap_assert_write_locked(mm);
	addr &= PAGE_MASK;
	if (!(vma->flags & VM_GROWSDOWN) || addr < lowest_place(mm))
		return -EFAULT;
	if (addr >= vma->start)
		return 0; /* another thread was first */
	if (!keeps_gap(mm, vma, addr) || !stack_may_grow(mm, vma, addr))
		return -ENOMEM;
	return grow_down(cpu, vma, addr);
}
