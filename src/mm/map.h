/* SPDX-License-Identifier: MIT */
/*
 * What the address-space calls (mmap, munmap, mprotect, mremap, brk, mlock, madvise, mseal) share: sums and limits,
 * splitting and merging of VMAs, placement, and unmapping. Everything here needs the mmap lock for write unless it says
 * otherwise; nobody outside the calls and fork needs it.
 */
#ifndef QUIRE_MM_MAP_H
#define QUIRE_MM_MAP_H

#include "mm/fault.h"
#include "mm/instance.h"

/* As Linux's PAGE_ALIGN: wraps to 0 for the last page of the number range, which callers test for. */
static inline u64 page_align(u64 bytes)
{
	return (bytes + PAGE_SIZE - 1) & PAGE_MASK;
}

static inline bool page_aligned(u64 value)
{
	return !(value & ~PAGE_MASK);
}

static inline u64 min_u64(u64 a, u64 b)
{
	return a < b ? a : b;
}

/* ---------------------------------------------------------------------------------------- account.c: sums and limits */

/* Adds @pages (perhaps negative) of a mapping with @flags to total_vm and the sum of its kind; to locked_vm too. */
void mm_account(struct quire_mm *mm, u64 flags, s64 pages);
/* Takes @pages, mapped with @from, out of the sums, and puts them in as mapped with @to. */
void mm_account_change(struct quire_mm *mm, u64 from, u64 to, s64 pages);
/* May @pages more with @flags be mapped, as RLIMIT_AS and RLIMIT_DATA say? mmap lock held. */
bool may_expand_vm(const struct quire_mm *mm, u64 flags, u64 pages);
/* RLIMIT_MEMLOCK: in pages; may anything be locked; may @bytes more with @flags be. mmap lock held for the last. */
u64 memlock_limit(const struct quire_mm *mm);
bool can_do_mlock(const struct quire_mm *mm);
bool mlock_future_ok(const struct quire_mm *mm, u64 flags, u64 bytes);
/* One mapping more, and the limit on their number is passed. mmap lock held. */
static inline bool map_count_full(const struct quire_mm *mm)
{
	return mm->tree.count >= DEFAULT_MAX_MAP_COUNT;
}

/* ---------------------------------------------------------------------------------------- mlock.c */

/* mm_populate of each VMA in [start, end) with (flags & @mask)
 * == @wanted, whether the others succeed or not. No lock held. */
void mm_populate_each(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, u64 mask, u64 wanted);

/* ---------------------------------------------------------------------------------------- vma.c: links and splits */

/* Changes the flags with one store (S4-R4), and page_prot. Write-locks the VMA. */
void vma_set_flags(struct quire_cpu *cpu, struct vma *vma, u64 flags);
/* i_mmap of the VMA's file, if it has one: takes the VMA out of the tree or puts it in, with its present bounds. The
 * file's i_mmap_rwsem is held for write. */
void vma_i_mmap_remove(struct vma *vma);
void vma_i_mmap_insert(struct vma *vma);
/* Counts a shared mapping that may be written in its file, or forgets it. */
void vma_i_mmap_count(struct vma *vma, int delta);
/* The rmap locks that guard the bounds of VMAs of @file and @anon_vma (either may be NULL), in their order. */
void vma_rmap_lock(struct quire_file *file, struct anon_vma *anon_vma);
void vma_rmap_unlock(struct quire_file *file, struct anon_vma *anon_vma);
/* Makes a finished VMA part of the address space: write-locked before anybody can see it (B71). One change of @txn. */
void vma_link(struct quire_cpu *cpu, struct vma_txn *txn, struct vma *vma);
/* The same with a transaction of its own. 0 or -ENOMEM. */
int vma_insert(struct quire_cpu *cpu, struct vma *vma);
/* The opposite for the file: after it no rmap walk through the file reaches the VMA. */
void vma_unlink_file(struct vma *vma);
/* A leaf PMD that spans @addr becomes a table, so that a boundary can be there. The VMA is write-locked. */
void vma_split_leaf(struct quire_cpu *cpu, struct vma *vma, u64 addr);
/* @vma keeps [start, @addr), a new VMA has the rest. 0 or -ENOMEM. Does not look at the map count. */
int vma_split(struct quire_cpu *cpu, struct vma *vma, u64 addr);

/* ---------------------------------------------------------------------------------------- vma_merge.c */

/*
 * A range and the properties that it is to have. Asked: with which neighbours can it be one VMA? The upper part is the
 * question, the lower the answer of vma_merge_plan.
 */
struct vma_merge {
	struct quire_mm *mm;
	struct vma *prev,
		*next; /* the VMAs before and after the range (or @middle), adjacent or not; NULL: none, or not wanted */
	struct vma *middle; /* the VMA that [start, end) is now part of; NULL: a new range */
	u64 start, end;
	u64 pgoff; /* of start */
	u64 flags;
	struct quire_file *file;
	struct anon_vma *anon_vma;
	struct vma *copied_from; /* mremap: the VMA whose pages move into the new range */

	struct vma *target; /* who grows; NULL: nobody can */
	bool left, right;   /* into prev, into next; both: all become prev */
	struct vma *cloned; /* target, when prepare gave it an anon_vma */
};

#define VMA_MERGE_CHANGES 3u /* of a transaction, at most */

/* Decides. False: no merge; nothing was changed in either case. */
bool vma_merge_plan(struct vma_merge *merge);
/* Does all that can fail. 0 or -ENOMEM with nothing changed. Then commit or abort. */
int vma_merge_prepare(struct quire_cpu *cpu, struct vma_merge *merge);
/* Grows the target over the range and removes whom it swallows. Cannot fail. Uses VMA_MERGE_CHANGES of @txn. */
struct vma *vma_merge_commit(struct quire_cpu *cpu, struct vma_merge *merge, struct vma_txn *txn);
void vma_merge_abort(struct quire_cpu *cpu, struct vma_merge *merge);

/* All of these for a new range that is free already. NULL in *@out when it cannot be merged. 0 or -ENOMEM. */
int vma_merge_new_range(struct quire_cpu *cpu, struct vma_merge *merge, struct vma **out);

/*
 * Gives [start, end), which lies in *@vmap, the flags @flags: merges it with neighbours that have them already, or
 * else splits it off. On success *@vmap is the VMA that the range is in now. 0; -ENOMEM, perhaps with one of two
 * splits done, as in Linux.
 */
int vma_modify_flags(struct quire_cpu *cpu, struct vma **vmap, u64 start, u64 end, u64 flags);

/* ---------------------------------------------------------------------------------------- unmapped_area.c */

/*
 * The lowest address where the kernel puts something by itself: Linux has it built in (LSM_MMAP_MIN_ADDR), and a
 * sysctl, our mm->mmap_min_addr, that can raise it, and that alone decides what a program may ask for.
 */
#define MIN_PLACE_ADDR (64ull << 10)
static inline u64 lowest_place(const struct quire_mm *mm)
{
	return mm->mmap_min_addr > MIN_PLACE_ADDR ? mm->mmap_min_addr : MIN_PLACE_ADDR;
}

/*
 * Where a mapping of @len bytes goes (@flags: MAP_FIXED, MAP_32BIT, MAP_SHARED; @addr: the hint, or 0). mmap lock
 * held. The address, or -ENOMEM, -EINVAL (not aligned), -EPERM (below mmap_min_addr).
 */
s64 get_unmapped_area(const struct quire_mm *mm, const struct quire_file *file, u64 addr, u64 len, u64 pgoff,
		      u64 flags);

/* ---------------------------------------------------------------------------------------- munmap.c */

/* VMAs on their way out: detached from the tree, perhaps with entries still. */
struct vma_unmap {
	struct quire_mm *mm;
	u64 start, end;
	u64 floor, ceiling; /* what page tables may be freed: up to the neighbours; a ceiling of 0 is the top */
	u64 pages;
	struct list_head vmas; /* by unmap_list, in order of address; vmas_free frees them when all is done */
};

/*
 * Splits at both ends, and lists the VMAs of [start, end) without changing them. -EPERM: one is sealed. -ENOMEM. Splits
 * that were done before an error stay.
 */
int unmap_gather(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, struct vma_unmap *unmap);
/* Steps 1 and 2 of munmap.c: the range is out of the tree. On an error nothing is left to do. */
int unmap_begin(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, struct vma_unmap *unmap);
/* The rest, and the end of the mmap lock: held for read at most while the range is emptied. */
void unmap_finish_unlock(struct quire_cpu *cpu, struct vma_unmap *unmap);
/* Gives up what was gathered: nothing is unmapped. Returns @error. */
int unmap_cancel(struct vma_unmap *unmap, int error);
/* Takes them out of the tree and the sums: no fault can reach them. One change of @txn. */
void unmap_detach(struct quire_cpu *cpu, struct vma_unmap *unmap, struct vma_txn *txn);
/* Empties and unlinks them, and frees their page tables. mmap
 * lock held, read is enough; or noted by mmap_unmap_begin. */
void unmap_pages(struct quire_cpu *cpu, struct vma_unmap *unmap);

/*
 * Unmaps [start, end), page-aligned, whatever is there. 0, -EPERM, -ENOMEM. The first keeps the mmap lock and leaves
 * the VMAs on @gone (by unmap_list) for vmas_free, which needs no lock. The second unlocks it in any case, and holds
 * it for read at most while it empties the range.
 */
int do_munmap(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end, struct list_head *gone);
void vmas_free(struct quire_cpu *cpu, struct list_head *gone);
int do_munmap_unlock(struct quire_cpu *cpu, struct quire_mm *mm, u64 start, u64 end);

#endif
