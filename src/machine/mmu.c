/* SPDX-License-Identifier: MIT */
/* The software MMU: a set-associative TLB and the page walker behind it. See mmu.h. */
#include "machine/mmu.h"

/*
 * tag of an entry: page number << 12, and below it what the entry allows without another walk. WRITE is set only when the
 * page-table entry is writable *and* dirty, so that the first store through a clean entry walks again and sets dirty.
 */
#define TLB_VALID 1ull
#define TLB_WRITE 2ull
#define TLB_EXEC 4ull

/* What the tag must have for an access. */
static u64 tlb_need(enum mmu_access access)
{
	return TLB_VALID | (access == MMU_WRITE ? TLB_WRITE : 0) | (access == MMU_EXEC ? TLB_EXEC : 0);
}

static struct tlb_entry *tlb_set(struct tlb *tlb, u64 va)
{
	return tlb->set[va >> PAGE_SHIFT & (TLB_SETS - 1)];
}

static struct tlb_entry *tlb_huge(struct tlb *tlb, u64 va)
{
	return &tlb->huge[va >> PMD_SHIFT & (TLB_HUGE_ENTRIES - 1)];
}

static bool tag_allows(u64 tag, u64 page, u64 need)
{
	return (tag & ~(PAGE_SIZE - 1)) == page && (tag & need) == need;
}

/* ---------------------------------------------------------------------------------------- the walk */

/* May @entry be used for @access? It is present. */
static bool entry_permits(u64 entry, enum mmu_access access)
{
	if (!(entry & _PAGE_USER))
		return false;
	if (access == MMU_WRITE)
		return entry & _PAGE_RW;
	return access != MMU_EXEC || !(entry & _PAGE_NX);
}

/*
 * Sets accessed (and dirty) in the leaf with a compare-and-swap against the entry that was checked: if it changed
 * meanwhile the walk sees the new one. False: it changed.
 */
static bool leaf_mark(u64 *leaf, u64 *entry, enum mmu_access access)
{
	u64 marked = *entry | _PAGE_ACCESSED | (access == MMU_WRITE ? _PAGE_DIRTY : 0);

	if (marked != *entry && !__atomic_compare_exchange_n(leaf, entry, marked, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return false;
	*entry = marked;
	return true;
}

/* The leaf entry for @va, marked for @access, and its level; false: page fault. */
static bool walk(u8 *frames, u64 root, u64 va, enum mmu_access access, u64 *leaf_out, unsigned *level_out)
{
	u64 *table = (u64 *)(void *)(frames + (root << PAGE_SHIFT));

	for (unsigned level = 3;;) {
		u64 *slot = table + (va >> (PAGE_SHIFT + 9 * level) & (PTRS_PER_TABLE - 1));
		u64 entry = __atomic_load_n(slot, __ATOMIC_ACQUIRE);

		if (!(entry & _PAGE_PRESENT) || !entry_permits(entry, access))
			return false;
		if (level == 0 || (level == 1 && (entry & _PAGE_PSE))) {
			if (!leaf_mark(slot, &entry, access))
				continue; /* look at the same slot again */
			*leaf_out = entry;
			*level_out = level;
			return true;
		}
		table = (u64 *)(void *)(frames + (entry & _PAGE_PFN_MASK));
		level--;
	}
}

static u64 leaf_tag(u64 va, u64 leaf)
{
	bool write = (leaf & (_PAGE_RW | _PAGE_DIRTY)) == (_PAGE_RW | _PAGE_DIRTY);

	return va | TLB_VALID | (write ? TLB_WRITE : 0) | (leaf & _PAGE_NX ? 0 : TLB_EXEC);
}

/* Puts a 4 KiB entry in: over an older one for the same page if there is one, else round robin. */
static void tlb_fill(struct tlb *tlb, u64 page, struct tlb_entry entry)
{
	struct tlb_entry *set = tlb_set(tlb, page);
	u8 *victim = &tlb->victim[page >> PAGE_SHIFT & (TLB_SETS - 1)];

	for (unsigned way = 0; way < TLB_WAYS; way++) {
		if ((set[way].tag & ~(PAGE_SIZE - 1)) == page && (set[way].tag & TLB_VALID)) {
			set[way] = entry;
			return;
		}
	}
	set[*victim] = entry;
	*victim = (u8)((*victim + 1) % TLB_WAYS);
}

static u8 *tlb_miss(struct tlb *tlb, u8 *frames, u64 root, u64 va, enum mmu_access access)
{
	unsigned level;
	u8 *frame;
	u64 leaf;

	tlb->nr_miss++;
	if (va >= TASK_SIZE || !walk(frames, root, va, access, &leaf, &level))
		return NULL;
	if (level == 1) {
		frame = frames + (leaf & _PAGE_PFN_MASK & PMD_MASK);
		*tlb_huge(tlb, va) = (struct tlb_entry){ leaf_tag(va & PMD_MASK, leaf), frame };
		return frame + (va & ~PMD_MASK);
	}
	frame = frames + (leaf & _PAGE_PFN_MASK);
	tlb_fill(tlb, va & PAGE_MASK, (struct tlb_entry){ leaf_tag(va & PAGE_MASK, leaf), frame });
	return frame + (va & ~PAGE_MASK);
}

/* ---------------------------------------------------------------------------------------- looking up */

/* Counts a store that hits an entry without the right to write: it walks only to set dirty, if it may write at all. */
static void count_dirty_assist(struct tlb *tlb, u64 tag, u64 page, enum mmu_access access)
{
	if (access == MMU_WRITE && tag_allows(tag, page, TLB_VALID))
		tlb->nr_dirty_assist++;
}

u8 *mmu_translate(struct tlb *tlb, u8 *frames, u64 root, u64 va, enum mmu_access access)
{
	const struct tlb_entry *set = tlb_set(tlb, va), *huge = tlb_huge(tlb, va);
	u64 need = tlb_need(access);

	for (unsigned way = 0; way < TLB_WAYS; way++) {
		if (tag_allows(set[way].tag, va & PAGE_MASK, need)) {
			tlb->nr_hit++;
			return set[way].frame + (va & ~PAGE_MASK);
		}
		count_dirty_assist(tlb, set[way].tag, va & PAGE_MASK, access);
	}
	if (tag_allows(huge->tag, va & PMD_MASK, need)) {
		tlb->nr_hit++;
		return huge->frame + (va & ~PMD_MASK);
	}
	count_dirty_assist(tlb, huge->tag, va & PMD_MASK, access);
	return tlb_miss(tlb, frames, root, va, access);
}

/* ---------------------------------------------------------------------------------------- invalidation */

void mmu_flush_page(struct tlb *tlb, u64 va)
{
	struct tlb_entry *set = tlb_set(tlb, va), *huge = tlb_huge(tlb, va);

	for (unsigned way = 0; way < TLB_WAYS; way++)
		if ((set[way].tag & ~(PAGE_SIZE - 1)) == (va & PAGE_MASK))
			set[way].tag = 0;
	if ((huge->tag & ~(PAGE_SIZE - 1)) == (va & PMD_MASK))
		huge->tag = 0;
}

void mmu_flush_range(struct tlb *tlb, u64 start, u64 end)
{
	for (; start < end; start += PAGE_SIZE)
		mmu_flush_page(tlb, start);
}

void mmu_flush_all(struct tlb *tlb)
{
	__builtin_memset(tlb->set, 0, sizeof(tlb->set));
	__builtin_memset(tlb->huge, 0, sizeof(tlb->huge));
}
