/* SPDX-License-Identifier: MIT */
/*
 * Writeback: dirty folios of host files to their store.
 *
 * Guarantee: a folio counts as clean only when every byte stored before is in the store or on its way there, and any later
 * store makes it dirty again (invariants 83, 84). Steps, per folio, under the folio lock:
 *
 *   1 wait for an earlier writeback of it
 *   2 folio_mkclean: write-protect and clean every entry that maps it, and flush the TLBs; what was dirty there is the
 *     folio's now. From here on a store faults, and waits for the folio lock (B27: no IO before the flush)
 *   3 clear dirty, set writeback, in one step under pages_lock; unlock. A store may fault now, and waits for writeback
 *   4 write; then clear writeback and wake
 *
 * Never sleeps while folios that it has put under writeback are not submitted: their waiters may hold what it sleeps for.
 */
#include "mm/file.h"
#include "mm/rmap.h"

#define WB_FOLIOS 32u
#define WB_PAGES 64u   /* in one submission */
#define DIRTY_SHARE 5u /* at most a fifth of memory is dirty before writers write */

/* Folios under writeback, neighbours in the file, not yet submitted. */
struct wb_run {
	unsigned nr;
	struct folio *folio[WB_FOLIOS];
};

/* -------------------------------------------------------------------------------------------- submitting */

/* Writes @nr pages at page @index, or as many bytes of them as lie below the end of the file. */
static int write_pages(struct quire_cpu *cpu, struct quire_file *file, u64 index, void *const *pages, unsigned nr)
{
	u64 off = index << PAGE_SHIFT, bytes = (u64)nr << PAGE_SHIFT, size = file_size(file);
	s64 done;

	if (off >= size)
		return 0; /* being truncated: who does waits for us */
	bytes = bytes < size - off ? bytes : size - off;
	done = machine_file_write(cpu, file->backing, off, pages, nr, bytes);
	if (done < 0)
		return (int)done;
	return (u64)done < bytes ? -EIO : 0;
}

/* Writes the run's pages in as few submissions as the vector allows, all of them even after an error; the first error or 0. */
static int run_write(struct quire_cpu *cpu, struct quire_file *file, const struct wb_run *run)
{
	u64 index = run->folio[0]->index;
	void *pages[WB_PAGES];
	int ret = 0, error;
	unsigned nr = 0;

	for (unsigned i = 0; i < run->nr; i++) {
		u8 *address = folio_address(cpu->q, run->folio[i]);

		for (u32 page = 0; page < folio_nr_pages(run->folio[i]); page++) {
			pages[nr++] = address + ((u64)page << PAGE_SHIFT);
			if (nr < WB_PAGES)
				continue;
			error = write_pages(cpu, file, index, pages, nr);
			ret = ret ? ret : error;
			index += nr;
			nr = 0;
		}
	}
	error = nr ? write_pages(cpu, file, index, pages, nr) : 0;
	return ret ? ret : error;
}

/* Submits what the run holds, and ends its writeback. An error is the file's, and the pages stay as they are, clean. */
static void run_submit(struct quire_cpu *cpu, struct quire_file *file, struct wb_run *run)
{
	int ret;

	if (!run->nr)
		return;
	ret = run_write(cpu, file, run);
	if (ret)
		__atomic_store_n(&file->writeback_error, -ret, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < run->nr; i++)
		filemap_end_writeback(cpu, &file->mapping, run->folio[i]);
	run->nr = 0;
}

static bool run_takes(const struct wb_run *run, const struct folio *folio)
{
	const struct folio *last = run->nr ? run->folio[run->nr - 1] : NULL;

	return !last || (run->nr < WB_FOLIOS && last->index + folio_nr_pages(last) == folio->index);
}

/* -------------------------------------------------------------------------------------------- one folio */

/* Locks a folio and waits for its last writeback; before it sleeps for either, the run is submitted. */
static void wb_lock_folio(struct quire_cpu *cpu, struct quire_file *file, struct wb_run *run, struct folio *folio)
{
	if (!folio_trylock(folio)) {
		run_submit(cpu, file, run);
		folio_lock(cpu, folio);
	}
	if (folio_test(folio, PG_writeback)) {
		run_submit(cpu, file, run);
		folio_wait_writeback(cpu, folio);
	}
}

/* Steps 1 to 3; the folio joins the run if it was dirty. The caller has a reference and keeps it. */
static void wb_folio(struct quire_cpu *cpu, struct quire_file *file, struct wb_run *run, struct folio *folio)
{
	bool started = false;

	wb_lock_folio(cpu, file, run, folio);
	if (folio_file_mapping(folio) == &file->mapping) {
		if (folio_mkclean(cpu, folio))
			filemap_dirty_folio(cpu, folio);
		started = filemap_start_writeback(cpu, &file->mapping, folio);
	}
	folio_unlock(cpu, folio);
	if (!started)
		return;
	if (!run_takes(run, folio))
		run_submit(cpu, file, run);
	run->folio[run->nr++] = folio;
}

/* -------------------------------------------------------------------------------------------- ranges */

/* Writes every folio in the range that carries @mark; in the order of the file. At least @min pages, then may stop. */
static void writeback_marked(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 last,
			     enum pagecache_mark mark, u64 min)
{
	struct folio *folio[WB_FOLIOS];
	struct wb_run run = { .nr = 0 };
	u64 pages = 0;
	unsigned nr = 1;

	while (first <= last && pages < min && nr) {
		nr = filemap_get_folios_marked(cpu, &file->mapping, &first, last, mark, WB_FOLIOS, folio);
		for (unsigned i = 0; i < nr; i++) {
			pages += folio_nr_pages(folio[i]);
			wb_folio(cpu, file, &run, folio[i]);
		}
		run_submit(cpu, file, &run); /* its folios are ours to name only as long as we hold the references */
		for (unsigned i = 0; i < nr; i++)
			folio_put(cpu, folio[i]);
	}
}

/* Waits for writes of the range that are in flight. */
static void wait_writeback_range(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 last)
{
	struct folio *folio;

	while (first <= last &&
	       filemap_get_folios_marked(cpu, &file->mapping, &first, last, PAGECACHE_WRITEBACK, 1, &folio)) {
		folio_wait_writeback(cpu, folio);
		folio_put(cpu, folio);
	}
}

int file_writeback_range(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 last)
{
	if (file->shmem)
		return 0;
	/* What others dirty from here on is not ours to write: else a fast writer keeps us here for ever. */
	filemap_mark_towrite(&file->mapping, first, last);
	writeback_marked(cpu, file, first, last, PAGECACHE_TOWRITE, ~0ull);
	wait_writeback_range(cpu, file, first, last);
	return -__atomic_exchange_n(&file->writeback_error, 0, __ATOMIC_ACQ_REL);
}

int file_sync_range(struct quire_cpu *cpu, struct quire_file *file, u64 first, u64 last)
{
	int ret, synced;

	if (file->shmem)
		return 0;
	ret = file_writeback_range(cpu, file, first, last);
	synced = machine_file_sync(cpu, file->backing);
	return ret ? ret : synced;
}

int quire_file_fsync(struct quire_cpu *cpu, struct quire_file *file)
{
	return file_sync_range(cpu, file, 0, ~0ull);
}

/* -------------------------------------------------------------------------------------------- background */

/*
 * The writer pays: when more than a fifth of memory is dirty, it writes what is above that and an eighth more, from its own
 * file, before it goes on. A file that is dirtied is thus written by who dirties it, and there is no flusher thread to
 * explore or to wait for.
 */
void balance_dirty(struct quire_cpu *cpu, struct quire_file *file)
{
	s64 limit = (s64)(cpu->q->nr_frames / DIRTY_SHARE), dirty;

	if (file->shmem || !file->writable || !filemap_marked(cpu, &file->mapping, PAGECACHE_DIRTY))
		return;
	dirty = (s64)quire_event_sum(cpu->q, NR_FILE_DIRTY); /* racy: may be off by what is in flight */
	if (dirty > limit)
		writeback_marked(cpu, file, 0, ~0ull, PAGECACHE_DIRTY, (u64)(dirty - limit + limit / 8));
}
