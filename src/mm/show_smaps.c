/* SPDX-License-Identifier: MIT */
/*
 * /proc/pid/smaps: the line of maps, what of the VMA is resident and how, and its flags.
 *
 * How many mappings a page has is known exactly for pages of order-0 folios. A larger folio counts its mappings as a whole
 * (folio.h), so a page's share is estimated, as by Linux with CONFIG_NO_PAGE_MAPCOUNT; pages that belong to one address space
 * alone (PageAnonExclusive) are told exactly all the same.
 */
#include "mm/pagewalk.h"
#include "mm/show.h"
#include "mm/softleaf.h"

#define PSS_SHIFT 12 /* proportional sizes are kept in 1/4096 of a byte */

/* Bytes, of one VMA; pss* in units of PSS_SHIFT. */
struct mem_size_stats {
	struct quire *q;
	bool locked; /* VM_LOCKED: what is resident is locked */
	u64 resident, shared_clean, shared_dirty, private_clean, private_dirty;
	u64 referenced, anonymous, lazyfree, anonymous_thp, shmem_thp, file_thp;
	u64 swap;
	u64 pss, pss_dirty, pss_locked, swap_pss;
};

/* By how many entries the page of this entry is mapped. PTL held: at least by this one. */
static u64 page_mapcount(struct quire *q, const struct folio *folio, u64 entry, unsigned level)
{
	u64 mapcount = folio_mapcount(folio), pages = folio_nr_pages(folio);

	if (page_anon_exclusive(q, pte_pfn(entry)))
		return 1;
	if (level == 1)
		return mapcount <= pages ? mapcount : 1 + (mapcount - 1) / pages;
	return (mapcount + pages - 1) / pages;
}

static void account_shares(struct mem_size_stats *mss, u64 size, u64 mapcount, bool dirty)
{
	u64 pss = (size << PSS_SHIFT) / mapcount;

	mss->pss += pss;
	mss->pss_locked += mss->locked ? pss : 0;
	if (dirty) {
		mss->pss_dirty += pss;
		*(mapcount > 1 ? &mss->shared_dirty : &mss->private_dirty) += size;
	} else {
		*(mapcount > 1 ? &mss->shared_clean : &mss->private_clean) += size;
	}
}

static void account_kind(struct mem_size_stats *mss, const struct folio *folio, u64 size, unsigned level, bool dirty)
{
	if (folio_anon(folio)) {
		mss->anonymous += size;
		if (!folio_test(folio, PG_swapbacked) && !dirty)
			mss->lazyfree += size;
		mss->anonymous_thp += level ? size : 0;
	} else if (folio_test(folio, PG_swapbacked)) {
		mss->shmem_thp += level ? size : 0;
	} else {
		mss->file_thp += level ? size : 0;
	}
}

static void account_present(struct mem_size_stats *mss, u64 entry, u64 size, unsigned level)
{
	const struct folio *folio = pfn_folio(mss->q, pte_pfn(entry));
	bool dirty = pte_dirty(entry) || folio_test(folio, PG_dirty);

	mss->resident += size;
	if (pte_young(entry) || folio_test(folio, PG_referenced))
		mss->referenced += size;
	account_kind(mss, folio, size, level, dirty);
	account_shares(mss, size, page_mapcount(mss->q, folio, entry, level), dirty);
}

static void smaps_entry(struct page_walk *walk, u64 entry, u64 addr, u64 end, unsigned level)
{
	struct mem_size_stats *mss = walk->arg;

	if (pte_present(entry)) {
		if (!pte_special(entry)) /* the zero page belongs to nobody */
			account_present(mss, entry, end - addr, level);
	} else if (softleaf_is_swap(entry)) {
		mss->swap += end - addr;
		mss->swap_pss += (end - addr) << PSS_SHIFT;
	}
}

/* -------------------------------------------------------------------------------------------- text */

/* The kernel's two letters per flag, in the order of its flag bits. Flags that smaps does not show are not here. */
static const struct {
	u64 flag;
	char name[3];
} flag_names[] = {
	{ VM_READ, "rd" },	{ VM_WRITE, "wr" },	  { VM_EXEC, "ex" },	   { VM_SHARED, "sh" },
	{ VM_MAYREAD, "mr" },	{ VM_MAYWRITE, "mw" },	  { VM_MAYEXEC, "me" },	   { VM_MAYSHARE, "ms" },
	{ VM_GROWSDOWN, "gd" }, { VM_MAYBE_GUARD, "gu" }, { VM_LOCKED, "lo" },	   { VM_SEQ_READ, "sr" },
	{ VM_RAND_READ, "rr" }, { VM_DONTCOPY, "dc" },	  { VM_DONTEXPAND, "de" }, { VM_LOCKONFAULT, "lf" },
	{ VM_ACCOUNT, "ac" },	{ VM_NORESERVE, "nr" },	  { VM_SYNC, "sf" },	   { VM_WIPEONFORK, "wf" },
	{ VM_DONTDUMP, "dd" },	{ VM_HUGEPAGE, "hg" },	  { VM_NOHUGEPAGE, "nh" }, { VM_MERGEABLE, "mg" },
	{ VM_DROPPABLE, "dp" }, { VM_SEALED, "sl" },
};

static void show_flags(struct text *text, u64 flags)
{
	text_str(text, "VmFlags: ");
	for (unsigned i = 0; i < ARRAY_SIZE(flag_names); i++) {
		if (!(flags & flag_names[i].flag))
			continue;
		text_str(text, flag_names[i].name);
		text_char(text, ' ');
	}
	text_char(text, '\n');
}

#define LABEL_WIDTH 16u
#define NUMBER_WIDTH 8u

static void show_kb(struct text *text, const char *label, u64 bytes)
{
	text_label(text, label, LABEL_WIDTH);
	text_dec(text, bytes >> 10, NUMBER_WIDTH);
	text_str(text, " kB\n");
}

/* May a fault here be served by a folio larger than a page? Policy allows an order, and an aligned block of it fits. */
static bool thp_eligible(const struct quire *q, const struct vma *vma)
{
	unsigned orders = vma_is_anonymous(vma) ? q->config.anon_orders
			  : vma->file->shmem	? q->config.shmem_orders
						: q->config.file_orders;

	if (vma->flags & VM_NOHUGEPAGE)
		return false;
	for (unsigned order = 1; order <= MAX_FOLIO_ORDER; order++) {
		u64 size = PAGE_SIZE << order, first = (vma->start + size - 1) & ~(size - 1);

		if ((READ_ONCE(orders) >> order & 1) && first + size <= vma->end)
			return true;
	}
	return false;
}

static void show_sizes(struct text *text, const struct mem_size_stats *mss)
{
	show_kb(text, "Rss:", mss->resident);
	show_kb(text, "Pss:", mss->pss >> PSS_SHIFT);
	show_kb(text, "Pss_Dirty:", mss->pss_dirty >> PSS_SHIFT);
	show_kb(text, "Shared_Clean:", mss->shared_clean);
	show_kb(text, "Shared_Dirty:", mss->shared_dirty);
	show_kb(text, "Private_Clean:", mss->private_clean);
	show_kb(text, "Private_Dirty:", mss->private_dirty);
	show_kb(text, "Referenced:", mss->referenced);
	show_kb(text, "Anonymous:", mss->anonymous);
	show_kb(text, "KSM:", 0);
	show_kb(text, "LazyFree:", mss->lazyfree);
	show_kb(text, "AnonHugePages:", mss->anonymous_thp);
	show_kb(text, "ShmemPmdMapped:", mss->shmem_thp);
	show_kb(text, "FilePmdMapped:", mss->file_thp);
	show_kb(text, "Shared_Hugetlb:", 0);
	show_kb(text, "Private_Hugetlb:", 0);
	show_kb(text, "Swap:", mss->swap);
	show_kb(text, "SwapPss:", mss->swap_pss >> PSS_SHIFT);
	show_kb(text, "Locked:", mss->pss_locked >> PSS_SHIFT);
}

/* mmap lock held (read); takes page-table locks. */
static void show_smap(struct text *text, struct vma *vma)
{
	struct mem_size_stats mss = { .q = vma->mm->q, .locked = vma->flags & VM_LOCKED };
	struct page_walk walk = { .mm = vma->mm, .entry = smaps_entry, .arg = &mss };

	walk_page_range(&walk, vma->start, vma->end);
	show_map_line(text, vma);
	show_kb(text, "Size:", vma->end - vma->start);
	show_kb(text, "KernelPageSize:", PAGE_SIZE);
	show_kb(text, "MMUPageSize:", PAGE_SIZE);
	show_sizes(text, &mss);
	text_label(text, "THPeligible:", LABEL_WIDTH);
	text_dec(text, thp_eligible(mss.q, vma), NUMBER_WIDTH);
	text_char(text, '\n');
	show_flags(text, vma->flags);
}

/* Lines of "label, number, kB" (28 characters), of flags, of the header. */
#define SMAP_MAX (MAPS_LINE_MAX + 24 * 32 + 16 + 3 * ARRAY_SIZE(flag_names))

/* A piece is one VMA: see show_maps.c for what that means. */
int quire_show_smaps(struct quire_cpu *cpu, struct quire_mm *mm, quire_emit_fn emit, void *arg)
{
	char piece[SMAP_MAX];
	struct text text;
	u64 addr = 0;
	int ret = 0;

	(void)cpu;
	while (!ret) {
		struct vma *vma;

		text_init(&text, piece, sizeof(piece));
		mmap_read_lock(mm);
		vma = vma_tree_find(&mm->tree, addr);
		if (vma) {
			show_smap(&text, vma);
			addr = vma->end;
		}
		mmap_read_unlock(mm);
		if (!vma)
			break;
		ret = emit(arg, piece, text.len);
	}
	return ret;
}
