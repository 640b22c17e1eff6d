/* SPDX-License-Identifier: MIT */
/*
 * The software MMU: the page walker behind the TLB, and what the TLB does when its first look finds nothing. See mmu.h.
 *
 * The walker reads each entry once and never writes but for accessed and dirty, which it sets in the very entry that it
 * checked: had that changed meanwhile, it would mark an entry that may map something else by now. Entries that are not
 * present are never cached.
 */
#include "machine/mmu.h"

/* ---------------------------------------------------------------------------------------- the walk */

/* May @entry, at any level, be used for @access? */
static bool entry_permits(u64 entry, enum mmu_access access)
{
	if ((entry & (_PAGE_PRESENT | _PAGE_USER)) != (_PAGE_PRESENT | _PAGE_USER))
		return false;
	switch (access) {
	case MMU_WRITE:
		return entry & _PAGE_RW;
	case MMU_EXEC:
		return !(entry & _PAGE_NX);
	case MMU_READ:
		break;
	}
	return true;
}

static bool entry_is_leaf(u64 entry, unsigned level)
{
	return level == 0 || (level == 1 && (entry & _PAGE_PSE));
}

/*
 * Sets accessed (and dirty) in the leaf with a compare-and-swap against the entry that was checked. False: it changed, and
 * has to be looked at again.
 */
static bool leaf_mark(u64 *leaf, u64 *entry, enum mmu_access access)
{
	u64 marked = *entry | _PAGE_ACCESSED | (access == MMU_WRITE ? _PAGE_DIRTY : 0);

	if (marked != *entry &&
	    !__atomic_compare_exchange_n(leaf, entry, marked, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return false;
	*entry = marked;
	return true;
}

/*
 * The leaf entry for @va, marked for @access, and its level. 0: page fault. The loads acquire: they pair with the release
 * that published a table or a page after it was filled.
 */
static u64 walk(u8 *frames, u64 root, u64 va, enum mmu_access access, unsigned *level)
{
	u64 *table = (u64 *)(void *)(frames + (root << PAGE_SHIFT));

	for (*level = 3;;) {
		u64 *slot = table + (va >> (PAGE_SHIFT + 9 * *level) & (PTRS_PER_TABLE - 1));
		u64 entry = smp_load_acquire(slot);

		if (!entry_permits(entry, access))
			return 0;
		if (!entry_is_leaf(entry, *level)) {
			table = (u64 *)(void *)(frames + (entry & _PAGE_PFN_MASK));
			--*level;
		} else if (leaf_mark(slot, &entry, access)) {
			return entry;
		}
	}
}

/* ---------------------------------------------------------------------------------------- filling */

static u64 leaf_tag(u64 page, u64 leaf)
{
	bool write = (leaf & (_PAGE_RW | _PAGE_DIRTY)) == (_PAGE_RW | _PAGE_DIRTY);

	return page | TLB_VALID | (write ? TLB_WRITE : 0) | (leaf & _PAGE_NX ? 0 : TLB_EXEC);
}

static bool tag_is_page(u64 tag, u64 page)
{
	return (tag & (PAGE_MASK | TLB_VALID)) == (page | TLB_VALID);
}

static struct tlb_entry *tlb_set(struct tlb *tlb, u64 va)
{
	return tlb->set[va >> PAGE_SHIFT & (TLB_SETS - 1)];
}

static struct tlb_entry *tlb_huge(struct tlb *tlb, u64 va)
{
	return &tlb->huge[va >> PMD_SHIFT & (TLB_HUGE_ENTRIES - 1)];
}

/* The 4 KiB entry for @page, whatever it allows, or NULL. */
static struct tlb_entry *tlb_find(struct tlb *tlb, u64 page)
{
	struct tlb_entry *set = tlb_set(tlb, page);

	for (unsigned way = 0; way < TLB_WAYS; way++)
		if (tag_is_page(set[way].tag, page))
			return &set[way];
	return NULL;
}

/* Over an older entry for the same page, which there may be once only; else round robin. */
static struct tlb_entry *tlb_victim(struct tlb *tlb, u64 page)
{
	u8 *victim = &tlb->victim[page >> PAGE_SHIFT & (TLB_SETS - 1)];
	struct tlb_entry *same = tlb_find(tlb, page);

	if (same)
		return same;
	*victim = (u8)((*victim + 1) % TLB_WAYS);
	return &tlb_set(tlb, page)[*victim];
}

static void count(u64 *counter)
{
	WRITE_ONCE(*counter, *counter + 1);
}

/* Walks and fills. A store that has an entry walks to set dirty. What faults is counted as a fault, not as a miss. */
static u8 *tlb_miss(struct tlb *tlb, u8 *frames, u64 root, u64 va, enum mmu_access access)
{
	struct tlb_entry *entry;
	unsigned level;
	u64 leaf = va < TASK_SIZE ? walk(frames, root, va, access, &level) : 0, size_mask;

	if (!leaf)
		return NULL;
	size_mask = level ? PMD_MASK : PAGE_MASK;
	entry = level ? tlb_huge(tlb, va) : tlb_victim(tlb, va & PAGE_MASK);
	count(tag_is_page(entry->tag, va & size_mask) ? &tlb->nr_dirty_assist : &tlb->nr_miss);
	entry->tag = leaf_tag(va & size_mask, leaf);
	entry->frame = frames + (leaf & _PAGE_PFN_MASK & size_mask);
	tlb->filled = true;
	return entry->frame + (va & ~size_mask);
}

u8 *mmu_translate_slow(struct tlb *tlb, u8 *frames, u64 root, u64 va, enum mmu_access access)
{
	const struct tlb_entry *huge = tlb_huge(tlb, va);
	u64 need = tlb_need(access);

	if ((huge->tag & (PMD_MASK | need)) == ((va & PMD_MASK) | need)) {
		count(&tlb->nr_hit);
		return huge->frame + (va & ~PMD_MASK);
	}
	return tlb_miss(tlb, frames, root, va, access);
}

/* ---------------------------------------------------------------------------------------- invalidation */

static void flush_small(struct tlb *tlb, u64 page)
{
	struct tlb_entry *entry = tlb_find(tlb, page);

	if (entry)
		entry->tag = 0;
}

static void flush_huge(struct tlb *tlb, u64 va)
{
	struct tlb_entry *huge = tlb_huge(tlb, va);

	if (tag_is_page(huge->tag, va & PMD_MASK))
		huge->tag = 0;
}

void mmu_flush_page(struct tlb *tlb, u64 va)
{
	flush_small(tlb, va & PAGE_MASK);
	flush_huge(tlb, va);
}

void mmu_flush_range(struct tlb *tlb, u64 start, u64 end)
{
	if (!tlb->filled)
		return;
	for (u64 va = start; va < end; va += PAGE_SIZE)
		flush_small(tlb, va);
	for (u64 va = start & PMD_MASK; va < end; va += PMD_SIZE)
		flush_huge(tlb, va);
}

void mmu_flush_all(struct tlb *tlb)
{
	if (!tlb->filled)
		return;
	memset(tlb->set, 0, sizeof(tlb->set));
	memset(tlb->huge, 0, sizeof(tlb->huge));
	tlb->filled = false;
}
