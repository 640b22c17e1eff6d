/* SPDX-License-Identifier: MIT */
/*
 * Page faults and what else fills or empties page tables: the interface between address-space calls and entries.
 *
 * A fault takes the read lock of its VMA, nothing wider. Where that does not do (no VMA found, VMA being changed, first
 * private page of a VMA, stack growth) it takes the mmap lock, does what is needed, takes the VMA's lock and goes on
 * the same way. One retry rule: whoever had to wait for something releases everything and starts the fault again.
 */
#ifndef QUIRE_MM_FAULT_H
#define QUIRE_MM_FAULT_H

#include "mm/file.h"
#include "mm/gather.h"
#include "mm/instance.h"
#include "mm/rmap.h"

enum fault_flag {
	FAULT_WRITE = 1 << 0,
	FAULT_EXEC = 1 << 1,
	FAULT_FORCE = 1 << 2,	/* foreign access (process_vm) is not a force; reserved for ptrace-like callers */
	FAULT_UNSHARE = 1 << 3, /* make the page exclusive, read-only: for read pins */
	FAULT_FOREIGN = 1 << 4, /* on behalf of another process: no stack growth */
};

/*
 * Handles a fault at @addr of @mm. 0: the access can be tried again. -EFAULT: cpu->fault says which signal. -ENOMEM: no
 * memory. No lock held, not in user mode. May sleep.
 */
int handle_mm_fault(struct quire_cpu *cpu, struct quire_mm *mm, u64 addr, unsigned flags);

/*
 * Faults in [start, end) as if each page were touched (for writing where @write): MAP_POPULATE, mlock, MADV_POPULATE_*.
 * Takes and drops locks itself; none held. 0; -ENOMEM: a hole or no memory; -EINVAL: a VMA does not permit the access;
 * -EFAULT: the access would be a signal all the same (end of file, guard). Pages done so far stay.
 */
int populate_range(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, bool write);
/* As populate for mlock and MAP_LOCKED: writes to private writable VMAs, reads elsewhere, skips LOCKONFAULT; -EFAULT at
 * the first VMA that may not be accessed. */
int mm_populate(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 len);

/*
 * The frame behind @addr for copying to or from it (process_vm): faults it in, returns the folio referenced, *pfn the frame.
 * NULL with *error 0: the frame of zeroes, only to read from, which needs no reference. Then the mmap lock is held for read, and
 * stays so until the caller has copied and unlocks it: a fork in between would share the page, and the store would be the
 * child's too, or be lost to the parent. NULL with *error: -EFAULT, -ENOMEM; not locked. No lock held before.
 */
struct folio *get_user_page(struct quire_cpu *cpu, struct quire_mm *mm, u64 addr, bool write, u64 *pfn, int *error);

/* Grows a VM_GROWSDOWN VMA down to include @addr: limits, gap, accounting. mmap lock held for write. 0, -ENOMEM, -EFAULT.
 * In vma.c's hands; the fault calls it. */
int expand_stack(struct quire_cpu *cpu, struct quire_mm *mm, struct vma *vma, u64 addr);

/* ---- zap.c: emptying. mmap lock (any) or i_mmap lock or VMA detached: the VMA and its tables stay. */

struct zap_details {
	bool even_cows;	      /* private copies too (truncation); else only the file's pages (hole punch) */
	bool keep_markers;    /* guard markers stay (all but munmap and exit) */
	struct folio *single; /* only this (locked) folio, or NULL */
};

/* Clears [start, end) of @vma into the gather. @details NULL: everything goes, markers too (invariant 78). */
void unmap_page_range(struct mmu_gather *tlb, struct vma *vma, u64 start, u64 end, const struct zap_details *details);
/* A gather and unmap_page_range for MADV_DONTNEED and the like. mmap lock held (read). */
void zap_page_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end);
/* Frees the page tables that lie wholly inside [floor, ceiling) and cover parts of [start, end); the entries are empty, no
 * VMA uses them, and no rmap walk can reach them: unlink first. mmap lock held; ceiling 0 means the top. */
void free_pgtables(struct mmu_gather *tlb, struct quire_mm *mm, u64 start, u64 end, u64 floor, u64 ceiling);
/* Unmaps pages [first, first+nr) of a file from every address space; nr 0: to the end. No page lock needed; may sleep. */
void unmap_mapping_range(struct quire_cpu *cpu, struct address_space *mapping, u64 first, u64 nr, bool even_cows);
/* The same for one locked folio that is to leave the cache: stragglers faulted in meanwhile (race S5-R7). */
void unmap_mapping_folio(struct quire_cpu *cpu, struct folio *folio);

/* ---- protect.c */

/* Applies vma->page_prot to the present entries of [start, end) and flushes. The VMA is locked: read is enough. */
void change_protection(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end);

/* ---- move.c (mremap) */

/* Moves the entries of [old_addr, old_addr+len) of @vma to @new_addr in @new_vma (both write-locked, mmap write), flushing the
 * old range before the locks that hide it are dropped (B18); whole tables where aligned (B21). Returns the bytes moved: less than len
 * only when there was no memory for a table. */
u64 move_page_tables(struct quire_cpu *cpu, struct vma *vma, u64 old_addr, struct vma *new_vma, u64 new_addr, u64 len);

/* ---- advise.c: entry-level parts of madvise. mmap lock for read. */
void madvise_free_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end);
void madvise_cold_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end);
/* Zaps and then installs guard markers: 0 or -ENOMEM. Needs the VMA's anon_vma prepared when it may hold private pages. */
int guard_install_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end);
void guard_remove_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end);
/* One byte a page: 1 resident. For mincore; mmap lock for read. */
void mincore_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end, unsigned char *vec);
/* Marks the folios mapped here mlocked or not, after VM_LOCKED was set or cleared (seed rule 86). mmap lock held. */
void mlock_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end, bool locked);

/* ---- fork.c */

/* Copies the entries of @src (write-locked, mmap write of both) into @dst: shares or copies pages, copies markers. 0 or -ENOMEM. */
int copy_page_range(struct quire_cpu *cpu, struct vma *dst, struct vma *src);

#endif
