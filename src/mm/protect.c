/* SPDX-License-Identifier: MIT */
/*
 * mprotect's half at the entries: gives the entries of a VMA the permissions that the VMA has now.
 *
 * An entry never shows as none in between (invariant 22): bits that the MMU sets meanwhile are kept by compare-and-swap.
 * The right to write is given only where a fault would give it without looking further: an exclusive anonymous page, or a
 * shared page whose file need not be told.
 */
#include "mm/huge.h"

/* Software bits and what the MMU noted survive a change of protection. */
#define KEEP_BITS (_PAGE_PFN_MASK | _PAGE_ACCESSED | _PAGE_DIRTY | _PAGE_PSE | _PAGE_SPECIAL | _PAGE_MLOCKED)

/* May the entry become writable here and now? */
static bool can_change_writable(struct quire *q, const struct vma *vma, u64 entry)
{
	if (!(vma->flags & VM_WRITE) || pte_special(entry))
		return false;
	/* Only anonymous pages are ever exclusive, so a private mapping's file pages need no look at their folio. */
	if (!(vma->flags & VM_SHARED))
		return page_anon_exclusive(q, pte_pfn(entry));
	/* A host file must hear of the first write to a clean page. */
	return vma->file->shmem || pte_dirty(entry);
}

/* Changes one entry; true when a TLB must forget the old one. PTL held. */
static bool change_entry(struct quire *q, const struct vma *vma, u64 *entry, u64 old)
{
	u64 prot = vma->page_prot & ~_PAGE_RW;
	u64 fresh;

	if (can_change_writable(q, vma, old))
		prot |= _PAGE_RW;
	do {
		fresh = (old & KEEP_BITS) | prot;
		if (fresh == old)
			return false;
	} while (!pte_cmpxchg(entry, &old, fresh));
	/* More rights than before are found out by a fault; fewer, or none at all, must be told. */
	return (old & _PAGE_PRESENT) && ((old & ~fresh & (_PAGE_RW | _PAGE_PRESENT)) || (fresh & ~old & _PAGE_NX));
}

/* The entries of one table in [addr, end). */
static bool change_pte_range(struct quire_cpu *cpu, struct vma *vma, pmd_t *pmdp, u64 addr, u64 end)
{
	struct ptdesc *pt;
	pte_t *ptep = pte_offset_map_lock(vma->mm, pmdp, addr, &pt);
	bool flush = false;

	if (!ptep)
		return false;
	for (; addr < end; addr += PAGE_SIZE, ptep++) {
		pte_t pte = pte_read(ptep);

		if (pte_present(pte))
			flush |= change_entry(cpu->q, vma, ptep, pte);
	}
	pte_unmap_unlock(pt);
	return flush;
}

static bool change_huge_pmd(struct quire_cpu *cpu, struct vma *vma, struct ptdesc *tbl, pmd_t *pmdp)
{
	bool flush = false;
	pmd_t pmd;

	spin_lock(&tbl->ptl);
	pmd = pte_read(pmdp);
	if (pmd_leaf(pmd))
		flush = change_entry(cpu->q, vma, pmdp, pmd);
	spin_unlock(&tbl->ptl);
	return flush;
}

void change_protection(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end)
{
	u64 addr = start, next;
	struct ptdesc *tbl;
	bool flush = false;
	pmd_t *pmdp;

	VM_BUG_ON2(READ_ONCE(vma->refcnt) < 1, vma->start, vma->end);
	tlb_pending_inc(&vma->mm->tlb);
	for (; (pmdp = pmd_next(vma->mm, &addr, end, &tbl)) != NULL; addr = next) {
		next = pmd_addr_end(addr, end);
		if (pmd_leaf(pte_read(pmdp)) && next - addr < PMD_SIZE)
			split_huge_pmd(cpu, vma, tbl, pmdp, addr);
		if (pmd_leaf(pte_read(pmdp)))
			flush |= change_huge_pmd(cpu, vma, tbl, pmdp);
		else
			flush |= change_pte_range(cpu, vma, pmdp, addr, next);
	}
	if (flush)
		tlb_flush_range(cpu, vma->mm, start, end);
	tlb_pending_dec(&vma->mm->tlb);
}
