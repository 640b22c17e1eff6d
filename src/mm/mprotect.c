/* SPDX-License-Identifier: MIT */
/* mprotect: new permissions, VMA by VMA in order of address. What was done before an error stays done, as in Linux. */
#include "mm/map.h"

/* VM_MAYx is VM_x shifted up by 4: what the file and the mapping's kind permit at most. */
static bool may_have(u64 flags)
{
	return !(flags & ~(flags >> 4) & VM_ACCESS_FLAGS);
}

/*
 * The commitment that goes with a private mapping that may be written is kept when it may not any more, but for anonymous
 * memory that was never touched. (quire never refuses to commit; the flag decides which mappings can be merged.)
 */
static u64 accounted_flags(const struct vma *vma, u64 flags)
{
	if (flags & VM_WRITE)
		return vma->flags & (VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_NORESERVE) ? flags : flags | VM_ACCOUNT;
	return vma_is_anonymous(vma) && !vma->anon_vma ? flags & ~VM_ACCOUNT : flags;
}

/* Does locked private memory become writable? Its pages are copied now, so that no write faults later. */
static bool breaks_cow_now(u64 from, u64 to)
{
	return (from & (VM_WRITE | VM_SHARED | VM_LOCKED)) == VM_LOCKED && (to & VM_WRITE);
}

/* [start, end) is in @vma. Sets *populate when pages are to be copied now. */
static int mprotect_fixup(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end, u64 prot, bool *populate)
{
	u64 old = vma->flags, flags = (old & ~VM_ACCESS_FLAGS) | prot;
	s64 pages = (s64)((end - start) >> PAGE_SHIFT);

	if (!may_have(flags))
		return -EACCES;
	if (old & VM_SEALED)
		return -EPERM;
	if (flags == old)
		return 0;
	/* RLIMIT_DATA, when the range turns into data; a range that is over the limit already passes. */
	if ((flags & VM_WRITE) && !may_expand_vm(vma->mm, flags, (u64)pages) && may_expand_vm(vma->mm, old, (u64)pages))
		return -ENOMEM;
	flags = accounted_flags(vma, flags);
	if (vma_modify_flags(cpu, &vma, start, end, flags))
		return -ENOMEM;
	vma_start_write(cpu, vma);
	change_protection(cpu, vma, start, end);
	mm_account_change(vma->mm, old, flags, pages);
	*populate |= breaks_cow_now(old, flags);
	return 0;
}

/* PROT_GROWSDOWN: the start moves down to that of the stack's VMA. Otherwise the start must be mapped. */
static int mprotect_first(const struct vma *vma, u64 *start, u64 end, int grows)
{
	if (!vma || vma->start >= end)
		return -ENOMEM;
	if (grows & PROT_GROWSDOWN) {
		*start = vma->start;
		return vma->flags & VM_GROWSDOWN ? 0 : -EINVAL;
	}
	if (vma->start > *start)
		return -ENOMEM;
	return grows & PROT_GROWSUP ? -EINVAL : 0; /* no stack grows up on x86 */
}

static int mprotect_range(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, u64 prot, bool *populate)
{
	while (start < end) {
		struct vma *vma = vma_tree_find(&mm->tree, start);
		u64 next;
		int error;

		if (!vma || vma->start > start)
			return -ENOMEM;
		next = min_u64(vma->end, end);
		error = mprotect_fixup(cpu, vma, start, next, prot, populate);
		if (error)
			return error;
		start = next;
	}
	return 0;
}

int quire_mprotect(struct quire_cpu *cpu, uint64_t addr, uint64_t len, int prot)
{
	int grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP), error;
	u64 start = addr, end = addr + page_align(len);
	struct quire_mm *mm = cpu->mm;
	bool populate = false;

	prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP);
	if (!mm || grows == (PROT_GROWSDOWN | PROT_GROWSUP) || !page_aligned(addr))
		return -EINVAL;
	if (!len)
		return 0;
	if (end <= start)
		return -ENOMEM;
	if (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM))
		return -EINVAL;
	mmap_write_lock(mm);
	error = mprotect_first(vma_tree_find(&mm->tree, start), &start, end, grows);
	if (!error)
		error = mprotect_range(cpu, mm, start, end, (u64)prot & VM_ACCESS_FLAGS, &populate);
	mmap_write_unlock(mm);
	if (populate)
		mm_populate_each(cpu, mm, start, end, VM_WRITE | VM_SHARED | VM_LOCKED, VM_WRITE | VM_LOCKED);
	return error;
}
