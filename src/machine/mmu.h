/* SPDX-License-Identifier: MIT */
/*
 * The hardware that a processor manual describes: x86-64 page-table entries, the page walker and a TLB. It is software
 * here, used alike by real threads and by the checker. It obeys the tables and nothing else: a stale TLB entry really does
 * read and write the old frame.
 */
#ifndef QUIRE_MMU_H
#define QUIRE_MMU_H

#include "machine/machine.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE (1ull << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define PMD_SHIFT 21
#define PMD_SIZE (1ull << PMD_SHIFT)
#define PMD_MASK (~(PMD_SIZE - 1))
#define PUD_SHIFT 30
#define P4D_SHIFT 39
#define PTRS_PER_TABLE 512u
#define TASK_SIZE (0x7ffffffff000ull) /* end of user addresses, as Linux with four levels */

/* Bits of a present entry, as Intel SDM vol. 3 table 4-20. NX is inverted logic: set means no instruction fetch. */
#define _PAGE_PRESENT (1ull << 0)
#define _PAGE_RW (1ull << 1)
#define _PAGE_USER (1ull << 2)
#define _PAGE_ACCESSED (1ull << 5)
#define _PAGE_DIRTY (1ull << 6)
#define _PAGE_PSE (1ull << 7) /* a leaf at the PMD level */
#define _PAGE_NX (1ull << 63)
#define _PAGE_PFN_MASK 0x000ffffffffff000ull
/* Bits 9..11 and 52..58 are software's; see mm/pgtable.h. */

enum mmu_access {
	MMU_READ,
	MMU_WRITE,
	MMU_EXEC,
};

#define TLB_SETS 128u
#define TLB_WAYS 4u
#define TLB_HUGE_ENTRIES 32u

/*
 * Bits of a tag, below the page number: what the entry allows without another walk. WRITE is set only when the page-table
 * entry is writable *and* dirty, so that the first store through a clean entry walks again and sets dirty.
 */
#define TLB_VALID 1ull
#define TLB_WRITE 2ull
#define TLB_EXEC 4ull

struct tlb_entry {
	u64 tag;   /* page number << 12 | bits; 0: empty */
	u8 *frame; /* host address of the 4 KiB (or 2 MiB) frame */
};

/* A CPU's TLB for the address space it runs. Touched by its CPU only; others ask by inter-processor interrupt. */
struct tlb {
	struct tlb_entry set[TLB_SETS][TLB_WAYS] cache_aligned; /* a set is a cache line */
	struct tlb_entry huge[TLB_HUGE_ENTRIES];		/* leaf PMDs, directly mapped */
	u8 victim[TLB_SETS];					/* next way to replace, round robin */
	bool filled;						/* something was filled in since all was flushed */
	u64 nr_hit, nr_miss, nr_dirty_assist;			/* read by sums */
};

/* What a tag must have for an access. */
static inline u64 tlb_need(enum mmu_access access)
{
	return TLB_VALID | (access == MMU_WRITE ? TLB_WRITE : 0) | (access == MMU_EXEC ? TLB_EXEC : 0);
}

/* What mmu_translate does when no 4 KiB entry allows the access. The same contract. */
u8 *mmu_translate_slow(struct tlb *tlb, u8 *frames, u64 root, u64 va, enum mmu_access access);

/*
 * Finds where @va is for @access: through the TLB, else by a walk from the table frame @root, which sets the accessed (and
 * for a write the dirty) bit by compare-and-swap and fills the TLB. Returns the host address of the byte, or NULL for a
 * page fault. @frames is the host address of frame 0. Caller: the TLB's CPU, in user mode (see mm/tlb.h), which keeps
 * tables from being freed under the walk. Never sleeps. Inline: this is what a replay does most.
 */
static inline u8 *mmu_translate(struct tlb *tlb, u8 *frames, u64 root, u64 va, enum mmu_access access)
{
	const struct tlb_entry *set = tlb->set[va >> PAGE_SHIFT & (TLB_SETS - 1)];
	u64 need = tlb_need(access);

	for (unsigned way = 0; way < TLB_WAYS; way++) {
		if (likely((set[way].tag & (PAGE_MASK | need)) == ((va & PAGE_MASK) | need))) {
			WRITE_ONCE(tlb->nr_hit, tlb->nr_hit + 1);
			return set[way].frame + (va & ~PAGE_MASK);
		}
	}
	return mmu_translate_slow(tlb, frames, root, va, access);
}

/* Invalidations of the CPU's own TLB; the range is in bytes, page-aligned, and covers huge entries that overlap it. */
void mmu_flush_page(struct tlb *tlb, u64 va);
void mmu_flush_range(struct tlb *tlb, u64 start, u64 end);
void mmu_flush_all(struct tlb *tlb);

#endif
