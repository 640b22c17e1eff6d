/* SPDX-License-Identifier: MIT */
/*
 * mlock and its relatives: keeping pages resident. First the flag of the VMA changes, then the pages that are mapped
 * are marked or unmarked, table by table under its lock (seed rule 86): whoever looks at a page in between under that
 * lock either acts on the new flag, or is put right by the walk that is still to come. Pages that are missing are
 * faulted in last, without the mmap lock.
 */
#include "mm/map.h"

/* Linux does not lock droppable memory: the flag is left out silently. */
static bool supports_mlock(const struct vma *vma)
{
	return !(vma->flags & (VM_SPECIAL | VM_DROPPABLE));
}

/* locked_vm follows VM_LOCKED alone; VM_LOCKONFAULT says only how pages come in. */
static void account_locked(struct quire_mm *mm, u64 old, u64 flags, u64 pages)
{
	if ((flags & VM_LOCKED) && !(old & VM_LOCKED))
		mm->locked_vm += pages;
	else if (!(flags & VM_LOCKED) && (old & VM_LOCKED))
		mm->locked_vm -= pages;
}

/* [start, end) is in @vma and gets the lock flags @lock. 0 or -ENOMEM. */
static int mlock_fixup(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end, u64 lock)
{
	u64 old = vma->flags, flags = (old & ~VM_LOCKED_MASK) | lock;

	if (flags == old || !supports_mlock(vma))
		return 0;
	if (vma_modify_flags(cpu, &vma, start, end, flags))
		return -ENOMEM;
	account_locked(vma->mm, old, flags, (end - start) >> PAGE_SHIFT);
	if ((old ^ flags) & VM_LOCKED)
		mlock_range(cpu, vma, start, end, flags & VM_LOCKED);
	return 0;
}

/* Every VMA of the range, which must have no hole. What was done before a hole or an error stays, as in Linux. */
static int mlock_fixup_range(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, u64 lock)
{
	if (end < start)
		return -EINVAL;
	while (start < end) {
		struct vma *vma = vma_tree_find(&mm->tree, start);
		u64 next;

		if (!vma || vma->start > start)
			return -ENOMEM;
		next = min_u64(vma->end, end);
		if (mlock_fixup(cpu, vma, start, next, lock))
			return -ENOMEM;
		start = next;
	}
	return 0;
}

/* Pages of the range that are locked already, and so are counted
 * already. Looked for only when the limit is in question. */
static u64 count_locked(const struct quire_mm *mm, u64 start, u64 end)
{
	const struct vma *vma;
	u64 pages = 0;

	vma_tree_for_each_range(vma, &mm->tree, start, end) {
		u64 from = vma->start > start ? vma->start : start;

		if (vma->flags & VM_LOCKED)
			pages += (min_u64(vma->end, end) - from) >> PAGE_SHIFT;
	}
	return pages;
}

/* RLIMIT_MEMLOCK, for a range that may be partly locked. Without a limit absurd lengths pass, as for root. */
static bool mlock_allowed(const struct quire_mm *mm, u64 start, u64 len)
{
	u64 locked = mm->locked_vm + (len >> PAGE_SHIFT), limit = memlock_limit(mm);

	return READ_ONCE(mm->limits.memlock) == ~0ull || locked <= limit ||
	       locked - count_locked(mm, start, start + len) <= limit;
}

/* How the failure to fault in a locked page is told to callers of mlock: as POSIX wants it. */
static int mlock_populate_error(int error)
{
	switch (error) {
	case -EFAULT:
		return -ENOMEM;
	case -ENOMEM:
		return -EAGAIN;
	default:
		return error;
	}
}

/* What could not be faulted in stays locked: an error then tells only that not all of the range is resident. */
static int do_mlock(struct quire_cpu *cpu, u64 addr, u64 len, u64 lock)
{
	struct quire_mm *mm = cpu->mm;
	int error = -ENOMEM;

	if (!mm)
		return -EINVAL;
	if (!can_do_mlock(mm))
		return -EPERM;
	len = page_align(len + (addr & ~PAGE_MASK));
	addr &= PAGE_MASK;
	mmap_write_lock(mm);
	if (mlock_allowed(mm, addr, len))
		error = mlock_fixup_range(cpu, mm, addr, addr + len, lock);
	mmap_write_unlock(mm);
	return error ? error : mlock_populate_error(mm_populate(cpu, mm, addr, len));
}

int quire_mlock(struct quire_cpu *cpu, uint64_t addr, uint64_t len)
{
	return do_mlock(cpu, addr, len, VM_LOCKED);
}

int quire_mlock2(struct quire_cpu *cpu, uint64_t addr, uint64_t len, int flags)
{
	if (flags & ~MLOCK_ONFAULT)
		return -EINVAL;
	return do_mlock(cpu, addr, len, flags & MLOCK_ONFAULT ? VM_LOCKED_MASK : VM_LOCKED);
}

/* Unlocking needs no permission, and nothing is unmapped by it. */
int quire_munlock(struct quire_cpu *cpu, uint64_t addr, uint64_t len)
{
	struct quire_mm *mm = cpu->mm;
	int error;

	if (!mm)
		return -EINVAL;
	len = page_align(len + (addr & ~PAGE_MASK));
	addr &= PAGE_MASK;
	mmap_write_lock(mm);
	error = mlock_fixup_range(cpu, mm, addr, addr + len, 0);
	mmap_write_unlock(mm);
	return error;
}

/* ---------------------------------------------------------------------------------------- the whole address space */

/* The first VMA in [*start, end) of which mm_populate_each
 * wants pages; *start and *stop become its part of the range. */
static bool next_to_populate(struct quire_mm *mm, u64 *start, u64 end, u64 *stop, u64 mask, u64 wanted)
{
	const struct vma *vma;
	bool found;

	mmap_read_lock(mm);
	vma_tree_for_each_range(vma, &mm->tree, *start, end) {
		*start = vma->start > *start ? vma->start : *start;
		*stop = min_u64(vma->end, end);
		if ((vma->flags & mask) == wanted)
			break;
	}
	found = vma && vma->start < end;
	mmap_read_unlock(mm);
	return found;
}

void mm_populate_each(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, u64 mask, u64 wanted)
{
	u64 stop = 0;

	/* At the end of the range its last VMA may still be found. */
	for (; start < end && next_to_populate(mm, &start, end, &stop, mask, wanted); start = stop)
		mm_populate(cpu, mm, start, stop - start);
}

/* With MCL_ONFAULT pages are locked as they come, and none are brought in. */
static u64 mcl_lock_flags(int flags)
{
	return flags & MCL_ONFAULT ? VM_LOCKED_MASK : VM_LOCKED;
}

/* A VMA that cannot be changed is skipped. */
static void mlock_all_vmas(struct quire_cpu *cpu, struct quire_mm *mm, u64 lock)
{
	struct vma *vma = vma_tree_find(&mm->tree, 0);

	while (vma) {
		u64 end = vma->end;

		mlock_fixup(cpu, vma, vma->start, end, lock);
		vma = vma_tree_find(&mm->tree, end);
	}
}

/*
 * Each call says anew what holds for mappings to come; those that are there change only with MCL_CURRENT, or when
 * neither is asked for (munlockall).
 */
static void mlockall_apply(struct quire_cpu *cpu, struct quire_mm *mm, int flags)
{
	mm->def_flags &= ~VM_LOCKED_MASK;
	if (flags & MCL_FUTURE)
		mm->def_flags |= mcl_lock_flags(flags);
	if (flags & MCL_CURRENT)
		mlock_all_vmas(cpu, mm, mcl_lock_flags(flags));
	else if (!(flags & MCL_FUTURE))
		mlock_all_vmas(cpu, mm, 0);
}

int quire_mlockall(struct quire_cpu *cpu, int flags)
{
	struct quire_mm *mm = cpu->mm;
	int error = -ENOMEM;

	if (!mm || !flags || (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) || flags == MCL_ONFAULT)
		return -EINVAL;
	if (!can_do_mlock(mm))
		return -EPERM;
	mmap_write_lock(mm);
	if (!(flags & MCL_CURRENT) || mm->total_vm <= memlock_limit(mm)) {
		mlockall_apply(cpu, mm, flags);
		error = 0;
	}
	mmap_write_unlock(mm);
	if (!error && (flags & MCL_CURRENT))
		mm_populate_each(cpu, mm, 0, TASK_SIZE, 0, 0); /* as far as possible: all is locked in any case */
	return error;
}

int quire_munlockall(struct quire_cpu *cpu)
{
	struct quire_mm *mm = cpu->mm;

	if (!mm)
		return -EINVAL;
	mmap_write_lock(mm);
	mlockall_apply(cpu, mm, 0);
	mmap_write_unlock(mm);
	return 0;
}
