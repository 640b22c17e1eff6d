/* SPDX-License-Identifier: MIT */
/*
 * Validation of page tables: their shape, and each leaf entry against its VMA and against the page that it maps. Counts the
 * entries of each frame, for validate_folio.c to compare with what the folios say.
 */
#include "mm/softleaf.h"
#include "mm/validate.h"

struct table_walk {
	struct validate *v;
	struct quire_mm *mm;
	struct vma *vma; /* the one at or above the entry last looked at */
	u64 tables;
	u64 rss[NR_MM_COUNTERS];
};

/* -------------------------------------------------------------------------------------------- leaf entries */

/* Moves on to the VMA that holds [addr, addr + size); NULL: there is none. Addresses only rise. */
static struct vma *walk_vma(struct table_walk *w, u64 addr, u64 size)
{
	if (!w->vma || w->vma->end <= addr)
		w->vma = vma_tree_find(&w->mm->tree, addr);
	return w->vma && w->vma->start <= addr && addr + size <= w->vma->end ? w->vma : NULL;
}

/* What the entry permits, the VMA permits. */
static void check_permissions(struct validate *v, const struct vma *vma, u64 entry, u64 addr)
{
	u64 flags = vma->flags;

	if ((pte_write(entry) && !(flags & VM_WRITE)) ||
	    ((entry & _PAGE_PRESENT) && (!(flags & VM_ACCESS_FLAGS) || (!(entry & _PAGE_NX) && !(flags & VM_EXEC)))))
		violation(v, 15, "entry %x at %x permits more than its VMA's flags %x", entry, addr, flags);
	if (!(entry & _PAGE_USER))
		violation(v, 15, "entry %x at %x is not for user mode", entry, addr, 0);
}

static void check_anon(struct validate *v, const struct vma *vma, const struct folio *folio, u64 entry, u64 addr)
{
	const struct anon_vma *anon_vma = folio_anon_vma(folio);
	u64 index = folio->index + (pte_pfn(entry) - folio->pfn);

	if (pte_write(entry) && !page_anon_exclusive(v->q, pte_pfn(entry)))
		violation(v, 25, "entry %x at %x is writable, its page %x is not exclusive", entry, addr,
			  pte_pfn(entry));
	if (vma->flags & VM_SHARED)
		violation(v, 16, "anonymous page %x at %x in a shared mapping with flags %x", pte_pfn(entry), addr,
			  vma->flags);
	if (index != vma_linear_index(vma, addr))
		violation(v, 17, "page at %x has index %x where the VMA has %x", addr, index,
			  vma_linear_index(vma, addr));
	if (!is_object(v->q, CACHE_ANON_VMA, anon_vma) || READ_ONCE(anon_vma->refcount) == 0)
		violation(v, 44, "folio of frame %x, mapped at %x, names %x, which is no live anon_vma", folio->pfn,
			  addr, (u64)(uintptr_t)anon_vma);
	else if (!vma->anon_vma || anon_vma->root != vma->anon_vma->root)
		violation(v, 17, "folio of frame %x at %x belongs to another family of anon_vmas than VMA %x",
			  folio->pfn, addr, vma->start);
}

static void check_file(struct validate *v, const struct vma *vma, const struct folio *folio, u64 entry, u64 addr)
{
	u64 index = folio->index + (pte_pfn(entry) - folio->pfn);

	if (!vma->file || folio_file_mapping(folio) != &vma->file->mapping)
		violation(v, 16, "folio of frame %x at %x is not in the cache of the VMA's file", folio->pfn, addr, 0);
	else if (index != vma_linear_index(vma, addr))
		violation(v, 16, "page at %x is page %x of the file where the VMA has %x", addr, index,
			  vma_linear_index(vma, addr));
	if (pte_write(entry) && !(vma->flags & VM_SHARED))
		violation(v, 34, "file page %x is writable at %x, a private mapping", pte_pfn(entry), addr, 0);
	if (page_anon_exclusive(v->q, pte_pfn(entry)))
		violation(v, 26, "file page %x at %x is marked exclusive", pte_pfn(entry), addr, 0);
}

static void check_zero_page(struct validate *v, const struct vma *vma, u64 entry, u64 addr)
{
	if (pte_pfn(entry) != v->q->zero_pfn || pte_write(entry) || (vma->flags & VM_SHARED))
		violation(v, 34, "special entry %x at %x: not the zero page, or writable or shared", entry, addr, 0);
}

/* The folio that an entry of @level maps, checked to be one that it can map; NULL when not. */
static struct folio *entry_folio_checked(struct validate *v, u64 entry, u64 addr, unsigned level)
{
	u64 pfn = pte_pfn(entry), word = pfn_managed(v->q, pfn) ? READ_ONCE(v->q->pages[pfn].word) : 0;
	struct folio *folio = page_word_ptr(word);

	if (page_word_type(word) != PAGE_FOLIO || !is_object(v->q, CACHE_FOLIO, folio) ||
	    pfn - folio->pfn >= folio_nr_pages(folio)) {
		violation(v, 9, "entry %x at %x names frame %x, which belongs to no folio", entry, addr, pfn);
		return NULL;
	}
	if (level && (folio->order != MAX_FOLIO_ORDER || pfn != folio->pfn)) {
		violation(v, 14, "leaf PMD %x at %x maps a folio of order %d", entry, addr, folio->order);
		return NULL;
	}
	return folio;
}

static void check_present(struct table_walk *w, const struct vma *vma, u64 entry, u64 addr, unsigned level)
{
	struct validate *v = w->v;
	struct frame_use *use;
	struct folio *folio;

	check_permissions(v, vma, entry, addr);
	if (pte_special(entry)) {
		check_zero_page(v, vma, entry, addr);
		return;
	}
	folio = entry_folio_checked(v, entry, addr, level);
	if (!folio)
		return;
	use = frame_use(v, pte_pfn(entry));
	use->entries++;
	use->leaf |= level != 0;
	if (entry & _PAGE_MLOCKED)
		use->mlocked++;
	if (!!(entry & _PAGE_MLOCKED) != !!(vma->flags & VM_LOCKED))
		violation(v, 56, "entry %x at %x: mlocked or not, against the VMA's flags %x", entry, addr, vma->flags);
	w->rss[folio_mm_counter(folio)] += level ? PTRS_PER_TABLE : 1;
	if (folio_anon(folio))
		check_anon(v, vma, folio, entry, addr);
	else
		check_file(v, vma, folio, entry, addr);
}

/* Only what something in this library makes. */
static void check_softleaf(struct table_walk *w, u64 entry, u64 addr, unsigned level)
{
	if (level || !softleaf_is_marker(entry) || softleaf_offset(entry) != MARKER_GUARD)
		violation(w->v, 14, "entry %x at %x is of no kind that can be there: level %d", entry, addr, level);
}

static void check_leaf(struct table_walk *w, u64 entry, u64 addr, unsigned level)
{
	const struct vma *vma = walk_vma(w, addr, level ? PMD_SIZE : PAGE_SIZE);

	if (!vma)
		violation(w->v, 14, "entry %x at %x of mm %d lies in no VMA", entry, addr, w->mm->tlb.id);
	else if (pte_present(entry))
		check_present(w, vma, entry, addr, level);
	else
		check_softleaf(w, entry, addr, level);
}

/* -------------------------------------------------------------------------------------------- tables */

/* Notes one more way to a table. False: it was reached before, or is none. */
static bool reach_table(struct table_walk *w, const struct ptdesc *pt, unsigned level)
{
	struct validate *v = w->v;

	if (!pt || !is_object(v->q, CACHE_PTDESC, pt) || !pfn_managed(v->q, pt->pfn) ||
	    READ_ONCE(v->q->pages[pt->pfn].word) != page_word_mk(PAGE_TABLE, pt)) {
		violation(v, 19, "mm %d links %x, which is no page table", w->mm->tlb.id, (u64)(uintptr_t)pt, 0);
		return false;
	}
	w->tables++;
	if (frame_use(v, pt->pfn)->entries++) {
		violation(v, 19, "page table in frame %x is linked more than once, by mm %d", pt->pfn, w->mm->tlb.id,
			  0);
		return false;
	}
	if (pt->level != level || pt->mm != w->mm) {
		violation(v, 14, "page table in frame %x has level %d or mm of another place: %d", pt->pfn, pt->level,
			  level);
		return false;
	}
	if (READ_ONCE(pt->ptl.word))
		violation(v, 91, "lock of page table in frame %x is held, mm %d", pt->pfn, w->mm->tlb.id, 0);
	return true;
}

/* The tables set aside: one for each leaf PMD of this table. */
static void check_deposits(struct table_walk *w, const struct ptdesc *table, u64 leaves)
{
	const struct ptdesc *pt = table->deposit;
	u64 nr = 0;

	for (; pt && reach_table(w, pt, 0); pt = pt->deposit)
		nr++;
	if (nr != leaves)
		violation(w->v, 20, "PMD table in frame %x has %d leaves and %d tables set aside", table->pfn, leaves,
			  nr);
}

/* The table that a non-leaf entry names; NULL (reported) when it is none of the level below. */
static const struct ptdesc *linked_table(struct table_walk *w, const struct ptdesc *table, u64 entry)
{
	u64 pfn = pte_pfn(entry);
	u64 word = pfn_managed(w->v->q, pfn) ? READ_ONCE(w->v->q->pages[pfn].word) : 0;
	const struct ptdesc *pt = page_word_type(word) == PAGE_TABLE ? page_word_ptr(word) : NULL;

	if (!pmd_table(entry) || (entry & ~(_PAGE_PFN_MASK | _PAGE_ACCESSED)) != (TABLE_BITS & ~_PAGE_ACCESSED))
		violation(w->v, 14, "non-leaf entry %x of level %d has wrong bits", entry, table->level, 0);
	return reach_table(w, pt, table->level - 1) ? pt : NULL;
}

static void check_table(struct table_walk *w, const struct ptdesc *table, u64 base);

static void check_upper_entry(struct table_walk *w, const struct ptdesc *table, u64 entry, u64 addr, u64 *leaves)
{
	const struct ptdesc *child;

	if (table->level == 1 && (pmd_leaf(entry) || !pte_present(entry))) {
		check_leaf(w, entry, addr, 1);
		*leaves += 1;
		return;
	}
	child = linked_table(w, table, entry);
	if (child)
		check_table(w, child, addr);
}

/* Recursion: a child's level is one less than its parent's, which reach_table has checked; so three steps at most. */
static void check_table(struct table_walk *w, const struct ptdesc *table, u64 base)
{
	const u64 *entries = ptdesc_entries(w->v->q, table);
	u64 leaves = 0;

	for (u64 i = 0; i < PTRS_PER_TABLE; i++) {
		u64 entry = pte_read(&entries[i]), addr = base + (i << (PAGE_SHIFT + 9 * table->level));

		if (pte_none(entry))
			continue;
		if (table->level == 0)
			check_leaf(w, entry, addr, 0);
		else
			check_upper_entry(w, table, entry, addr, &leaves);
	}
	if (table->level == 1)
		check_deposits(w, table, leaves);
}

void validate_page_tables(struct validate *v, struct quire_mm *mm)
{
	struct table_walk w = { .v = v, .mm = mm };

	if (reach_table(&w, mm->pgd, 3))
		check_table(&w, mm->pgd, 0);
	for (enum mm_counter which = MM_FILEPAGES; which < NR_MM_COUNTERS; which++) {
		if (w.rss[which] != mm_rss(mm, which))
			violation(v, 63, "mm counter %d says %d pages, the tables hold %d", which, mm_rss(mm, which),
				  w.rss[which]);
		v->rss[which] += w.rss[which];
	}
	if (w.tables != mm_tables(mm))
		violation(v, 23, "mm %d counts %d page tables, found %d", mm->tlb.id, mm_tables(mm), w.tables);
	v->tables += w.tables;
}
