/* SPDX-License-Identifier: MIT */
/*
 * mprotect: new permissions, VMA by VMA in order of address. What was done before an error stays done, as in Linux.
 *
 * The entries of the last VMA, usually the only one, are changed without the mmap lock, so that threads protecting
 * mappings of their own do not wait for each other. The VMA's read lock keeps it as it is meanwhile: whoever wants to
 * change, merge, move, fork or unmap it waits, while faults find the new permissions.
 */
#include "mm/map.h"

/* One call on its way. */
struct mprotect {
	struct quire_cpu *cpu;
	struct quire_mm *mm;
	u64 start, end;	  /* what is left to do */
	u64 prot;	  /* VM_READ | ... */
	bool populate;	  /* pages are to be copied now */
	struct vma *last; /* read-locked, its entries in [last_start, end) to be changed; or NULL */
	u64 last_start;
};

/* VM_MAYx is VM_x shifted up by 4: what the file and the mapping's kind permit at most. */
static bool may_have(u64 flags)
{
	return !(flags & ~(flags >> 4) & VM_ACCESS_FLAGS);
}

/*
 * The commitment that goes with a private mapping that may be written is kept when it may not any more, but for
 * anonymous memory that was never touched. (quire never refuses to commit; the flag decides which mappings can be
 * merged.)
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

/* Changes the entries of [start, end), now or, of the last VMA, later. @vma is write-locked. */
static void mprotect_entries(struct mprotect *call, struct vma *vma, u64 start, u64 end)
{
	if (end < call->end) {
		change_protection(call->cpu, vma, start, end);
		return;
	}
	vma_start_read_locked(vma);
	call->last = vma;
	call->last_start = start;
}

/* [start, end) is in @vma. */
static int mprotect_fixup(struct mprotect *call, struct vma *vma, u64 start, u64 end)
{
	u64 old = vma->flags, flags = (old & ~VM_ACCESS_FLAGS) | call->prot;
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
	if (vma_modify_flags(call->cpu, &vma, start, end, flags))
		return -ENOMEM;
	vma_start_write(call->cpu, vma);
	mprotect_entries(call, vma, start, end);
	mm_account_change(vma->mm, old, flags, pages);
	call->populate |= breaks_cow_now(old, flags);
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

static int mprotect_range(struct mprotect *call)
{
	for (u64 start = call->start, next; start < call->end; start = next) {
		struct vma *vma = vma_tree_find(&call->mm->tree, start);
		int error;

		if (!vma || vma->start > start)
			return -ENOMEM;
		next = min_u64(vma->end, call->end);
		error = mprotect_fixup(call, vma, start, next);
		if (error)
			return error;
	}
	return 0;
}

/* All under the mmap lock but the last VMA's entries. */
static int mprotect_locked(struct mprotect *call, int grows)
{
	int error;

	mmap_write_lock_unmapping(call->mm); /* permissions are no matter of ranges that are unmapped */
	error = mprotect_first(vma_tree_find(&call->mm->tree, call->start), &call->start, call->end, grows);
	if (!error)
		error = mprotect_range(call);
	mmap_write_unlock(call->mm);
	if (call->last) {
		change_protection(call->cpu, call->last, call->last_start, call->end);
		vma_end_read(call->cpu, call->last);
	}
	return error;
}

int quire_mprotect(struct quire_cpu *cpu, uint64_t addr, uint64_t len, int prot)
{
	int grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP), error;
	struct mprotect call = { .cpu = cpu, .mm = cpu->mm, .start = addr, .end = addr + page_align(len) };

	prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP);
	if (!call.mm || grows == (PROT_GROWSDOWN | PROT_GROWSUP) || !page_aligned(addr))
		return -EINVAL;
	if (!len)
		return 0;
	if (call.end <= call.start)
		return -ENOMEM;
	if (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM))
		return -EINVAL;
	call.prot = (u64)prot & VM_ACCESS_FLAGS;
	error = mprotect_locked(&call, grows);
	if (call.populate)
		mm_populate_each(cpu, call.mm, call.start, call.end, VM_WRITE | VM_SHARED | VM_LOCKED,
				 VM_WRITE | VM_LOCKED);
	return error;
}
