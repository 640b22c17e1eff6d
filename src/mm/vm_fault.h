/* SPDX-License-Identifier: MIT */
/*
 * One page fault on its way through fault.c (locking, dispatch), anon.c, cow.c, filefault.c and huge.c. Every handler is
 * called with the VMA read-locked and nothing else, and returns the same way:
 *
 *   0            done, the access can be tried again
 *   FAULT_RETRY  something changed under us, or we waited: the caller releases the VMA and starts from the beginning
 *   -ENOMEM      no memory
 *   -EFAULT      a signal, described in cpu->fault
 */
#ifndef QUIRE_MM_VM_FAULT_H
#define QUIRE_MM_VM_FAULT_H

#include "mm/fault.h"
#include "mm/softleaf.h"

#define FAULT_RETRY 1

struct vm_fault {
	struct quire_cpu *cpu;
	struct quire_mm *mm;
	struct vma *vma;
	u64 addr;	/* rounded down to its page */
	u64 real_addr;	/* as accessed, for the signal */
	unsigned flags; /* enum fault_flag */
	struct ptdesc *pmd_tbl;
	pmd_t *pmd;
	pte_t orig;	   /* the entry as first read; every change re-checks it under the PTL (pte_same) */
	struct ptdesc *pt; /* the locked table while a handler has it */
};

/* Reports a signal: fills cpu->fault, returns -EFAULT. */
int fault_signal(struct vm_fault *f, int signo, int code);

/* The entry with its PTL held if it still is f->orig; NULL (nothing held): start again. Unlock f->pt. */
static inline pte_t *fault_lock_same(struct vm_fault *f)
{
	pte_t *ptep = pte_offset_map_lock(f->mm, f->pmd, f->addr, &f->pt);

	if (!ptep)
		return NULL;
	/* The MMU may have set accessed or dirty meanwhile: the entry is the same all the same. */
	if (!((pte_read(ptep) ^ f->orig) & ~(_PAGE_ACCESSED | _PAGE_DIRTY)))
		return ptep;
	pte_unmap_unlock(f->pt);
	return NULL;
}

/* Bits of an entry that a fault makes: young, and for a write dirty, so that the MMU need not come back to say so. */
static inline u64 fault_entry_bits(const struct vm_fault *f, bool writable)
{
	u64 bits = vma_entry_bits(f->vma) | _PAGE_ACCESSED;

	return writable ? bits | _PAGE_RW | _PAGE_DIRTY : bits;
}

/* fault.c: handles the fault in f->vma, which is read-locked, allows the access, and is prepared for it. */
int fault_locked_vma(struct vm_fault *f);
int do_anonymous_page(struct vm_fault *f); /* anon.c: nothing mapped, anonymous VMA */
int do_wp_page(struct vm_fault *f);	   /* cow.c: present and read-only, the access writes (or unshares) */
/*
 * cow.c: do_wp_page() for up to @max consecutive entries of a private VMA from f->addr on, which are in one table: as many as are
 * read-only pages. *next becomes the address behind what was done, entries that changed meanwhile included.
 */
int do_wp_pages(struct vm_fault *f, u32 max, u64 *next);
int do_file_read_fault(struct vm_fault *f);   /* filefault.c: nothing mapped, file VMA */
int do_file_cow_fault(struct vm_fault *f);    /* a private write */
int do_file_shared_fault(struct vm_fault *f); /* a shared write */

/*
 * Installs a fresh folio of the caller's at f->addr in place of f->orig, which is none or the zero page; consumes the
 * caller's reference. FAULT_RETRY: the entry changed, the folio is freed. Prepared: vma->anon_vma.
 */
int install_anon_folio(struct vm_fault *f, struct folio *folio);

#endif
