/* SPDX-License-Identifier: MIT */
/* Page faults: finding and locking the VMA, checking the access, and choosing what to do. The rules stand in fault.h. */
#include "mm/huge.h"
#include "mm/vm_fault.h"

int fault_signal(struct vm_fault *f, int signo, int code)
{
	f->cpu->fault = (struct quire_fault){ .signo = signo, .code = code, .addr = f->real_addr };
	count_event(f->cpu, signo == SIGBUS ? FAULT_BUS : FAULT_SEGV, 1);
	return -EFAULT;
}

/* ---------------------------------------------------------------------------------------- the VMA */

/*
 * May the VMA be accessed this way? A foreign access (process_vm) needs the permission itself; a program's own load is
 * satisfied with any, because the hardware cannot tell write-only from read-write. An instruction fetch counts as a load
 * here: Linux on x86 maps the page first, and refuses the fetch when it meets the page that may not be executed.
 */
static bool access_allowed(const struct vma *vma, unsigned flags)
{
	if (flags & FAULT_WRITE)
		return vma->flags & VM_WRITE;
	return vma->flags & (flags & FAULT_FOREIGN ? VM_READ : VM_ACCESS_FLAGS);
}

/* Will the fault make a private page, for which reverse mapping must be ready? */
static bool needs_anon_vma(const struct vma *vma, unsigned flags)
{
	return (flags & (FAULT_WRITE | FAULT_UNSHARE)) && !(vma->flags & VM_SHARED) && !READ_ONCE(vma->anon_vma);
}

/* Tries to grow a stack down to the fault, under the mmap lock for write. @vma is what was found above the address. */
static int fault_expand_stack(struct vm_fault *f)
{
	struct quire_mm *mm = f->mm;
	struct vma *vma;
	int ret = 0;

	mmap_write_lock(mm);
	vma = vma_tree_find(&mm->tree, f->addr); /* anew: we held nothing (races B67, B69) */
	if (!vma)
		ret = -EFAULT;
	else if (vma->start > f->addr)
		ret = vma->flags & VM_GROWSDOWN ? expand_stack(f->cpu, mm, vma, f->addr) : -EFAULT;
	mmap_write_unlock(mm);
	return ret ? fault_signal(f, SIGSEGV, SEGV_MAPERR) : FAULT_RETRY;
}

/*
 * The slow way to the VMA: through the mmap lock for read, which allows what a VMA lock does not: looking at neighbours
 * (anon_vma_prepare, race B72) and growing stacks. On success f->vma is read-locked and the mmap lock is released.
 */
static int fault_lock_vma_slow(struct vm_fault *f)
{
	struct quire_mm *mm = f->mm;
	struct vma *vma;
	int ret = 0;

	count_event(f->cpu, FAULT_MMAP_LOCK, 1);
	mmap_read_lock(mm);
	vma = vma_tree_find(&mm->tree, f->addr);
	if (!vma || vma->start > f->addr) {
		bool stack = vma && (vma->flags & VM_GROWSDOWN) && !(f->flags & FAULT_FOREIGN);

		mmap_read_unlock(mm);
		return stack ? fault_expand_stack(f) : fault_signal(f, SIGSEGV, SEGV_MAPERR);
	}
	if (!access_allowed(vma, f->flags))
		ret = fault_signal(f, SIGSEGV, SEGV_ACCERR);
	else if (needs_anon_vma(vma, f->flags))
		ret = anon_vma_prepare(f->cpu, vma);
	if (!ret) {
		vma_start_read_locked(vma);
		f->vma = vma;
	}
	mmap_read_unlock(mm);
	return ret;
}

/* Read-locks the VMA of the fault, ready for it: 0 and f->vma, or what the fault ends with. */
static int fault_lock_vma(struct vm_fault *f)
{
	struct vma *vma = lock_vma_under_rcu(f->cpu, f->mm, f->addr);

	if (vma && access_allowed(vma, f->flags) && !needs_anon_vma(vma, f->flags)) {
		f->vma = vma;
		return 0;
	}
	if (vma)
		vma_end_read(f->cpu, vma);
	return fault_lock_vma_slow(f);
}

/* ---------------------------------------------------------------------------------------- the entry */

/* An entry that is not present and not none. */
static int do_softleaf(struct vm_fault *f)
{
	switch (softleaf_type(f->orig)) {
	case SOFTLEAF_MARKER:
		if (softleaf_is_guard(f->orig))
			return fault_signal(f, SIGSEGV, SEGV_MAPERR);
		return fault_signal(f, SIGBUS, BUS_ADRERR);
	case SOFTLEAF_NONE:
	case SOFTLEAF_SWAP:
	case SOFTLEAF_MIGRATION_READ:
	case SOFTLEAF_MIGRATION_READ_EXCLUSIVE:
	case SOFTLEAF_MIGRATION_WRITE:
	case SOFTLEAF_HWPOISON:
	case SOFTLEAF_DEVICE_PRIVATE:
	case SOFTLEAF_DEVICE_EXCLUSIVE:
	case NR_SOFTLEAF_TYPES:
		break;
	}
	BUG_ON2(true, f->addr, f->orig); /* nothing makes such entries yet */
	return FAULT_RETRY;
}

static int do_missing(struct vm_fault *f)
{
	if (vma_is_anonymous(f->vma))
		return do_anonymous_page(f);
	if (!(f->flags & FAULT_WRITE))
		return do_file_read_fault(f);
	return f->vma->flags & VM_SHARED ? do_file_shared_fault(f) : do_file_cow_fault(f);
}

/* The entry allows the access already: another thread's fault, or a TLB entry older than it. */
static int do_spurious(struct vm_fault *f)
{
	count_event(f->cpu, FAULT_SPURIOUS, 1);
	if (f->cpu->mm == f->mm)
		mmu_flush_page(&f->cpu->tlb.tlb, f->addr);
	return 0;
}

static bool entry_allows(const struct vm_fault *f, u64 entry)
{
	return !(f->flags & (FAULT_WRITE | FAULT_UNSHARE)) || pte_write(entry);
}

static int do_pte(struct vm_fault *f)
{
	pte_t *ptep = pte_offset_lockless(f->mm, f->pmd, f->addr);

	if (!ptep)
		return FAULT_RETRY;
	f->orig = pte_read(ptep);
	if (pte_none(f->orig))
		return do_missing(f);
	if (!pte_present(f->orig))
		return do_softleaf(f);
	return entry_allows(f, f->orig) ? do_spurious(f) : do_wp_page(f);
}

int fault_locked_vma(struct vm_fault *f)
{
	pmd_t pmd;
	int ret;

	f->pmd = pmd_alloc(f->cpu, f->mm, f->addr, &f->pmd_tbl);
	if (!f->pmd)
		return -ENOMEM;
	pmd = pte_read(f->pmd);
	if (pmd_none(pmd) && (f->flags & FAULT_WRITE) && huge_allowed(f->cpu, f->vma, f->addr)) {
		ret = do_huge_anonymous(f->cpu, f->vma, f->pmd_tbl, f->pmd, f->addr);
		if (ret != -ENOMEM)
			return ret;
	} else if (pmd_leaf(pmd)) {
		if (entry_allows(f, pmd))
			return do_spurious(f);
		do_huge_wp(f->cpu, f->vma, f->pmd_tbl, f->pmd, f->addr);
		return FAULT_RETRY;
	}
	ret = pte_alloc(f->cpu, f->mm, f->pmd_tbl, f->pmd);
	return ret ? ret : do_pte(f);
}

int handle_mm_fault(struct quire_cpu *cpu, struct quire_mm *mm, u64 addr, unsigned flags)
{
	struct vm_fault f = { .cpu = cpu, .mm = mm, .addr = addr & PAGE_MASK, .real_addr = addr, .flags = flags };
	int ret;

	count_event(cpu, PGFAULT, 1);
	if (addr >= TASK_SIZE)
		return fault_signal(&f, SIGSEGV, SEGV_MAPERR);
	for (;;) {
		ret = fault_lock_vma(&f);
		if (!ret) {
			ret = fault_locked_vma(&f);
			if (!ret && (flags & FAULT_EXEC) && !(f.vma->flags & VM_EXEC))
				ret = fault_signal(&f, SIGSEGV, SEGV_ACCERR);
			vma_end_read(cpu, f.vma);
		}
		if (ret != FAULT_RETRY)
			break;
		count_event(cpu, FAULT_RETRIED, 1);
	}
	if (ret == -ENOMEM) {
		cpu->fault = (struct quire_fault){ .signo = SIGKILL, .addr = addr };
		count_event(cpu, FAULT_OOM, 1);
	}
	return ret;
}
