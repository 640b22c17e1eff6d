/* SPDX-License-Identifier: MIT */
/* Leaf PMDs: anonymous folios of order 9 mapped by one entry, and turning such an entry into a table of 512. */
#ifndef QUIRE_MM_HUGE_H
#define QUIRE_MM_HUGE_H

#include "mm/fault.h"

/*
 * Replaces the leaf PMD at @addr, if it is one, by the table set aside for it, mapping the same pages with the same
 * permissions. PageAnonExclusive of the first page spoke for all while mapped by a PMD; now each page has its own. The
 * VMA is locked in any way. Takes the PMD table's lock; never fails.
 */
void split_huge_pmd(struct quire_cpu *cpu, struct vma *vma, struct ptdesc *tbl, pmd_t *pmdp, u64 addr);

/* Maps a fresh order-9 folio for a write fault at @addr. FAULT_RETRY: the PMD is not none any more; -ENOMEM: use smaller
 * folios. The VMA's lock is held. */
int do_huge_anonymous(struct quire_cpu *cpu, struct vma *vma, struct ptdesc *tbl, pmd_t *pmdp, u64 addr);
/* Does [addr & PMD_MASK, + PMD_SIZE) lie in the VMA, and do policy and advice allow an order-9 folio? */
bool huge_allowed(const struct quire_cpu *cpu, const struct vma *vma, u64 addr);
/* A write to a read-only leaf PMD: reuses it when exclusive, else splits it. Always start the fault again. */
void do_huge_wp(struct quire_cpu *cpu, struct vma *vma, struct ptdesc *tbl, pmd_t *pmdp, u64 addr);

#endif
