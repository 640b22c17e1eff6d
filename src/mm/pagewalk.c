/* SPDX-License-Identifier: MIT */
/* Looking at the entries of a range. See pagewalk.h. */
#include "mm/pagewalk.h"

/* A leaf PMD may turn into a table at any moment before its lock is held; walk_table takes over then. */
static bool walk_leaf(struct page_walk *walk, struct ptdesc *tbl, const pmd_t *pmdp, u64 addr, u64 end)
{
	bool leaf;
	pmd_t pmd;

	if (!pmd_leaf(pte_read(pmdp)))
		return false;
	spin_lock(&tbl->ptl);
	pmd = pte_read(pmdp);
	leaf = pmd_leaf(pmd);
	if (leaf)
		walk->entry(walk, pmd, addr, end, 1);
	spin_unlock(&tbl->ptl);
	return leaf;
}

static void walk_table(struct page_walk *walk, pmd_t *pmdp, u64 addr, u64 end)
{
	struct ptdesc *pt;
	const pte_t *ptep = pte_offset_map_lock(walk->mm, pmdp, addr, &pt);

	if (!ptep)
		return;
	for (; addr < end; addr += PAGE_SIZE, ptep++) {
		pte_t pte = pte_read(ptep);

		if (!pte_none(pte))
			walk->entry(walk, pte, addr, addr + PAGE_SIZE, 0);
	}
	pte_unmap_unlock(pt);
}

void walk_page_range(struct page_walk *walk, u64 start, u64 end)
{
	u64 addr = start, next;
	struct ptdesc *tbl;
	pmd_t *pmdp;

	for (; addr < end && (pmdp = pmd_next(walk->mm, &addr, end, &tbl)) != NULL; addr = next) {
		next = pmd_addr_end(addr, end);
		if (!walk_leaf(walk, tbl, pmdp, addr, next))
			walk_table(walk, pmdp, addr, next);
	}
}
