/* SPDX-License-Identifier: MIT */
/* /proc/pid/pagemap: one word per page, as Documentation/admin-guide/mm/pagemap.rst describes it for a privileged reader. */
#include "mm/pagewalk.h"
#include "mm/softleaf.h"

#define PM_PRESENT (1ull << 63)
#define PM_SWAP (1ull << 62)
#define PM_FILE (1ull << 61) /* a file's page, or shared anonymous memory */
#define PM_GUARD_REGION (1ull << 58)
#define PM_UFFD_WP (1ull << 57)
#define PM_MMAP_EXCLUSIVE (1ull << 56)
#define PM_SOFT_DIRTY (1ull << 55)

/* A non-present entry that is no swap entry shows as one: its kind in bits 0..4, and its offset. These are Linux's numbers for a
 * marker and for the guard marker. */
#define PM_SWAP_TYPE_BITS 5
#define PM_SWAP_TYPE_MARKER 31ull
#define PM_MARKER_GUARD 4ull
#define PM_MARKER_POISONED 2ull
#define PM_MARKER_UFFD_WP 1ull

#define PIECE_PAGES 128u

/* One piece of the answer. */
struct pagemap_piece {
	struct quire *q;
	u64 start; /* address of word[0] */
	u64 word[PIECE_PAGES];
};

/* Is this entry's page mapped here only? Exact for exclusive pages and order-0 folios; of larger ones, as far as their
 * mappings as a whole can tell. PTL held. */
static bool mapped_exclusively(struct quire *q, const struct folio *folio, u64 entry)
{
	return page_anon_exclusive(q, pte_pfn(entry)) || folio_mapcount(folio) == 1;
}

static u64 present_word(struct quire *q, u64 entry, u64 pfn)
{
	u64 word = PM_PRESENT | pfn | (entry & _PAGE_SOFT_DIRTY ? PM_SOFT_DIRTY : 0) |
		   (entry & _PAGE_UFFD_WP ? PM_UFFD_WP : 0);
	const struct folio *folio;

	if (pte_special(entry))
		return word;
	folio = pfn_folio(q, pte_pfn(entry));
	word |= folio_anon(folio) ? 0 : PM_FILE;
	return word | (mapped_exclusively(q, folio, entry) ? PM_MMAP_EXCLUSIVE : 0);
}

static u64 marker_word(u64 markers)
{
	u64 offset = (markers & MARKER_GUARD ? PM_MARKER_GUARD : 0) |
		     (markers & MARKER_POISONED ? PM_MARKER_POISONED : 0) |
		     (markers & MARKER_UFFD_WP ? PM_MARKER_UFFD_WP : 0);

	return PM_SWAP | PM_SWAP_TYPE_MARKER | offset << PM_SWAP_TYPE_BITS |
	       (markers & MARKER_GUARD ? PM_GUARD_REGION : 0) | (markers & MARKER_UFFD_WP ? PM_UFFD_WP : 0);
}

static u64 softleaf_word(u64 entry)
{
	if (softleaf_is_marker(entry))
		return marker_word(softleaf_offset(entry));
	return PM_SWAP | softleaf_offset(entry) << PM_SWAP_TYPE_BITS;
}

static void pagemap_entry(struct page_walk *walk, u64 entry, u64 addr, u64 end, unsigned level)
{
	struct pagemap_piece *piece = walk->arg;
	u64 pfn = pte_pfn(entry) + (level ? pte_index(addr) : 0);

	for (; addr < end; addr += PAGE_SIZE, pfn++)
		piece->word[(addr - piece->start) >> PAGE_SHIFT] =
			pte_present(entry) ? present_word(piece->q, entry, pfn) : softleaf_word(entry);
}

/* The words of [start, end); pages outside all VMAs are 0. Takes the mmap lock (read) for as long as one piece takes. */
static void collect_words(struct quire_mm *mm, struct pagemap_piece *piece, u64 end)
{
	struct page_walk walk = { .mm = mm, .entry = pagemap_entry, .arg = piece };
	struct vma *vma;

	for (unsigned i = 0; i < PIECE_PAGES; i++)
		piece->word[i] = 0;
	mmap_read_lock(mm);
	vma_tree_for_each_range(vma, &mm->tree, piece->start, end)
		walk_page_range(&walk, vma->start > piece->start ? vma->start : piece->start,
				vma->end < end ? vma->end : end);
	mmap_read_unlock(mm);
}

int quire_show_pagemap(struct quire_cpu *cpu, struct quire_mm *mm, uint64_t start, uint64_t end, quire_emit_fn emit,
		       void *arg)
{
	struct pagemap_piece piece = { .q = cpu->q, .start = start & PAGE_MASK };
	u64 last = end < TASK_SIZE ? (end + PAGE_SIZE - 1) & PAGE_MASK : TASK_SIZE, next;
	int ret = 0;

	for (; !ret && piece.start < last; piece.start = next) {
		next = piece.start + PIECE_PAGES * PAGE_SIZE < last ? piece.start + PIECE_PAGES * PAGE_SIZE : last;
		collect_words(mm, &piece, next);
		ret = emit(arg, (const char *)piece.word, ((next - piece.start) >> PAGE_SHIFT) * sizeof(u64));
	}
	return ret;
}
