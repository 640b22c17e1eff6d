/* SPDX-License-Identifier: MIT */
/*
 * What madvise, mlock and mincore do entry by entry. The range lies in one VMA, whose address space's mmap lock is held.
 *
 * One walk serves all: it visits the range table by table, under each table's lock, and leaves of the PMD level whole.
 */
#include "mm/huge.h"
#include "mm/softleaf.h"

struct range_walk;

/* Called for each entry of a table (PTL held), or for a leaf PMD (level 1). */
typedef void (*range_entry_fn)(struct range_walk *walk, u64 *entry, u64 addr, unsigned level);
/* Called for [addr, end) without any table. */
typedef void (*range_hole_fn)(struct range_walk *walk, u64 addr, u64 end);

struct range_walk {
	struct quire_cpu *cpu;
	struct vma *vma;
	range_entry_fn entry; /* none entries included */
	range_hole_fn hole;   /* may be NULL */
	bool split;	      /* leaf PMDs that lie partly outside the range are split first */
	bool flush;	      /* set by entry: TLBs must forget the range */
	u64 start, end;	      /* the whole range */
	unsigned char *vec;   /* mincore's answer */
	bool locked;	      /* what mlock wants */
};

static void walk_leaf(struct range_walk *walk, struct ptdesc *tbl, pmd_t *pmdp, u64 addr)
{
	spin_lock(&tbl->ptl);
	if (pmd_leaf(pte_read(pmdp)))
		walk->entry(walk, pmdp, addr, 1);
	spin_unlock(&tbl->ptl);
}

static void walk_ptes(struct range_walk *walk, pmd_t *pmdp, u64 addr, u64 end)
{
	struct ptdesc *pt;
	pte_t *ptep = pte_offset_map_lock(walk->vma->mm, pmdp, addr, &pt);

	if (!ptep)
		return;
	for (; addr < end; addr += PAGE_SIZE, ptep++)
		walk->entry(walk, ptep, addr, 0);
	pte_unmap_unlock(pt);
}

static void walk_range(struct range_walk *walk, u64 start, u64 end)
{
	u64 addr = start, done = start;
	struct ptdesc *tbl;
	pmd_t *pmdp;

	walk->start = start;
	walk->end = end;
	for (; addr < end && (pmdp = pmd_next(walk->vma->mm, &addr, end, &tbl)) != NULL; addr = done) {
		u64 next = pmd_addr_end(addr, end);

		if (walk->hole && addr > done)
			walk->hole(walk, done, addr);
		if (walk->split && next - addr < PMD_SIZE)
			split_huge_pmd(walk->cpu, walk->vma, tbl, pmdp, addr);
		if (pmd_leaf(pte_read(pmdp)))
			walk_leaf(walk, tbl, pmdp, addr);
		else
			walk_ptes(walk, pmdp, addr, next);
		done = next;
	}
	if (walk->hole && done < end)
		walk->hole(walk, done, end);
	if (walk->flush)
		tlb_flush_range(walk->cpu, walk->vma->mm, start, end);
}

/* ---------------------------------------------------------------------------------------- MADV_FREE, MADV_COLD */

/* The page may be dropped unless it is written again: clean, and its home is not swap any more. */
static void free_entry(struct range_walk *walk, u64 *entry, u64 addr, unsigned level)
{
	u64 value = pte_read(entry);
	struct folio *folio;

	(void)addr, (void)level;
	if (!pte_present(value) || pte_special(value))
		return;
	folio = pfn_folio(walk->cpu->q, pte_pfn(value));
	if (!folio_anon(folio) || !page_anon_exclusive(walk->cpu->q, pte_pfn(value)))
		return; /* somebody else may need it */
	while (!pte_cmpxchg(entry, &value, value & ~(_PAGE_DIRTY | _PAGE_ACCESSED)))
		;
	folio_clear(folio, PG_swapbacked);
	walk->flush = true; /* the next store must find a clean entry and mark it */
}

void madvise_free_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end)
{
	struct range_walk walk = { .cpu = cpu, .vma = vma, .entry = free_entry, .split = true };

	tlb_pending_inc(&vma->mm->tlb);
	walk_range(&walk, start, end);
	tlb_pending_dec(&vma->mm->tlb);
}

static void cold_entry(struct range_walk *walk, u64 *entry, u64 addr, unsigned level)
{
	u64 value = pte_read(entry);

	(void)addr, (void)level;
	if (!pte_present(value) || !pte_young(value))
		return;
	__atomic_fetch_and(entry, ~_PAGE_ACCESSED, __ATOMIC_RELAXED);
	if (!pte_special(value))
		folio_clear(pfn_folio(walk->cpu->q, pte_pfn(value)), PG_referenced);
	walk->flush = true;
}

void madvise_cold_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end)
{
	struct range_walk walk = { .cpu = cpu, .vma = vma, .entry = cold_entry, .split = true };

	walk_range(&walk, start, end);
}

/* ---------------------------------------------------------------------------------------- mincore */

/* Nothing mapped here: a file's page may be in its cache all the same. */
static void mincore_hole(struct range_walk *walk, u64 addr, u64 end)
{
	struct vma *vma = walk->vma;

	for (; addr < end; addr += PAGE_SIZE)
		walk->vec[(addr - walk->start) >> PAGE_SHIFT] =
			vma->file && file_page_resident(walk->cpu, vma->file, vma_linear_index(vma, addr));
}

static void mincore_entry(struct range_walk *walk, u64 *entry, u64 addr, unsigned level)
{
	u64 value = pte_read(entry), nr = level ? PTRS_PER_TABLE - pte_index(addr) : 1, left;

	if (!pte_present(value)) {
		mincore_hole(walk, addr, addr + PAGE_SIZE); /* a marker stands for nothing mapped, too */
		return;
	}
	left = (walk->end - addr) >> PAGE_SHIFT;
	memset(walk->vec + ((addr - walk->start) >> PAGE_SHIFT), 1, nr < left ? nr : left);
}

void mincore_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end, unsigned char *vec)
{
	struct range_walk walk = { .cpu = cpu, .vma = vma, .entry = mincore_entry, .hole = mincore_hole, .vec = vec };

	walk_range(&walk, start, end);
}

/* ---------------------------------------------------------------------------------------- mlock */

static void mlock_entry(struct range_walk *walk, u64 *entry, u64 addr, unsigned level)
{
	u64 value = pte_read(entry);
	struct folio *folio;

	(void)addr, (void)level;
	if (!pte_present(value) || pte_special(value) || !!(value & _PAGE_MLOCKED) == walk->locked)
		return;
	folio = pfn_folio(walk->cpu->q, pte_pfn(value));
	__atomic_fetch_xor(entry, _PAGE_MLOCKED, __ATOMIC_RELAXED);
	if (walk->locked)
		folio_mlock(walk->cpu, folio, 1);
	else
		folio_munlock(walk->cpu, folio, 1);
}

void mlock_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end, bool locked)
{
	struct range_walk walk = { .cpu = cpu, .vma = vma, .entry = mlock_entry, .locked = locked };

	walk_range(&walk, start, end);
}

/* ---------------------------------------------------------------------------------------- guard regions */

/* Marks the entries of one table that are none; the address of the first that is neither none nor a guard, or @end. */
static u64 guard_install_ptes(struct vma *vma, pmd_t *pmdp, u64 addr, u64 end)
{
	struct ptdesc *pt;
	pte_t *ptep = pte_offset_map_lock(vma->mm, pmdp, addr, &pt);

	if (!ptep)
		return addr;
	for (; addr < end; addr += PAGE_SIZE, ptep++) {
		pte_t pte = pte_read(ptep);

		if (pte_none(pte))
			pte_set(ptep, softleaf_mk_guard());
		else if (!softleaf_is_guard(pte))
			break;
	}
	pte_unmap_unlock(pt);
	return addr;
}

int guard_install_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end)
{
	/* As in Linux, private memory with page tables of its own has an anon_vma; it decides what can be merged. */
	if (vma_is_anonymous(vma) && anon_vma_prepare(cpu, vma))
		return -ENOMEM;
	while (start < end) {
		u64 next = pmd_addr_end(start, end);
		struct ptdesc *tbl;
		pmd_t *pmdp = pmd_alloc(cpu, vma->mm, start, &tbl);

		if (!pmdp || pte_alloc(cpu, vma->mm, tbl, pmdp))
			return -ENOMEM;
		start = guard_install_ptes(vma, pmdp, start, next);
		if (start <
		    next) /* something is mapped here, or was just faulted in by another thread: it goes first */
			zap_page_range(cpu, vma, start, next);
	}
	return 0;
}

static void guard_remove_entry(struct range_walk *walk, u64 *entry, u64 addr, unsigned level)
{
	pte_t pte = pte_read(entry);

	(void)walk, (void)addr;
	if (level == 0 && !pte_present(pte) && softleaf_is_guard(pte))
		pte_set(entry, 0);
}

void guard_remove_range(struct quire_cpu *cpu, struct vma *vma, u64 start, u64 end)
{
	struct range_walk walk = { .cpu = cpu, .vma = vma, .entry = guard_remove_entry };

	walk_range(&walk, start, end);
}
