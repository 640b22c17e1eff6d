/* SPDX-License-Identifier: MIT */
/* struct quire_mm: an address space, its locks, and what belongs to all of it. */
#ifndef QUIRE_MM_MM_H
#define QUIRE_MM_MM_H

#include "mm/counters.h"
#include "mm/linux.h"
#include "mm/tlb.h"
#include "mm/vma_tree.h"

/* Pages resident, written by one CPU each. */
struct mm_cpu_counters {
	s64 rss[NR_MM_COUNTERS];
	s64 tables; /* page tables, in frames */
} cache_aligned;

/* Limits in bytes; ~0 is none. Atomic. */
struct mm_limits {
	u64 as, data, stack, memlock;
};

/*
 * A range that munmap has taken out of the tree and empties without the mmap lock, rounded to whole PTE tables: nothing may
 * be mapped there yet. Legend: W mmap lock for write; a atomic.
 */
struct mm_unmap {
	u64 start; /* W */
	u64 end;   /* a: 0: no range. Set under W, cleared by who set it */
};
#define MM_UNMAPS 8u
#define MM_UNMAP_WAITER 0x80000000u

/*
 * Legend: W mmap lock for write to change, read (or write) to read; a atomic; c constant after creation.
 */
struct quire_mm {
	struct quire *q;	  /* c */
	struct list_head mm_list; /* q->mm_lock */
	u32 users;		  /* a: quire_mm_get/put; the last put runs exit_mmap */
	struct rwsem mmap_lock cache_aligned;
	u64 lock_seq;			 /* mmap write to change (release), a: number of write sections; vma_lock.c */
	struct vma_tree tree;		 /* W */
	struct ptdesc *pgd;		 /* c */
	struct spinlock page_table_lock; /* vma->anon_vma NULL -> set */
	u32 write_protect_seq;		 /* a, odd while fork write-protects: for lockless pins (S2-R3) */
	u64 total_vm, data_vm, exec_vm, stack_vm; /* W: pages */
	u64 locked_vm;				  /* W: pages in VM_LOCKED VMAs */
	u64 def_flags;				  /* W: VM_LOCKED_MASK bits that new VMAs get (mlockall MCL_FUTURE) */
	u64 mmap_base, mmap_min_addr;		  /* c */
	u64 start_brk, brk;			  /* W: bytes; 0: no heap */
	struct mm_limits limits;		  /* a */
	struct mm_unmap unmaps[MM_UNMAPS];
	u32 unmapping; /* a: how many unmaps there are; MM_UNMAP_WAITER: somebody sleeps on this word */
	struct mm_cpu_counters *counters; /* c: [nr_cpus] */
	struct mm_tlb tlb;
	struct rcu_head rcu;
};

/* ---- vma_lock.c. May sleep, but for trylock and unlock. Order: first but for inode_lock. */
void mmap_read_lock(struct quire_mm *mm);
bool mmap_read_trylock(struct quire_mm *mm);
void mmap_read_unlock(struct quire_mm *mm);
/* Also waits until every range that others have unmapped is empty, so that anything can be mapped anywhere. */
void mmap_write_lock(struct quire_mm *mm);
/* The same without that wait: for a section that maps nothing where nothing was mapped. */
void mmap_write_lock_unmapping(struct quire_mm *mm);
/* That wait, later. mmap lock held for write: those who empty ranges need no lock above a PTL. */
void mmap_wait_unmapped(struct quire_mm *mm);
/* Does a range that is being emptied overlap [start, end)? mmap lock held for write. */
bool mmap_unmapping(const struct quire_mm *mm, u64 start, u64 end);
/* Notes that [start, end) is about to be emptied without the mmap lock, which is still held for write. NULL: no room. */
struct mm_unmap *mmap_unmap_begin(struct quire_mm *mm, u64 start, u64 end);
/* It is empty, and nobody will look at its tables any more. No lock needed. */
void mmap_unmap_end(struct quire_mm *mm, struct mm_unmap *unmap);
/* Ends all VMA write locks of this section, then the lock (or turns it into a read lock). */
void mmap_write_unlock(struct quire_mm *mm);
void mmap_write_downgrade(struct quire_mm *mm);
/* Debug builds stop when nobody holds the lock (who holds it is not recorded). */
void mmap_assert_locked(struct quire_mm *mm);
void mmap_assert_write_locked(struct quire_mm *mm);

static inline void mm_rss_add(struct quire_mm *mm, unsigned cpu_id, enum mm_counter which, s64 pages)
{
	s64 *counter = &mm->counters[cpu_id].rss[which];

	WRITE_ONCE(*counter, READ_ONCE(*counter) + pages);
}

static inline void mm_tables_add(struct quire_mm *mm, unsigned cpu_id, s64 tables)
{
	s64 *counter = &mm->counters[cpu_id].tables;

	WRITE_ONCE(*counter, READ_ONCE(*counter) + tables);
}

/* Sum over CPUs; a racy snapshot that may be slightly off while others run, never negative. */
u64 mm_rss(struct quire_mm *mm, enum mm_counter which);
/* Page tables, the root included: likewise. */
u64 mm_tables(struct quire_mm *mm);

/* ---- mm.c: life. An empty address space with its root table, counters, and the default layout and limits, in q's list;
 * users = 1. NULL: no memory. May sleep. */
struct quire_mm *mm_alloc(struct quire_cpu *cpu);
/* Frees what mm_alloc made; the address space is empty and nobody uses it. */
void mm_free(struct quire_cpu *cpu, struct quire_mm *mm);
/* Unmaps everything (exit.c). The last user is gone, so nobody faults here; rmap walkers may still visit. May sleep. */
void exit_mmap(struct quire_cpu *cpu, struct quire_mm *mm);

#endif
