/* SPDX-License-Identifier: MIT */
/*
 * Page tables in the format of x86-64, four levels (PGD, PUD, PMD, PTE; Linux's folded P4D has no name here), leaves at
 * the PTE and the PMD level. An entry is a plain u64: pte_t and pmd_t say which level is meant, and nothing more.
 *
 * Each table has one split lock, in its struct ptdesc: it protects every entry of that table. To install or remove a child
 * table hold the parent's lock. Tables are freed through RCU after the TLB flush (mm/gather.h).
 *
 * Who may walk without the PTL: the MMU in user mode; anybody in an RCU section, with every entry read once and checked
 * again under the lock (pte_offset_map_lock does so and returns NULL when the table went away).
 */
#ifndef QUIRE_MM_PGTABLE_H
#define QUIRE_MM_PGTABLE_H

#include "machine/mmu.h"
#include "mm/frame.h"

struct quire_mm;

typedef u64 pte_t;
typedef u64 pmd_t;

/*
 * Software bits of a present entry. An entry of a PROT_NONE mapping is present for us (it maps a folio) but not for the MMU:
 * PROTNONE instead of PRESENT. Entries that are not present (mm/softleaf.h) have both clear.
 */
#define _PAGE_PROTNONE (1ull << 8)
/* What a non-leaf entry allows: everything; the leaf decides. */
#define TABLE_BITS (_PAGE_PRESENT | _PAGE_RW | _PAGE_USER | _PAGE_ACCESSED)
#define _PAGE_MLOCKED (1ull << 52)    /* counted in folio->mlock_count: the VMA was VM_LOCKED when this was mapped */
#define _PAGE_SPECIAL (1ull << 9)     /* no folio behind it: the zero page */
#define _PAGE_UFFD_WP (1ull << 10)    /* later: userfaultfd write protection */
#define _PAGE_SOFT_DIRTY (1ull << 11) /* later: soft-dirty tracking */

struct ptdesc {
	struct spinlock ptl; /* orders after folio, i_mmap and anon_vma locks */
	u32 pfn;	     /* const: its frame */
	u32 level;	     /* const: 0 PTE, 1 PMD, 2 PUD, 3 PGD */
	struct quire_mm *mm; /* const while linked */
	struct ptdesc
		*deposit; /* ptl: PMD tables: PTE tables set aside, one per leaf PMD, so that splitting cannot fail */
	struct rcu_head rcu;
} cache_aligned;

/* -------------------------------------------------------------------------------- present entries: predicates */

static inline bool pte_none(pte_t pte)
{
	return pte == 0;
}

static inline bool pte_present(pte_t pte)
{
	return pte & (_PAGE_PRESENT | _PAGE_PROTNONE);
}

static inline bool pte_write(pte_t pte)
{
	return pte & _PAGE_RW;
}

static inline bool pte_dirty(pte_t pte)
{
	return pte & _PAGE_DIRTY;
}

static inline bool pte_young(pte_t pte)
{
	return pte & _PAGE_ACCESSED;
}

static inline bool pte_special(pte_t pte)
{
	return pte & _PAGE_SPECIAL;
}

static inline u64 pte_pfn(pte_t pte)
{
	return (pte & _PAGE_PFN_MASK) >> PAGE_SHIFT;
}

static inline bool pmd_none(pmd_t pmd)
{
	return pmd == 0;
}

static inline bool pmd_leaf(pmd_t pmd)
{
	return (pmd & _PAGE_PSE) && pte_present(pmd);
}

static inline bool pmd_table(pmd_t pmd)
{
	return (pmd & (_PAGE_PRESENT | _PAGE_PSE)) == _PAGE_PRESENT;
}

/* A leaf entry of frame @pfn with the permission bits @prot (struct vma.page_prot), not accessed, not dirty. */
static inline pte_t pte_mk(u64 pfn, u64 prot)
{
	return pfn << PAGE_SHIFT | prot;
}

/* Entries are read and written whole. The MMU sets accessed and dirty bits concurrently, so changing a present entry
 * that the MMU may use goes through pte_get_and_clear (then set) or a compare-and-swap; never read, modify, write. */
static inline pte_t pte_read(const pte_t *ptep)
{
	return __atomic_load_n(ptep, __ATOMIC_ACQUIRE);
}

/* Release: what the entry points to (zeroed page, new table) is visible before the entry is (race B103). */
static inline void pte_set(pte_t *ptep, pte_t pte)
{
	__atomic_store_n(ptep, pte, __ATOMIC_RELEASE);
}

static inline pte_t pte_get_and_clear(pte_t *ptep)
{
	return __atomic_exchange_n(ptep, 0, __ATOMIC_ACQ_REL);
}

static inline bool pte_cmpxchg(pte_t *ptep, pte_t *old, pte_t new_pte)
{
	return __atomic_compare_exchange_n(ptep, old, new_pte, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/*
 * Has the MMU nothing left to set in this present entry? It sets accessed once, and dirty only through a writable entry. Such
 * an entry changes under its PTL only, so whoever holds that may read, modify and plainly write it.
 */
static inline bool pte_settled(pte_t pte)
{
	return (pte & _PAGE_ACCESSED) && (pte & (_PAGE_DIRTY | _PAGE_RW)) != _PAGE_RW;
}

/* Clears the writable bit of the entry that was read as @pte, keeping what the MMU sets meanwhile. PTL held. */
static inline void pte_wrprotect(pte_t *ptep, pte_t pte)
{
	if (pte_settled(pte))
		pte_set(ptep, pte & ~_PAGE_RW);
	else
		__atomic_fetch_and(ptep, ~_PAGE_RW, __ATOMIC_ACQ_REL);
}

/* -------------------------------------------------------------------------------- walking */

static inline u64 pmd_addr_end(u64 addr, u64 end)
{
	u64 next = (addr + PMD_SIZE) & PMD_MASK;

	return next < end ? next : end;
}

static inline unsigned pte_index(u64 addr)
{
	return addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1);
}

static inline unsigned table_index(u64 addr, unsigned level)
{
	return addr >> (PAGE_SHIFT + 9 * level) & (PTRS_PER_TABLE - 1);
}

/* The entries of table @pt. */
u64 *ptdesc_entries(struct quire *q, const struct ptdesc *pt);
/* The table that a non-leaf entry names. */
struct ptdesc *entry_table(struct quire *q, u64 entry);

/* The PMD entry of @addr, or NULL when an upper level is missing. The caller excludes the freeing of upper tables: VMA
 * lock, mmap lock, rmap lock of a VMA that spans it, or RCU. *pmd_table_out is the table that it stands in. */
pmd_t *pmd_offset(struct quire_mm *mm, u64 addr, struct ptdesc **pmd_table_out);
/* Advances *addr, below @end, to the next address whose PMD entry is not none, skipping upper levels that are missing.
 * NULL: no more. The same exclusion. */
pmd_t *pmd_next(struct quire_mm *mm, u64 *addr, u64 end, struct ptdesc **pmd_table_out);
/* The same, making tables that are missing. NULL: no memory. mmap or VMA lock held. May sleep. */
pmd_t *pmd_alloc(struct quire_cpu *cpu, struct quire_mm *mm, u64 addr, struct ptdesc **pmd_table_out);
/* Makes the PTE table below @pmdp if it is none. 0, or -ENOMEM. A leaf that appeared meanwhile is success too. */
int pte_alloc(struct quire_cpu *cpu, struct quire_mm *mm, struct ptdesc *pmd_tbl, pmd_t *pmdp);

/*
 * The PTE of @addr with the table's lock held, or NULL when @pmdp names no table (none, leaf, or it changed under us):
 * the caller starts again or skips. *pt is the locked table; unlock with pte_unmap_unlock.
 */
pte_t *pte_offset_map_lock(struct quire_mm *mm, pmd_t *pmdp, u64 addr, struct ptdesc **pt);
static inline void pte_unmap_unlock(struct ptdesc *pt)
{
	spin_unlock(&pt->ptl);
}

/* The PTE of @addr without the lock: for a first look that is checked again under it. NULL when there is no table. */
pte_t *pte_offset_lockless(struct quire_mm *mm, pmd_t *pmdp, u64 addr);

/* Sets aside, and takes back, a PTE table for a leaf PMD. The PMD table's lock is held. */
void pgtable_deposit(struct ptdesc *pmd_tbl, struct ptdesc *pt);
struct ptdesc *pgtable_withdraw(struct ptdesc *pmd_tbl);

/* Root table of a new address space (NULL: no memory), and its end: all lower tables are gone already. */
struct ptdesc *pgd_alloc(struct quire_cpu *cpu, struct quire_mm *mm);
void pgd_free(struct quire_cpu *cpu, struct quire_mm *mm);

/* Allocates a zeroed table of @level; frees one that was never linked, or is unlinked and flushed and past its grace
 * period (ptdesc_free), or schedules that (ptdesc_free_rcu). */
struct ptdesc *ptdesc_alloc(struct quire_cpu *cpu, struct quire_mm *mm, unsigned level);
void ptdesc_free(struct quire_cpu *cpu, struct ptdesc *pt);
void ptdesc_free_rcu(struct quire_cpu *cpu, struct ptdesc *pt);

#endif
