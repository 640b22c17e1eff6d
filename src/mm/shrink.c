/* SPDX-License-Identifier: MIT */
/*
 * Giving back the memory of host files' caches when an allocation fails: clean, unmapped folios, which the store can give
 * again. A stopgap until there is reclaim: no order of use, nothing is unmapped or written.
 */
#include "mm/file.h"

#define SHRINK_BATCH 16u

/*
 * Nobody but the cache and us: acquire, because whoever gave up a reference before may have dirtied the folio first (a gather
 * does), and that must be seen by the caller's test for dirty afterwards.
 */
static bool only_cached(const struct folio *folio)
{
	return smp_load_acquire(&folio->refs) == folio_nr_pages(folio) + 1;
}

/* Drops a folio that nobody uses. True when that gives memory back. */
static bool shrink_folio(struct quire_cpu *cpu, struct address_space *mapping, struct folio *folio)
{
	bool dropped = false;

	if (!folio_trylock(folio))
		return false;
	/* Locked, it cannot be mapped; clean and unmapped, it cannot become dirty (invariant 84). */
	if (folio_file_mapping(folio) == mapping && only_cached(folio) && !folio_test(folio, PG_dirty) &&
	    !folio_test(folio, PG_writeback)) {
		filemap_remove_folio(cpu, mapping, folio);
		dropped = true;
	}
	folio_unlock(cpu, folio);
	return dropped;
}

/* Up to @nr pages from one file. */
static u64 shrink_file(struct quire_cpu *cpu, struct quire_file *file, u64 nr)
{
	struct folio *folio[SHRINK_BATCH];
	u64 index = 0, freed = 0;
	unsigned found = 1;

	while (freed < nr && found) {
		found = filemap_get_folios(cpu, &file->mapping, &index, ~0ull, SHRINK_BATCH, folio);
		for (unsigned i = 0; i < found; i++) {
			if (freed < nr && shrink_folio(cpu, &file->mapping, folio[i]))
				freed += folio_nr_pages(folio[i]);
			folio_put(cpu, folio[i]);
		}
	}
	return freed;
}

/*
 * The next host file that is in use, referenced, and moved to the end of the list; NULL when none is left to look at.
 * *left counts the files down, so that each is visited once.
 */
static struct quire_file *shrink_next_file(struct quire *q, u64 *left)
{
	struct quire_file *file = NULL;

	spin_lock(&q->file_lock);
	while (!file && *left && !list_empty(&q->file_list)) {
		file = list_first_entry(&q->file_list, struct quire_file, file_list);
		--*left;
		list_del_init(&file->file_list);
		list_add_tail(&file->file_list, &q->file_list);
		if (file->shmem || !file_try_get(file))
			file = NULL;
	}
	spin_unlock(&q->file_lock);
	return file;
}

static u64 count_files(struct quire *q)
{
	struct quire_file *file;
	u64 nr = 0;

	spin_lock(&q->file_lock);
	list_for_each_entry(file, &q->file_list, file_list)
		nr++;
	spin_unlock(&q->file_lock);
	return nr;
}

u64 filecache_shrink(struct quire_cpu *cpu, u64 nr)
{
	u64 left = count_files(cpu->q), freed = 0;
	struct quire_file *file;

	while (freed < nr && (file = shrink_next_file(cpu->q, &left)) != NULL) {
		freed += shrink_file(cpu, file, nr - freed);
		quire_file_put(cpu, file);
	}
	return freed;
}
