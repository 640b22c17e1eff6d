/* SPDX-License-Identifier: MIT */
/*
 * VMAs: one struct vma is a range of an address space with one set of flags and one backing.
 *
 * Locks. The mmap lock of the address space, for write, is needed to change any VMA or the tree. A fault takes only the
 * lock of its own VMA, for read: vma_start_read under RCU, without the mmap lock. A writer of a VMA holds the mmap lock for
 * write and calls vma_start_write, which waits for readers; all its VMA write locks end together at mmap_write_unlock or
 * mmap_write_downgrade.
 *
 *   free ──vma_alloc──> detached ──vma_mark_attached──> attached ──vma_mark_detached──> detached ──vma_free──> free
 *                       refcnt 0     (mmap write)        refcnt 1 + readers             (waits for readers)
 *
 * The cache is type-safe under RCU: a reader that found a VMA by a stale tree node gets a reference only while it is
 * attached somewhere, then checks vma->mm and the range (race B74).
 *
 * Legend: W mmap lock write + VMA write lock to write, mmap lock or VMA lock (read) to read; A anon_vma locks too;
 * I i_mmap lock too; a atomic; m mmap lock.
 */
#ifndef QUIRE_MM_VMA_H
#define QUIRE_MM_VMA_H

#include "mm/interval_tree.h"
#include "mm/linux.h"
#include "mm/list.h"
#include "mm/pgtable.h"

struct quire_mm;
struct quire_cpu;
struct quire_file;
struct anon_vma;

#define VM_READ 0x1ull
#define VM_WRITE 0x2ull
#define VM_EXEC 0x4ull
#define VM_SHARED 0x8ull
#define VM_MAYREAD 0x10ull
#define VM_MAYWRITE 0x20ull
#define VM_MAYEXEC 0x40ull
#define VM_MAYSHARE 0x80ull
#define VM_GROWSDOWN 0x100ull
#define VM_MERGEABLE 0x200ull
#define VM_MAYBE_GUARD                                                                                                 \
	0x800ull /* guard markers may be here: fork copies tables. Sticky: merging keeps it, and ignores it */
#define VM_LOCKED 0x2000ull
#define VM_SEQ_READ 0x8000ull
#define VM_RAND_READ 0x10000ull
#define VM_DONTCOPY 0x20000ull
#define VM_DONTEXPAND 0x40000ull
#define VM_LOCKONFAULT 0x80000ull
#define VM_ACCOUNT 0x100000ull
#define VM_NORESERVE 0x200000ull
#define VM_SYNC 0x800000ull
#define VM_WIPEONFORK 0x2000000ull
#define VM_DONTDUMP 0x4000000ull
#define VM_HUGEPAGE 0x20000000ull
#define VM_NOHUGEPAGE 0x40000000ull
#define VM_SEALED 0x100000000ull
#define VM_DROPPABLE 0x200000000ull /* MAP_DROPPABLE: never locked; its pages may be dropped under pressure */

#define VM_ACCESS_FLAGS (VM_READ | VM_WRITE | VM_EXEC)
#define VM_LOCKED_MASK (VM_LOCKED | VM_LOCKONFAULT)
#define VM_SPECIAL (VM_DONTEXPAND)

struct vma {
	u64 start, end;		 /* W A I: bytes, page-aligned, end exclusive */
	struct quire_mm *mm;	 /* const while attached; atomic read by RCU readers */
	u64 page_prot;		 /* W: vma_flags_to_prot(flags) */
	u64 flags;		 /* W, read anywhere with READ_ONCE: VM_*, only values that were asked for (S4-R4) */
	u64 pgoff;		 /* W A I: file offset of start in pages; anonymous: start >> PAGE_SHIFT when created */
	struct quire_file *file; /* W: one reference, or NULL */
	struct anon_vma
		*anon_vma; /* NULL until the first private page; set under the mmap lock (read) + page_table_lock */
	struct list_head anon_vma_chain;  /* m write, or anon_vma prepare */
	struct interval_node i_mmap_node; /* I */
	u32 refcnt;   /* a: 0 detached; 1 + readers attached; VMA_WRITER bit while a writer drains readers */
	u64 lock_seq; /* a, mmap write to change: equal to mm->lock_seq means write-locked now */
	struct list_head unmap_list; /* of the operation that detached it */
};

#define VMA_WRITER 0x40000000u

static inline u64 vma_pages(const struct vma *vma)
{
	return (vma->end - vma->start) >> PAGE_SHIFT;
}

/* Page offset in the backing (file or anonymous) of an address of the VMA. */
static inline u64 vma_linear_index(const struct vma *vma, u64 addr)
{
	return vma->pgoff + ((addr - vma->start) >> PAGE_SHIFT);
}

static inline bool vma_is_anonymous(const struct vma *vma)
{
	return vma->file == NULL;
}

/* The lowest address that no other mapping may use: a stack keeps a gap below it. */
static inline u64 vma_start_gap(const struct vma *vma)
{
	if (!(vma->flags & VM_GROWSDOWN))
		return vma->start;
	return vma->start > STACK_GUARD_GAP ? vma->start - STACK_GUARD_GAP : 0;
}

/* ---- vma.c: life. The mmap lock is held for write throughout. */

/* A detached VMA with flags and range set, nothing linked. NULL: no memory. */
struct vma *vma_alloc(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, u64 flags);
/* A detached copy with no anon_vma, no links, and its own file reference. NULL: no memory. */
struct vma *vma_dup(struct quire_cpu *cpu, const struct vma *vma);
/* Frees a detached VMA: drops the file reference. Its anon_vmas are unlinked already. May sleep. */
void vma_free(struct quire_cpu *cpu, struct vma *vma);

/* page_prot from the flags: what an entry of this VMA may allow. A private or write-notified entry gets _PAGE_RW only when
 * the fault has made it safe. */
static inline u64 vma_flags_to_prot(u64 flags)
{
	u64 prot = _PAGE_USER;

	prot |= flags & VM_ACCESS_FLAGS ? _PAGE_PRESENT : _PAGE_PROTNONE;
	prot |= flags & VM_WRITE ? _PAGE_RW : 0;
	prot |= flags & VM_EXEC ? 0 : _PAGE_NX;
	return prot;
}

/* ---- vma_lock.c */

/* Under RCU: the attached VMA of @mm that holds @addr, read-locked; NULL when there is none or it is being changed (take
 * the mmap lock then). The RCU section is over on return; end with vma_end_read. */
struct vma *lock_vma_under_rcu(struct quire_cpu *cpu, struct quire_mm *mm, u64 addr);
/* Takes the read lock of a VMA that the mmap lock (read) keeps in place. Always succeeds: no writer can exist. */
void vma_start_read_locked(struct vma *vma);
void vma_end_read(struct quire_cpu *cpu, struct vma *vma);
/* mmap write lock held: waits for readers; nobody reads until the mmap lock is unlocked or downgraded. Idempotent. */
void vma_start_write(struct quire_cpu *cpu, struct vma *vma);
void vma_mark_attached(struct vma *vma);
/* Waits for readers to leave; afterwards none can enter. */
void vma_mark_detached(struct quire_cpu *cpu, struct vma *vma);
void vma_assert_write_locked(const struct vma *vma);

#endif
