/* SPDX-License-Identifier: MIT */
/*
 * madvise: advice about a range, carried out VMA by VMA in order of address. Holes are passed over, and told at the
 * end with -ENOMEM; any other error stops at once, what was done before staying done.
 *
 * Advice that changes VMAs needs the mmap lock for write. Advice that changes entries needs it for read. MADV_REMOVE
 * and MADV_WILLNEED go to the file, without any lock, so the walk looks every VMA up anew.
 */
#include "mm/map.h"

/* One call on its way through the VMAs. */
struct advice {
	int behavior;
	u64 start, end; /* the part in the VMA at hand */
	bool unlocked;	/* the mmap lock was dropped on the way */
};

/*
 * Numbers that Linux knows and we refuse: MADV_COLLAPSE (25), MADV_HWPOISON (100) and MADV_SOFT_OFFLINE (101). An
 * unknown number is an error before anything else is looked at, even with an empty range.
 */
static bool behavior_valid(int behavior)
{
	switch (behavior) {
	case MADV_NORMAL:
	case MADV_RANDOM:
	case MADV_SEQUENTIAL:
	case MADV_WILLNEED:
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_REMOVE:
	case MADV_DONTFORK:
	case MADV_DOFORK:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_DONTDUMP:
	case MADV_DODUMP:
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
	case MADV_COLD:
	case MADV_PAGEOUT:
	case MADV_POPULATE_READ:
	case MADV_POPULATE_WRITE:
	case MADV_DONTNEED_LOCKED:
	case MADV_GUARD_INSTALL:
	case MADV_GUARD_REMOVE:
		return true;
	default:
		return false;
	}
}

/* Does the advice change flags of VMAs, and so need the mmap lock for write? */
static bool changes_vmas(int behavior)
{
	switch (behavior) {
	case MADV_NORMAL:
	case MADV_RANDOM:
	case MADV_SEQUENTIAL:
	case MADV_DONTFORK:
	case MADV_DOFORK:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_DONTDUMP:
	case MADV_DODUMP:
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
		return true;
	default:
		return false;
	}
}

/* Would the advice throw contents away, which a sealed mapping that may not be written forbids? */
static bool discards(int behavior)
{
	switch (behavior) {
	case MADV_FREE:
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED:
	case MADV_REMOVE:
	case MADV_DONTFORK:
	case MADV_WIPEONFORK:
	case MADV_GUARD_INSTALL:
		return true;
	default:
		return false;
	}
}

/* The contents of a file are not lost by it, and memory that may be written could be overwritten anyway. */
static bool seal_permits(const struct vma *vma, int behavior)
{
	return !(vma->flags & VM_SEALED) || !discards(behavior) || vma->file || (vma->flags & VM_WRITE);
}

/* ---------------------------------------------------------------------------------------- flags */

/* Memory of one program that same-page merging may look at. */
static bool is_mergeable(const struct vma *vma)
{
	return !(vma->flags & (VM_SHARED | VM_MAYSHARE | VM_SPECIAL | VM_DROPPABLE));
}

/*
 * What the flags become; *flags holds what they are. 0, or -EINVAL where the advice makes no sense: only private
 * anonymous memory can be wiped on fork, and droppable memory stays as it was mapped.
 */
static int advised_flags(const struct vma *vma, int behavior, u64 *flags)
{
	u64 set = 0, clear = 0;

	switch (behavior) {
	case MADV_NORMAL:
		clear = VM_RAND_READ | VM_SEQ_READ;
		break;
	case MADV_SEQUENTIAL:
		clear = VM_RAND_READ;
		set = VM_SEQ_READ;
		break;
	case MADV_RANDOM:
		clear = VM_SEQ_READ;
		set = VM_RAND_READ;
		break;
	case MADV_DONTFORK:
		set = VM_DONTCOPY;
		break;
	case MADV_DOFORK:
		clear = VM_DONTCOPY;
		break;
	case MADV_WIPEONFORK:
		if (vma->file || (*flags & VM_SHARED))
			return -EINVAL;
		set = VM_WIPEONFORK;
		break;
	case MADV_KEEPONFORK:
		if (*flags & VM_DROPPABLE)
			return -EINVAL;
		clear = VM_WIPEONFORK;
		break;
	case MADV_DONTDUMP:
		set = VM_DONTDUMP;
		break;
	case MADV_DODUMP:
		if (*flags & (VM_SPECIAL | VM_DROPPABLE))
			return -EINVAL;
		clear = VM_DONTDUMP;
		break;
	case MADV_MERGEABLE:
		set = is_mergeable(vma) ? VM_MERGEABLE : 0;
		break;
	case MADV_UNMERGEABLE:
		clear = VM_MERGEABLE;
		break;
	case MADV_HUGEPAGE:
		clear = VM_NOHUGEPAGE;
		set = VM_HUGEPAGE;
		break;
	default: /* MADV_NOHUGEPAGE */
		clear = VM_HUGEPAGE;
		set = VM_NOHUGEPAGE;
		break;
	}
	*flags = (*flags & ~clear) | set;
	return 0;
}

/* A VMA that cannot be split for want of memory is EAGAIN here, and in no other call: madvise(2) says so. */
static int advise_flags(struct quire_cpu *cpu, struct vma *vma, const struct advice *advice)
{
	u64 flags = vma->flags;
	int error = advised_flags(vma, advice->behavior, &flags);

	if (error || flags == vma->flags)
		return error;
	error = vma_modify_flags(cpu, &vma, advice->start, advice->end, flags);
	return error == -ENOMEM ? -EAGAIN : error;
}

/* ---------------------------------------------------------------------------------------- entries */

/* Contents go. Locked pages stay, unless the caller says that it knows. */
static int advise_dontneed(struct quire_cpu *cpu, struct vma *vma, const struct advice *advice)
{
	if (advice->behavior != MADV_DONTNEED_LOCKED && (vma->flags & VM_LOCKED))
		return -EINVAL;
	zap_page_range(cpu, vma, advice->start, advice->end);
	return 0;
}

/* The pages stay until memory is wanted, and are lost then
 * unless written again before. Files have their own such advice. */
static int advise_free(struct quire_cpu *cpu, struct vma *vma, const struct advice *advice)
{
	if ((vma->flags & VM_LOCKED) || !vma_is_anonymous(vma))
		return -EINVAL;
	madvise_free_range(cpu, vma, advice->start, advice->end);
	return 0;
}

/* MADV_PAGEOUT has nowhere to write anonymous pages to yet: it makes them the first to go, as MADV_COLD. */
static int advise_cold(struct quire_cpu *cpu, struct vma *vma, const struct advice *advice)
{
	if (vma->flags & VM_LOCKED)
		return -EINVAL;
	madvise_cold_range(cpu, vma, advice->start, advice->end);
	return 0;
}

/* Locked memory is promised to be there, which a guard would break. */
static bool may_install_guards(const struct vma *vma)
{
	return !(vma->flags & (VM_SPECIAL | VM_LOCKED));
}

static int advise_guard_install(struct quire_cpu *cpu, struct vma *vma, const struct advice *advice)
{
	if (!may_install_guards(vma))
		return -EINVAL;
	return guard_install_range(cpu, vma, advice->start, advice->end);
}

/* Taking away is allowed in locked memory: it can have got its guards before it was locked. */
static int advise_guard_remove(struct quire_cpu *cpu, struct vma *vma, const struct advice *advice)
{
	if (vma->flags & VM_SPECIAL)
		return -EINVAL;
	guard_remove_range(cpu, vma, advice->start, advice->end);
	return 0;
}

/* ---------------------------------------------------------------------------------------- files */

/* Punches a hole in the file. The VMA may be gone as soon as the lock is: the reference keeps the file (race B77). */
static int advise_remove(struct quire_cpu *cpu, struct vma *vma, struct advice *advice)
{
	struct quire_file *file = vma->file;
	u64 offset;
	int error;

	if ((vma->flags & VM_LOCKED) || !file)
		return -EINVAL;
	if ((vma->flags & (VM_SHARED | VM_MAYWRITE)) != (VM_SHARED | VM_MAYWRITE))
		return -EACCES;
	offset = vma_linear_index(vma, advice->start) << PAGE_SHIFT;
	quire_file_get(file);
	mmap_read_unlock(vma->mm);
	advice->unlocked = true;
	error = file_punch(cpu, file, offset, advice->end - advice->start);
	quire_file_put(cpu, file);
	return error;
}

/* Reads ahead. Memory without a file, or a shmem file without swap, is as near as it can be. */
static int advise_willneed(struct quire_cpu *cpu, struct vma *vma, struct advice *advice)
{
	struct quire_file *file = vma->file;
	u64 first, last;

	if (!file || file->shmem)
		return 0;
	first = vma_linear_index(vma, advice->start);
	last = vma_linear_index(vma, advice->end - 1);
	quire_file_get(file);
	mmap_read_unlock(vma->mm);
	advice->unlocked = true;
	file_readahead(cpu, file, first, last);
	quire_file_put(cpu, file);
	return 0;
}

/* ---------------------------------------------------------------------------------------- the walk */

/* A part of one VMA. What the seal of a mapping forbids comes before all else. */
static int advise_vma(struct quire_cpu *cpu, struct vma *vma, struct advice *advice)
{
	if (!seal_permits(vma, advice->behavior))
		return -EPERM;
	switch (advice->behavior) {
	case MADV_REMOVE:
		return advise_remove(cpu, vma, advice);
	case MADV_WILLNEED:
		return advise_willneed(cpu, vma, advice);
	case MADV_COLD:
	case MADV_PAGEOUT:
		return advise_cold(cpu, vma, advice);
	case MADV_FREE:
		return advise_free(cpu, vma, advice);
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED:
		return advise_dontneed(cpu, vma, advice);
	case MADV_GUARD_INSTALL:
		return advise_guard_install(cpu, vma, advice);
	case MADV_GUARD_REMOVE:
		return advise_guard_remove(cpu, vma, advice);
	default:
		return advise_flags(cpu, vma, advice);
	}
}

/* One VMA, or the part of it that the range covers, at or
 * after *@start, which moves behind it. The mmap lock is held. */
static int advise_next(struct quire_cpu *cpu, struct quire_mm *mm, u64 *start, u64 end, int *hole,
		       struct advice *advice)
{
	struct vma *vma = vma_tree_find(&mm->tree, *start);

	if (!vma || vma->start > *start)
		*hole = -ENOMEM;
	if (!vma || vma->start >= end) {
		*start = end;
		return 0;
	}
	advice->start = vma->start > *start ? vma->start : *start;
	advice->end = *start = min_u64(vma->end, end);
	return advise_vma(cpu, vma, advice);
}

/* Every VMA is looked up anew by address: the one before may have been merged with it. */
static int advise_range_write(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, int behavior)
{
	struct advice advice = { .behavior = behavior };
	int hole = 0, error = 0;

	mmap_write_lock(mm);
	while (start < end && !error)
		error = advise_next(cpu, mm, &start, end, &hole, &advice);
	mmap_write_unlock(mm);
	return error ? error : hole;
}

/*
 * VMAs that are about to have guard markers are marked, so that fork copies their page tables. Up to the first that
 * the call will stop at. The mmap lock is held for write, and for read from then on, so that they stay as they are.
 */
static void mark_for_guards(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end)
{
	struct vma *vma;

	vma_tree_for_each_range(vma, &mm->tree, start, end) {
		if (!may_install_guards(vma) || !seal_permits(vma, MADV_GUARD_INSTALL))
			break;
		if (!(vma->flags & VM_MAYBE_GUARD))
			vma_set_flags(cpu, vma, vma->flags | VM_MAYBE_GUARD);
	}
}

/* Takes the mmap lock for read, after what must be done to VMAs first. */
static void lock_for_reading(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, int behavior)
{
	if (behavior != MADV_GUARD_INSTALL) {
		mmap_read_lock(mm);
		return;
	}
	mmap_write_lock(mm);
	mark_for_guards(cpu, mm, start, end);
	mmap_write_downgrade(mm);
}

/* The lock may have been dropped on the way; then VMAs may have
 * come and gone, and what is there now is what is advised. */
static int advise_range_read(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, int behavior)
{
	struct advice advice = { .behavior = behavior };
	int hole = 0, error = 0;

	lock_for_reading(cpu, mm, start, end, behavior);
	while (start < end && !error) {
		error = advise_next(cpu, mm, &start, end, &hole, &advice);
		if (advice.unlocked)
			mmap_read_lock(mm);
		advice.unlocked = false;
	}
	mmap_read_unlock(mm);
	return error ? error : hole;
}

int quire_madvise(struct quire_cpu *cpu, uint64_t addr, uint64_t len, int advice)
{
	u64 bytes = page_align(len), end = addr + bytes;
	struct quire_mm *mm = cpu->mm;

	if (!mm || !behavior_valid(advice) || !page_aligned(addr) || (len && !bytes) || end < addr)
		return -EINVAL;
	if (!bytes)
		return 0;
	if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE)
		return populate_range(cpu, mm, addr, end, advice == MADV_POPULATE_WRITE);
	if (changes_vmas(advice))
		return advise_range_write(cpu, mm, addr, end, advice);
	return advise_range_read(cpu, mm, addr, end, advice);
}
