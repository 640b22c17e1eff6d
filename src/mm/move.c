/* SPDX-License-Identifier: MIT */
/*
 * mremap's half at the entries: moves them from one range of addresses to another.
 *
 * Both page-table locks are held while an entry is in neither table, and the reverse-mapping locks of the VMAs are held for
 * write, so that no walk looks at the new place before and at the old place after (race B65). The old range is flushed before
 * the page-table locks are dropped: a truncation that then finds the entry at its new place and frees the page would flush
 * only the new range (race B18). The same locks make it safe to move a whole table by its parent's entry (race B21).
 */
#include "mm/huge.h"
#include "mm/map.h"

struct move {
	struct quire_cpu *cpu;
	struct quire_mm *mm;
	struct vma *vma, *new_vma;
};

/* Two locks of one level: in the order of their addresses in memory. */
static void lock_two(struct spinlock *a, struct spinlock *b)
{
	struct spinlock *first = a < b ? a : b;

	spin_lock(first);
	if (a != b)
		spin_lock(first == a ? b : a);
}

static void unlock_two(struct spinlock *a, struct spinlock *b)
{
	spin_unlock(a);
	if (a != b)
		spin_unlock(b);
}

/* Moves [addr, addr+len), below one PMD on either side. The VMAs are write-locked, so both tables stay. */
static void move_ptes(struct move *m, pmd_t *old_pmd, u64 addr, pmd_t *new_pmd, u64 new_addr, u64 len)
{
	struct quire *q = m->cpu->q;
	struct ptdesc *old_pt = entry_table(q, pte_read(old_pmd)), *new_pt = entry_table(q, pte_read(new_pmd));
	pte_t *from = ptdesc_entries(q, old_pt) + pte_index(addr),
	      *to = ptdesc_entries(q, new_pt) + pte_index(new_addr);
	bool flush = false;

	lock_two(&old_pt->ptl, &new_pt->ptl);
	for (u64 left = len >> PAGE_SHIFT; left; left--, from++, to++) {
		if (pte_none(pte_read(from)))
			continue;
		VM_BUG_ON2(!pte_none(pte_read(to)), new_addr, pte_read(to));
		pte_set(to, pte_get_and_clear(from));
		flush = true;
	}
	if (flush)
		tlb_flush_range(m->cpu, m->mm, addr, addr + len);
	unlock_two(&old_pt->ptl, &new_pt->ptl);
}

/* Moves a PMD entry, leaf or table. True when the new place was free and it was done. */
static bool move_pmd(struct move *m, struct ptdesc *old_tbl, pmd_t *old_pmd, u64 addr, u64 new_addr)
{
	struct ptdesc *new_tbl;
	pmd_t *new_pmd = pmd_alloc(m->cpu, m->mm, new_addr, &new_tbl);
	bool moved = false;
	pmd_t pmd;

	if (!new_pmd)
		return false;
	lock_two(&old_tbl->ptl, &new_tbl->ptl);
	if (pmd_none(pte_read(new_pmd))) {
		pmd = pte_get_and_clear(old_pmd);
		tlb_flush_range(m->cpu, m->mm, addr, addr + PMD_SIZE);
		if (pmd_leaf(pmd) && new_tbl != old_tbl)
			pgtable_deposit(new_tbl, pgtable_withdraw(old_tbl));
		pte_set(new_pmd, pmd);
		moved = true;
	}
	unlock_two(&old_tbl->ptl, &new_tbl->ptl);
	return moved;
}

/* Moves [addr, addr+len), below one PMD on either side. False: no memory for a table. */
static bool move_below_pmd(struct move *m, struct ptdesc *old_tbl, pmd_t *old_pmd, u64 addr, u64 new_addr, u64 len)
{
	struct ptdesc *new_tbl;
	pmd_t *new_pmd;

	if (len == PMD_SIZE && move_pmd(m, old_tbl, old_pmd, addr, new_addr))
		return true;
	if (pmd_leaf(pte_read(old_pmd)))
		split_huge_pmd(m->cpu, m->vma, old_tbl, old_pmd, addr);
	new_pmd = pmd_alloc(m->cpu, m->mm, new_addr, &new_tbl);
	if (!new_pmd || pte_alloc(m->cpu, m->mm, new_tbl, new_pmd))
		return false;
	if (pmd_leaf(pte_read(new_pmd)))
		return false;
	move_ptes(m, old_pmd, addr, new_pmd, new_addr, len);
	return true;
}

/* How much from both addresses on lies below one PMD entry each. */
static u64 move_extent(u64 addr, u64 new_addr, u64 left)
{
	u64 old_room = pmd_addr_end(addr, addr + left) - addr,
	    new_room = pmd_addr_end(new_addr, new_addr + left) - new_addr;

	return old_room < new_room ? old_room : new_room;
}

u64 move_page_tables(struct quire_cpu *cpu, struct vma *vma, u64 old_addr, struct vma *new_vma, u64 new_addr, u64 len)
{
	struct move m = { .cpu = cpu, .mm = vma->mm, .vma = vma, .new_vma = new_vma };
	u64 addr = old_addr, end = old_addr + len, step;
	struct ptdesc *tbl;
	pmd_t *pmdp;

	vma_assert_write_locked(vma);
	vma_assert_write_locked(new_vma);
	tlb_pending_inc(&m.mm->tlb);
	for (; (pmdp = pmd_next(m.mm, &addr, end, &tbl)) != NULL; addr += step) {
		bool moved;

		step = move_extent(addr, new_addr + (addr - old_addr), end - addr);
		vma_rmap_lock(vma->file, vma->anon_vma); /* the two VMAs share both */
		moved = move_below_pmd(&m, tbl, pmdp, addr, new_addr + (addr - old_addr), step);
		vma_rmap_unlock(vma->file, vma->anon_vma);
		if (!moved)
			break;
	}
	tlb_pending_dec(&m.mm->tlb);
	return pmdp ? addr - old_addr : len;
}
