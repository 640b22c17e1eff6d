/* SPDX-License-Identifier: MIT */
/*
 * Validation of frames and folios: each frame is accounted for exactly once, and what each folio says of itself (references,
 * mappings, exclusivity, where it is found) is what the page tables, page caches and reverse maps say.
 */
#include "mm/pagecache_tree.h"
#include "mm/validate.h"

#define MLOCK_COUNT_STUCK 0xffffu

/* What the walk of page tables found of all frames of a folio. */
struct folio_use {
	u64 entries, mlocked;
};

/* -------------------------------------------------------------------------------------------- counts */

/* Which references there must be, now that nobody is doing anything (invariant 1). */
static u64 expected_refs(const struct folio *folio)
{
	u64 refs = folio_mapcount(folio);

	refs += folio_file_mapping(folio) ? folio_nr_pages(folio) : 0;
	refs += folio_test(folio, PG_swapcache) ? folio_nr_pages(folio) : 0;
	refs += folio_test(folio, PG_private) ? 1 : 0;
	return refs + (folio_test(folio, PG_writeback) ? 1 : 0);
}

static void check_counts(struct validate *v, const struct folio *folio, const struct folio_use *use)
{
	if (folio_mapcount(folio) != use->entries)
		violation(v, 12, "folio of frame %x: mapcount %d, entries found: %d", folio->pfn, folio_mapcount(folio),
			  use->entries);
	if (folio_refcount(folio) != expected_refs(folio))
		violation(v, 1, "folio of frame %x: %d references, owners found: %d", folio->pfn, folio_refcount(folio),
			  expected_refs(folio));
	if (folio->mlock_count != MLOCK_COUNT_STUCK && folio->mlock_count != use->mlocked)
		violation(v, 56, "folio of frame %x: mlock count %d, mlocked entries found: %d", folio->pfn,
			  folio->mlock_count, use->mlocked);
	if (folio_test(folio, PG_mlocked) != (folio->mlock_count > 0))
		violation(v, 56, "folio of frame %x: flags %x do not follow from its mlock count %d", folio->pfn,
			  folio->flags, folio->mlock_count);
}

static void check_flags(struct validate *v, const struct folio *folio)
{
	if (folio_test(folio, PG_locked))
		violation(v, 91, "folio of frame %x is locked: flags %x", folio->pfn, folio->flags, 0);
	if (folio_test(folio, PG_waiters))
		violation(v, 87, "folio of frame %x has waiters: flags %x", folio->pfn, folio->flags, 0);
	if (folio_mapped(folio) && !folio_test(folio, PG_uptodate))
		violation(v, 85, "folio of frame %x is mapped but not uptodate: flags %x", folio->pfn, folio->flags, 0);
}

/* An exclusive page has one entry. A leaf PMD has the first page's bit speak for all. */
static void check_exclusive(struct validate *v, const struct folio *folio, const struct folio_use *use)
{
	for (u64 i = 0; i < folio_nr_pages(folio); i++) {
		u32 entries = frame_use(v, folio->pfn + i)->entries;

		if (entries > 1 && page_anon_exclusive(v->q, folio->pfn + i))
			violation(v, 26, "page %x is exclusive and has %d entries", folio->pfn + i, entries, 0);
	}
	if (frame_use(v, folio->pfn)->leaf && page_anon_exclusive(v->q, folio->pfn) && use->entries > 1)
		violation(v, 26, "folio of frame %x is exclusive and has %d entries", folio->pfn, use->entries, 0);
}

/* -------------------------------------------------------------------------------------------- where it is found */

static void count_entry(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u64 addr, u64 *entry,
			unsigned level, void *arg)
{
	(void)cpu, (void)folio, (void)vma, (void)addr, (void)entry, (void)level;
	*(u64 *)arg += 1;
}

static bool count_in_vma(struct quire_cpu *cpu, struct folio *folio, struct vma *vma, u64 addr, void *arg)
{
	for_each_mapped_entry(cpu, folio, vma, addr, count_entry, arg);
	return true;
}

/* The reverse mapping finds the entries that exist. Its structures have been found in order. */
static void check_rmap(struct validate *v, struct folio *folio, const struct folio_use *use)
{
	u64 found = 0;
	struct rmap_walk_control rwc = { .arg = &found, .rmap_one = count_in_vma };

	rmap_walk(v->cpu, folio, &rwc);
	if (found != use->entries)
		violation(v, 18, "folio of frame %x: %d entries, the reverse mapping finds %d", folio->pfn,
			  use->entries, found);
}

/* Is the folio in the page cache that it names, at its index? */
static bool is_cached(struct validate *v, const struct folio *folio)
{
	struct address_space *mapping = folio_file_mapping(folio);
	u64 entry = 0;

	if (!is_object(v->q, CACHE_FILE, container_of(mapping, struct quire_file, mapping)))
		return false;
	return pagecache_slot(mapping, folio->index, &entry) && entry == (u64)(uintptr_t)folio;
}

static void sum_cached(struct validate *v, const struct folio *folio)
{
	u64 pages = folio_nr_pages(folio);

	if (!is_cached(v, folio))
		violation(v, 81, "folio of frame %x is not in the cache that it names, at page %x", folio->pfn,
			  folio->index, 0);
	v->cached_pages += pages;
	v->shmem_pages += folio_test(folio, PG_swapbacked) ? pages : 0;
	/* Shmem has no store behind it: its dirty folios are not counted. */
	v->dirty_pages += folio_test(folio, PG_dirty) && !folio_test(folio, PG_swapbacked) ? pages : 0;
	v->writeback_pages += folio_test(folio, PG_writeback) ? pages : 0;
}

/* -------------------------------------------------------------------------------------------- folios */

/* Sums up, and checks that each frame's descriptor names the folio. */
static void sum_frames(struct validate *v, const struct folio *folio, struct folio_use *use)
{
	for (u64 i = 0; i < folio_nr_pages(folio); i++) {
		u64 word = READ_ONCE(v->q->pages[folio->pfn + i].word);

		if (page_word_type(word) != PAGE_FOLIO || page_word_ptr(word) != folio)
			violation(v, 10, "frame %x of the folio of frame %x is another's: %x", folio->pfn + i,
				  folio->pfn, word);
		use->entries += frame_use(v, folio->pfn + i)->entries;
		use->mlocked += frame_use(v, folio->pfn + i)->mlocked;
	}
}

static void validate_folio(struct validate *v, struct folio *folio)
{
	struct folio_use use = { 0 };

	v->folios++;
	if (folio->order > MAX_FOLIO_ORDER || folio->pfn + folio_nr_pages(folio) > v->q->nr_frames) {
		violation(v, 10, "folio of frame %x has order %d", folio->pfn, folio->order, 0);
		return;
	}
	sum_frames(v, folio, &use);
	check_counts(v, folio, &use);
	check_flags(v, folio);
	check_exclusive(v, folio, &use);
	if (folio_file_mapping(folio))
		sum_cached(v, folio);
	v->mlocked_pages += folio_test(folio, PG_mlocked) ? folio_nr_pages(folio) : 0;
	if (use.entries > 0 && v->links_valid)
		check_rmap(v, folio, &use);
}

/* -------------------------------------------------------------------------------------------- frames */

static void validate_folio_frame(struct validate *v, u64 pfn, u64 word)
{
	struct folio *folio = page_word_ptr(word);

	if (!is_object(v->q, CACHE_FOLIO, folio))
		violation(v, 10, "frame %x names %x, which is no folio", pfn, (u64)(uintptr_t)folio, 0);
	else if (folio->pfn == pfn)
		validate_folio(v, folio);
	else if (pfn - folio->pfn >= folio_nr_pages(folio))
		violation(v, 10, "frame %x names the folio of frame %x, which does not reach it", pfn, folio->pfn, 0);
}

static void validate_frame(struct validate *v, u64 pfn)
{
	u64 word = READ_ONCE(v->q->pages[pfn].word);
	enum page_type type = page_word_type(word);

	if (type > PAGE_RAW)
		return; /* frame_validate has said so */
	v->frames[type]++;
	if (type == PAGE_FOLIO)
		validate_folio_frame(v, pfn, word);
	else if (type == PAGE_TABLE && frame_use(v, pfn)->entries == 0)
		violation(v, 10, "page table in frame %x belongs to no address space", pfn, 0, 0);
}

/* Free, or reachable from somebody. Of slabs the caches' own validators have found that all are listed. */
void validate_frames(struct validate *v)
{
	u64 scratch = (1ull << v->use_order) + v->nr_chunks;

	for (u64 pfn = v->q->first_frame; pfn < v->q->nr_frames; pfn++)
		validate_frame(v, pfn);
	if (v->frames[PAGE_RAW] != scratch)
		violation(v, 10, "%d frames are allocated without an owner", v->frames[PAGE_RAW] - scratch, 0, 0);
	if (v->cached_pages != v->file_pages)
		violation(v, 81, "page caches count %d pages, folios say %d", v->file_pages, v->cached_pages, 0);
}
